"""Would the collector's tests notice if a rule were broken?

Each mutation in `tests/unit/collect/mutations/` breaks one rule of SPEC in one place of a copy of the project: a piece
of text that stands once in a file of `daemon/appstatsd/collect/`, and what a careless hand might have written instead.
The test against the model runs on the copy and has to fail; where it does not, because what would show the mistake is
too rare among its events, the traps have to. `make mutate` runs all mutations and prints what became of each;
`tests/mutate.py WORD...` runs those whose rule or name holds every word. It exits with 1 if one survived or no longer
fits the code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
COLLECT: Final = Path("daemon/appstatsd/collect")
TESTS: Final = Path("tests/unit/collect")
STATEFUL: Final = TESTS / "test_against_model.py"
TRAPS: Final = tuple(TESTS / name for name in ("test_traps.py", "test_traps_of_time.py", "test_traps_of_clients.py"))
KILLED: Final = ("killed", "killed by a trap")
AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class Mutation:
    """One mistake."""

    rule: str
    name: str
    file: str
    old: str
    new: str

    def fits(self) -> bool:
        """Whether what it changes stands in the code exactly once."""
        return (ROOT / COLLECT / self.file).read_text().count(self.old) == 1


def mutations(words: list[str]) -> list[Mutation]:
    """Those whose rule or name holds every word, by rule."""
    found = [
        Mutation(path.stem, **entry)
        for path in sorted((ROOT / TESTS).glob("mutations/*.toml"))
        for entry in tomllib.loads(path.read_text())["mutation"]
    ]
    return [one for one in found if all(word in f"{one.rule} {one.name}" for word in words)]


def outcome(mutation: Mutation | None) -> str:
    """What the tests say of a copy of the project with this mutation, or with none."""
    if mutation is not None and not mutation.fits():
        return "no longer fits"
    with tempfile.TemporaryDirectory(prefix="appstatsd-mutate-") as folder:
        copy = Path(folder)
        for part in ("daemon", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        if mutation is not None:
            target = copy / COLLECT / mutation.file
            target.write_text(target.read_text().replace(mutation.old, mutation.new))
        for tests, result in zip(((STATEFUL,), TRAPS), KILLED, strict=True):
            if fails(copy, tests):
                return result
    return "survived"


def fails(copy: Path, tests: tuple[Path, ...]) -> bool:
    """Whether one of these tests fails in this copy of the project."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *map(str, tests)],
        cwd=copy,
        env={**os.environ, "HYPOTHESIS_PROFILE": "mutate", "PYTHONPATH": f"{copy / 'daemon'}:{copy}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode > 1 or (run.returncode == 1 and "FAILED" not in run.stdout):
        raise RuntimeError(f"the tests did not run: {run.stdout[-2_000:]}{run.stderr[-2_000:]}")
    return run.returncode == 1


def main(words: list[str]) -> int:
    """The status to exit with."""
    if outcome(None) != "survived":
        print("The test fails on the code as it is, so mutations would say nothing.")
        return 1
    results: Counter[str] = Counter()
    chosen = mutations(words)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for one, result in zip(chosen, pool.map(outcome, chosen), strict=True):
            results[result] += 1
            print(f"{result:16}  {one.rule:9}  {one.file:11}  {one.name}", flush=True)
    print(", ".join(f"{count} {result}" for result, count in results.items()))
    return 0 if set(results) <= set(KILLED) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
