"""Is the daemon as fast as a compiled collector, and close to what PostgreSQL can take? `make bench` asks.

Measures part after part against something that is measured beside it, prints a table and a line for each target, and
writes the same as JSON. A part that fails is named, and the others go on.

    python -m tests.bench [--parts a,e] [--quick] [--json build/bench.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench import acknowledging, answering, committing, flushing, holding, idling, starting
from tests.bench.figures import Results
from tests.bench.servers import ROOT, Bench, build_programs
from tests.bench.sizes import FULL, QUICK, TINY

PARTS: dict[str, tuple[str, Callable[[Bench], None]]] = {
    "a": ("reports acknowledged, and what one costs", acknowledging.measure),
    "b": ("rows from the roll-up to the commit", committing.measure),
    "c": ("what a flush costs", flushing.measure),
    "d": ("memory for what is held", holding.measure),
    "e": ("how long an acknowledgement takes", answering.measure),
    "f": ("from start to ready", starting.measure),
    "g": ("what idling costs", idling.measure),
}
ASIDE = {
    "grpc_forms": "which of gRPC's servers moves bytes for less",
    "store_ways": "which way into the table costs least",
    "backlog_memory": "what a waiting row costs the one writer",
    "journal_store": "what a durable commit costs, in what store",
    "imports": "what an import of a million log lines costs beside reading, parsing and COPY of them",
}
"""What decisions and pages of the docs rest on; each a program with a table of its own, run where it is asked for."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--parts",
        default=",".join(PARTS),
        help=f"what to measure: letters, or {', '.join(ASIDE)} (default: all letters)",
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer runs, for development")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: whether it works, no figures")
    parser.add_argument("--json", type=Path, default=ROOT / "build/bench.json", help="where the figures go")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if unknown := [part for part in parts if part not in PARTS and part not in ASIDE]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join([*PARTS, *ASIDE])}")
    sizes = TINY if options.tiny else QUICK if options.quick else FULL
    about = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
        "parts": parts,
        "sizes": asdict(sizes),
    }
    results = Results()
    build_programs()
    # Not in /tmp, which may be memory; and others must be able to pass, since PostgreSQL does not run as root.
    with TemporaryDirectory(dir="/var/tmp", prefix="bench-") as folder:
        Path(folder).chmod(0o755)
        bench = Bench(Path(folder), sizes, results)
        try:
            for part in parts:
                title, measure = PARTS[part] if part in PARTS else (ASIDE[part], partial(_run_aside, part))
                run_part(part, title, measure, bench)
        finally:
            bench.close()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results.to_json(about), indent=1) + "\n", encoding="utf-8")
    print("\ntargets")
    for line in results.verdicts():
        print(line)
    for part, failure in results.failed.items():
        print(f"  ({part}) failed: {failure}")
    print(f"\n{sum(results.seconds.values()):.0f} s in all; written to {options.json}")
    return 1 if results.failed else 0


def run_part(part: str, title: str, measure: Callable[[Bench], None], bench: Bench) -> None:
    """Measure one part and print its figures; where it fails, say so and return."""
    print(f"\n({part}) {title}", flush=True)
    began = time.perf_counter()
    try:
        measure(bench)
    except Exception as failure:
        traceback.print_exc()
        bench.results.failed[part] = f"{type(failure).__name__}: {failure}"
    bench.results.seconds[part] = time.perf_counter() - began
    for line in bench.results.lines(part):
        print(line)
    print(f"  took {bench.results.seconds[part]:.0f} s", flush=True)


def _run_aside(name: str, _: Bench) -> None:
    subprocess.run([sys.executable, "-m", f"tests.bench.{name}"], cwd=ROOT, check=True)


def _commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return asked.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
