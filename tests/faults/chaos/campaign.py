"""A daemon, a database and many proxies, and everything that can happen to them.

    python -m tests.faults.chaos.campaign [--seconds 600] [--seed N]

Kills are aimed: some at random moments, some at each dangerous window (see `KILLS`). At the end everything is let run,
and the table is compared with what the proxies' diaries say was promised.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
from appstatsd.journal.layout import UNFINISHED

from tests.faults.chaos.oracle import Expectation, compare
from tests.faults.chaos.wire_tap import Trap, WireTap
from tests.support.daemon import DaemonProcess, eventually
from tests.support.postgres import PostgresServer, make_template

GRACE_SECONDS: Final = 5
PROXIES: Final = 6
STATE_MEBIBYTES: Final = 48
TMPFS_BYTES: Final = 96 << 20
MOST_STEP_SECONDS: Final = 120
FAKETIME: Final = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")

AT_RANDOM = "at a random moment"
JOURNALED = "journaled, not acknowledged"
NOT_SENT = "rows made, not sent"
NOT_MARKED = "committed, not marked written"
SNAPSHOT = "during a snapshot"
KILLS: Final = (AT_RANDOM, NOT_SENT, NOT_MARKED, SNAPSHOT)
"""How kills are aimed. Those of the window `JOURNALED` are found in the diaries: no aim is needed to hit it."""


@dataclass
class Tally:
    """What happened."""

    kills: Counter[str] = field(default_factory=Counter)
    outages: int = 0
    stops_in_outages: int = 0
    reloads: int = 0
    cuts: int = 0
    delays: int = 0
    failovers: int = 0
    full_disks: int = 0
    clock_steps: int = 0
    torn_ends: int = 0
    proxies_killed: int = 0
    proxies_frozen: int = 0


class Campaign:
    """One campaign in one folder; everything that it starts ends with `close`."""

    def __init__(self, folder: Path, seconds: float, seed: int) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._seconds = seconds
        self.tally = Tally()
        self._resources = contextlib.ExitStack()
        self._proxies: dict[Path, subprocess.Popen[bytes]] = {}
        self._proxy_seeds = 0
        template = make_template(folder)
        self._postgres = PostgresServer(folder / "data", template)
        self._resources.callback(self._postgres.remove)
        self._postgres.start()
        self._url = self._postgres.url()
        self._tap = WireTap(self._postgres.port)
        self._resources.callback(self._tap.close)
        self._disk = self._mount_disk()
        self._state = self._disk / "state"
        self._clock = folder / "clock"
        self._clock.write_text("+0s")
        self._daemon = DaemonProcess(
            self._disk,
            self._url_through_tap(),
            "--durability=journal",
            "--report-interval=500ms",
            f"--client-grace={GRACE_SECONDS}s",
            f"--max-state-bytes={STATE_MEBIBYTES}MiB",
            "--batch-size=200",
            "--flush-timeout=5s",
            "--log-level=info",
            environment=self._faked_clock(),
        )
        self._resources.callback(self._daemon.kill)

    def run(self) -> list[str]:
        """Let everything happen; what is wrong at the end."""
        self._migrate()
        self._daemon.start()
        for _ in range(PROXIES):
            self._start_proxy()
        deadline = time.monotonic() + self._seconds
        # Each kind once, however short the campaign is; then as chance has it.
        first = [self._stop_in_outage, *self._happenings(), *(self._killer(kind) for kind in KILLS)]
        self._random.shuffle(first)
        while first or time.monotonic() < deadline:
            happening = first.pop() if first else self._any_happening()
            happening()
            self._ensure_running()
            time.sleep(self._random.uniform(0, 0.7))
        return self._settle()

    def close(self) -> None:
        """End everything."""
        for proxy in self._proxies.values():
            proxy.kill()
            proxy.wait()
        self._resources.close()

    # Faults.

    def _happenings(self) -> list[Callable[[], None]]:
        return [
            self._outage,
            self._stop_in_outage,
            self._reload,
            self._cut,
            self._delay,
            self._failover,
            self._full_disk,
            self._step_clock,
            self._torn_end,
            self._kill_proxy,
            self._freeze_proxy,
        ]

    def _any_happening(self) -> Callable[[], None]:
        if self._random.random() < 0.75:
            return self._killer(self._random.choice(KILLS))
        return self._random.choice(self._happenings())

    def _killer(self, kind: str) -> Callable[[], None]:
        aim = {
            AT_RANDOM: lambda: time.sleep(self._random.uniform(0, 0.5)) or True,
            NOT_SENT: lambda: self._trap(Trap.ROWS_NOT_SENT),
            NOT_MARKED: lambda: self._trap(Trap.NOT_MARKED),
            SNAPSHOT: self._sees_snapshot,
        }[kind]

        def kill() -> None:
            hit = aim()
            self._daemon.kill()
            self.tally.kills[kind if hit else AT_RANDOM] += 1

        return kill

    def _trap(self, trap: Trap) -> bool:
        """Kill the daemon at that moment of its conversation with the database, while the bytes are held."""
        sprung = threading.Event()

        def spring() -> None:
            os.kill(self._daemon.pid, signal.SIGKILL)
            sprung.set()

        self._tap.set_trap(trap, spring)
        return sprung.wait(10)

    def _sees_snapshot(self) -> bool:
        """Wait until a snapshot is being written, but not for ever."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if any(self._state.glob(f"snapshot-*{UNFINISHED}")):
                return True
            time.sleep(0.0005)
        return False

    def _outage(self) -> None:
        self._postgres.kill() if self._random.random() < 0.5 else self._postgres.stop_hard()
        self.tally.outages += 1
        time.sleep(self._random.uniform(0.5, 3))
        self._postgres.start()

    def _stop_in_outage(self) -> None:
        self._postgres.stop_hard()
        self.tally.outages += 1
        for _ in range(5):
            self._daemon.stop()
            self.tally.stops_in_outages += 1
            self._ensure_running()
            time.sleep(self._random.uniform(0, 0.5))
        self._postgres.start()

    def _reload(self) -> None:
        self._daemon.signal(signal.SIGHUP)
        self.tally.reloads += 1

    def _cut(self) -> None:
        self._tap.cut()
        self.tally.cuts += 1

    def _delay(self) -> None:
        self._tap.delay(self._random.uniform(0.05, 0.3))
        time.sleep(2)
        self._tap.delay(0)
        self.tally.delays += 1

    def _failover(self) -> None:
        self._postgres.set_read_only(True)
        time.sleep(2)
        self._postgres.set_read_only(False)
        self.tally.failovers += 1

    def _full_disk(self) -> None:
        if not self.is_mounted:
            return
        ballast = self._disk / "ballast"
        free = shutil.disk_usage(self._state).free
        with contextlib.suppress(OSError):
            ballast.write_bytes(bytes(free))
        # It ends with an error once the journal finds no place; whoever starts it again may see it end again.
        with contextlib.suppress(AssertionError):
            self._daemon.wait(5)
            self.tally.full_disks += 1
        ballast.unlink(missing_ok=True)

    def _step_clock(self) -> None:
        if FAKETIME.exists():
            self._clock.write_text(f"{self._random.randint(-MOST_STEP_SECONDS, MOST_STEP_SECONDS):+d}s")
            self.tally.clock_steps += 1

    def _torn_end(self) -> None:
        """What a loss of power leaves: a part of a unit that nobody was told of."""
        self._daemon.kill()
        self.tally.kills[AT_RANDOM] += 1
        last = max(self._state.glob("journal-*"))
        data = last.read_bytes()
        end = -(-len(data.rstrip(b"\0")) // 4096) * 4096
        if end >= 4096:
            with last.open("r+b") as file:
                file.seek(end)
                file.write(data[end - 4096 : end][: self._random.randint(1, 4095)])
        self.tally.torn_ends += 1

    def _kill_proxy(self) -> None:
        diary = self._random.choice(sorted(self._proxies))
        proxy = self._proxies.pop(diary)
        proxy.kill()
        proxy.wait()
        self.tally.proxies_killed += 1
        self._start_proxy()

    def _freeze_proxy(self) -> None:
        proxy = self._proxies[self._random.choice(sorted(self._proxies))]
        proxy.send_signal(signal.SIGSTOP)
        time.sleep(self._random.uniform(0.2, 2))
        proxy.send_signal(signal.SIGCONT)
        self.tally.proxies_frozen += 1

    # Scenery.

    def _ensure_running(self) -> None:
        """Start the daemon if it does not run, as a service manager would, again and again."""
        deadline = time.monotonic() + 60
        while True:
            try:
                with contextlib.suppress(AssertionError):
                    self._daemon.wait(0.01)
                self._daemon.launch()
            except AssertionError:
                pass  # it runs
            try:
                self._daemon.status()
            except grpc.RpcError:
                assert time.monotonic() < deadline, self._daemon.said()
                time.sleep(0.1)
            else:
                return

    def _start_proxy(self) -> None:
        self._proxy_seeds += 1
        diary = self._folder / f"diary-{self._proxy_seeds}"
        command = [sys.executable, "-m", "tests.faults.chaos.reporter", self._daemon.target, str(diary)]
        self._proxies[diary] = subprocess.Popen(
            [*command, str(self._random.getrandbits(32))], env={**os.environ, "GRPC_VERBOSITY": "NONE"}
        )

    def _settle(self) -> list[str]:
        """Let everything come to rest, and look at the table."""
        # As late as it ever was: until then nothing that the daemon remembers would become older.
        self._clock.write_text(f"{MOST_STEP_SECONDS:+d}s")
        self._ensure_running()
        for diary, proxy in self._proxies.items():
            eventually(diary.exists, bool)  # one that was started last does not know yet how to end
            proxy.terminate()
        for proxy in self._proxies.values():
            assert proxy.wait(300) == 0, "a proxy could not close in order"
        expected = Expectation()
        for number in range(1, self._proxy_seeds + 1):
            diary = self._folder / f"diary-{number}"
            if diary.exists():  # a proxy that was killed before it wrote anything sent nothing
                expected.read(diary)
        # Sessions of killed proxies get their end once the grace is over.
        eventually(lambda: self._daemon.status().live_sessions, lambda live: not live, GRACE_SECONDS + 60)
        eventually(self._flushed, lambda flushed: flushed)
        assert self._daemon.stop() == 0, self._daemon.said()
        self.tally.kills[JOURNALED] = expected.killed_between_journal_and_acknowledgement
        wrong = [f"rejected: {message}" for message in expected.rejected] + compare(expected, self._url)
        wrong += [f"no kill hit the window: {kind}" for kind in (*KILLS, JOURNALED) if not self.tally.kills[kind]]
        self._print(expected, wrong)
        return wrong

    def _flushed(self) -> bool:
        try:
            return not self._daemon.flush().backlog_rows
        except grpc.RpcError:
            return False

    def _print(self, expected: Expectation, wrong: list[str]) -> None:
        tally = self.tally
        print(
            f"reports sent {expected.sent:,}, acknowledged {expected.acknowledged:,}, sessions {len(expected.sessions):,}"
        )
        for kind, count in tally.kills.items():
            print(f"kills {kind}: {count}")
        for name in tally.__dataclass_fields__:
            if name != "kills":
                print(f"{name.replace('_', ' ')}: {getattr(tally, name)}")
        for verb in ("lost", "doubled"):
            print(f"{verb}: {sum(line.startswith(verb) for line in wrong)}")
        for line in wrong[:40]:
            print(f"WRONG {line}")

    def _migrate(self) -> None:
        from appstatsd.store.migrate import migrate

        migrate(self._url)

    def _url_through_tap(self) -> str:
        return self._postgres.url(tcp=True).replace(f":{self._postgres.port}/", f":{self._tap.port}/")

    def _faked_clock(self) -> dict[str, str]:
        if not FAKETIME.exists():
            return {}
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def _mount_disk(self) -> Path:
        """A small file system of its own for the state, where that is allowed, so that it can be full."""
        disk = self._folder / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES},mode=0700", "tmpfs", str(disk)], capture_output=True
        )
        self.is_mounted = mounted.returncode == 0
        if self.is_mounted:
            self._resources.callback(subprocess.run, ["umount", "-l", str(disk)], check=True)
        return disk


@contextlib.contextmanager
def campaign(folder: Path, seconds: float, seed: int) -> Iterator[Campaign]:
    """A campaign that leaves nothing running."""
    waged = Campaign(folder, seconds, seed)
    try:
        yield waged
    finally:
        waged.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as folder,
        campaign(Path(folder), arguments.seconds, arguments.seed) as waged,
    ):
        wrong = waged.run()
        kills = waged.tally.kills
        for least, count, what in (
            (50, kills.total() - kills[JOURNALED], "kills"),
            (10, waged.tally.stops_in_outages, "stops while the database is away"),
            (5, waged.tally.outages, "outages"),
        ):
            if arguments.seconds >= 600 and count < least:
                wrong.append(f"only {count} {what} instead of {least}")
                print(f"WRONG {wrong[-1]}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
