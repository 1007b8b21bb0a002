"""Does a client leave anything behind? Many sessions over a connection that breaks again and again.

    python -m tests.conformance.soak [LANGUAGE...]

For each language 1,000,000 sessions and 100 reconnects; `make soak` prints the table. What a client holds is looked at
when it is warm, and again at the end: threads (goroutines are no threads; the Go client counts them itself) and memory.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from appstatsd.store.migrate import migrate

from tests.conformance.cable import Cable
from tests.conformance.command import Command, build, missing
from tests.conformance.scenario import Language, languages
from tests.conformance.world import LATER_US
from tests.support.daemon import DaemonProcess, eventually
from tests.support.postgres import PostgresServer, make_template

ASYNCIO: Final = Language(
    name="python-asyncio",
    folder="tests/conformance",
    needs=[],
    build=[],
    command=["{python}", "python_asyncio_command.py"],
)
MOST_GROWTH_BYTES: Final = 64 << 20
"""What a garbage collector may be late by; a session that is left behind is at least 100 bytes, 100 MB in all."""
PATIENCE_SECONDS: Final = 1800.0


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    threads: int
    bytes: int


@dataclass(frozen=True)
class Soaked:
    """What came of it."""

    sessions: int
    reconnects: int
    warm: Held
    end: Held

    def leaks(self) -> list[str]:
        """What is more at the end than it may be."""
        found = []
        if self.end.threads > self.warm.threads + 2:  # a pool may have one more at work than it had
            found.append(f"{self.end.threads} threads, {self.warm.threads} when warm")
        if self.end.bytes > self.warm.bytes + MOST_GROWTH_BYTES:
            found.append(f"{self.end.bytes:,} bytes, {self.warm.bytes:,} when warm")
        return found


def soak(language: Language, folder: Path, url: str, rounds: int, pairs: int, cuts: int) -> Soaked:
    """So many rounds of so many sessions, while the connection is cut so often; all of them have to arrive, once.

    The rounds are those of the instruction `bench`, which has one more to warm up.
    """
    build(language)
    sessions = (rounds + 1) * pairs
    migrate(url)
    daemon = DaemonProcess(folder, url, "--enable-test-clock")
    daemon.start()
    cable = Cable(folder / "cable.sock", daemon.socket)
    command = Command(language, folder / "log")
    over = threading.Event()
    held: list[Held] = []

    def taken() -> int:
        return int(sum(client.acked_sequence for client in daemon.status().clients))

    def cut_again_and_again() -> None:
        for number in range(cuts):
            before = taken()
            eventually(taken, lambda now, before=before: now > before or over.is_set(), PATIENCE_SECONDS)
            if over.is_set():
                return
            cable.cut()
            if number == cuts // 4:
                held.append(held_by(command.pid))

    cutter = threading.Thread(target=cut_again_and_again, name="cutter")
    cutter.start()
    try:
        command.tell(
            "bench", target=cable.target, rounds=rounds, pairs=pairs, calls=10, patience_seconds=PATIENCE_SECONDS
        )
        held.append(held_by(command.pid))
        daemon.flush(time.time_ns() // 1000 + LATER_US)
        with psycopg.connect(url) as connection:
            (found,) = connection.execute("SELECT sum(sessions)::bigint FROM workspace_app_stats").fetchone() or (0,)
        assert found == sessions, f"{found} sessions in rows, {sessions} were ended"
    finally:
        over.set()
        cutter.join()
        command.kill()
        cable.close()
        daemon.kill()
    return Soaked(sessions, cable.connections - 1, *held)


def held_by(pid: int) -> Held:
    """What a process holds now."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Held(int(lines["Threads"]), int(lines["VmRSS"].split()[0]) * 1024)


def main(names: list[str]) -> int:
    print("| language | sessions | reconnects | threads, warm and at the end | memory, warm and at the end |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    leaks = []
    for language in (*languages(), ASYNCIO):
        if names and language.name not in names:
            continue
        if lacking := missing(language):
            print(f"| {language.name} | left out: needs {', '.join(lacking)} | | | |")
            continue
        with tempfile.TemporaryDirectory() as folder:
            server = PostgresServer(Path(folder) / "data", make_template(Path(folder)))
            server.start()
            try:
                soaked = soak(language, Path(folder), server.url(), rounds=199, pairs=5_000, cuts=110)
            finally:
                server.remove()
        warm, end = soaked.warm, soaked.end
        print(
            f"| {language.name} | {soaked.sessions:,} | {soaked.reconnects} | {warm.threads}, {end.threads} "
            f"| {warm.bytes >> 20} MiB, {end.bytes >> 20} MiB |",
            flush=True,
        )
        leaks += [f"{language.name}: {leak}" for leak in soaked.leaks()]
    for leak in leaks:
        print(f"LEAK {leak}")
    return 1 if leaks else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
