"""How does the runner tell a client what to do? The process of a language's command, and its lines.

Invariant: answers come in the order of instructions, so the one that is waited for is the next.
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.conformance.scenario import ROOT, Language

PATIENCE_SECONDS = 60.0
Json = dict[str, Any]


def missing(language: Language) -> list[str]:
    """The programs that a language needs and this machine does not have."""
    return [program for program in language.needs if shutil.which(program) is None]


def build(language: Language) -> None:
    """Make the command; quick where nothing has changed. One build at a time, whoever asks for it."""
    if not language.build:
        return
    lock = ROOT / "build/conformance.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for step in language.build:
            done = subprocess.run(step, cwd=ROOT / language.folder, capture_output=True, text=True)
            assert done.returncode == 0, f"{' '.join(step)} failed:\n{done.stdout}{done.stderr}"


class Command:
    """One running command, and so one client."""

    def __init__(self, language: Language, log: Path) -> None:
        """What it says on standard error goes into the file `log`."""
        path = os.pathsep.join([str(ROOT / "clients/python"), *sys.path])
        arguments = [word.replace("{python}", sys.executable) for word in language.command]
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                arguments,
                cwd=ROOT / language.folder,
                env={**os.environ, "PYTHONPATH": path, "GRPC_VERBOSITY": "NONE"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
            )
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name=f"answers-{language.name}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, do: str, patience_seconds: float = PATIENCE_SECONDS, **more: Any) -> Json:
        """One instruction; its answer."""
        return self.tell_all([{"do": do, **more}], patience_seconds)[0]

    def tell_all(self, instructions: Iterable[Json], patience_seconds: float = PATIENCE_SECONDS) -> list[Json]:
        """Many instructions, without waiting for answers in between. None of them may be refused."""
        assert self._process.stdin
        count = 0
        for instruction in instructions:
            self._process.stdin.write(json.dumps(instruction, ensure_ascii=False) + "\n")
            count += 1
        self._process.stdin.flush()
        answers = [self._answer(patience_seconds) for _ in range(count)]
        errors = [answer["error"] for answer in answers if "error" in answer]
        assert not errors, f"the command refused: {errors[0]}"
        return answers

    def _answer(self, patience_seconds: float) -> Json:
        try:
            line = self._answers.get(timeout=patience_seconds)
        except queue.Empty:
            raise AssertionError(f"no answer within {patience_seconds} s; {self.said()}") from None
        assert line is not None, f"the command has ended; {self.said()}"
        answer: Json = json.loads(line)
        return answer

    def said(self) -> str:
        """The end of its log, for the message of a failed test."""
        return f"it logged:\n{self._log.read_text()[-4000:]}"

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def leave(self) -> int:
        """End its input; its exit status."""
        assert self._process.stdin
        self._process.stdin.close()
        return self._process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """End it at once, if it runs, and let go of all that belongs to it."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdin
        assert self._process.stdout
        with suppress(BrokenPipeError):  # what it did not read
            self._process.stdin.close()
        self._process.stdout.close()
