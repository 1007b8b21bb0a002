"""How is a server run and loaded? Each on a core of its own, and the load on another.

The daemon, the plain Go server and the empty echo are processes; so is the load generator. All are ended by the context
that started them. Paths lie in a folder on the disk, since a journal in memory costs nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from appstatsd.addresses import UnixAddress
from appstatsd.store.migrate import migrate

from tests.bench.figures import Results
from tests.bench.sizes import Sizes
from tests.support.daemon import Caller, DaemonProcess
from tests.support.postgres import PostgresServer, make_template

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "build/bench"
NOWHERE = "postgresql://nobody@127.0.0.1:9/none"
NEVER = "1h"
PATIENCE_SECONDS = 120.0

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = _CORES[0], _CORES[-1]


def build_programs() -> None:
    """Build what is written in Go, and compile the daemon's modules and its libraries', as a package has them."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(ROOT / "daemon/appstatsd")], check=True)
    # What is imported stays compiled, unless the environment forbids it, as it does in many containers.
    writing = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", "import appstatsd.cli.serve, appstatsd.daemon"], check=True, env=writing)
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["go", "build", "-o", f"{PROGRAMS}/", "./server", "./load", "./flush", "./proxy"],
        cwd=Path(__file__).with_name("go_reference"),
        check=True,
    )


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What this thread starts meanwhile stays on one core."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, by the kernel's clock of that process."""
    scheduler = 2
    return time.clock_gettime(~pid << 3 | scheduler)


def resident_bytes(pid: int) -> int:
    """What a process holds in memory now."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel did not say")


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    socket: Path
    pid: int
    echo: bool = False

    @property
    def caller(self) -> Caller:
        return Caller(UnixAddress(self.socket).target)

    def flush(self) -> int:
        """Flush now; how many rows were written. What that takes is measured, so it may take long."""
        return self.caller.flush(seconds=PATIENCE_SECONDS).rows_written


class Bench:
    """Where the parts get servers from, and where they put their figures."""

    def __init__(self, folder: Path, sizes: Sizes, results: Results) -> None:
        self.sizes = sizes
        self.results = results
        self._folder = folder
        self._postgres: PostgresServer | None = None

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A new folder; gone afterwards."""
        with TemporaryDirectory(dir=self._folder, prefix="") as name:
            yield Path(name)

    @contextmanager
    def daemon(
        self, *flags: str, url: str = NOWHERE, core: int | None = SERVER_CORE, interval: str = NEVER
    ) -> Iterator[Server]:
        """The daemon, ready."""
        with self.folder() as folder, self.running_in(folder, *flags, url=url, core=core, interval=interval) as server:
            yield server

    @contextmanager
    def running_in(self, folder: Path, *flags: str, **options: Any) -> Iterator[Server]:
        """The same, with its state in this folder."""
        with self.daemon_in(folder, *flags, **options) as process:
            yield Server(process.socket, process.pid)

    @contextmanager
    def daemon_in(
        self, folder: Path, *flags: str, url: str = NOWHERE, core: int | None = SERVER_CORE, interval: str = NEVER
    ) -> Iterator[DaemonProcess]:
        """Its process, for whoever wants more of it."""
        ours = (f"--report-interval={interval}", f"--flush-timeout={PATIENCE_SECONDS:.0f}s", "--log-level=error")
        process = DaemonProcess(folder, url, *ours, *flags)
        try:
            with on_core(core):
                process.start()
            yield process
        finally:
            process.kill()

    @contextmanager
    def go(self, url: str = NOWHERE, core: int | None = SERVER_CORE, interval: str = NEVER) -> Iterator[Server]:
        """The plain Go server, ready."""
        with self.folder() as folder:
            command = [str(PROGRAMS / "server"), "-listen", str(folder / "a.sock")]
            with _ready([*command, "-database-url", url, "-report-interval", interval], core) as pid:
                yield Server(folder / "a.sock", pid)

    @contextmanager
    def echo(self) -> Iterator[Server]:
        """The empty echo, ready."""
        with (
            self.folder() as folder,
            _ready([sys.executable, "-m", "tests.bench.echo", str(folder / "a.sock")], SERVER_CORE) as pid,
        ):
            yield Server(folder / "a.sock", pid, echo=True)

    @contextmanager
    def database(self, core: int | None = None) -> Iterator[str]:
        """The URL of a new database with the project's tables, on the bench's own PostgreSQL, which runs on this core."""
        if self._postgres is None:
            self._postgres = PostgresServer(self._folder / "data", make_template(self._folder))
            self._postgres.start("-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB", "-c", "autovacuum=off")
        # A backend runs where the postmaster runs when it connects.
        os.sched_setaffinity(self._postgres.pid, _CORES if core is None else {core})
        name = self._postgres.create_database()
        try:
            url = self._postgres.url(name)
            migrate(url)
            yield url
        finally:
            self._postgres.drop_database(name)

    def close(self) -> None:
        """End the PostgreSQL, if one runs."""
        if self._postgres is not None:
            self._postgres.remove()

    def load(self, server: Server, **options: Any) -> dict[str, Any]:
        """Load a server; what the generator says of it. Options are those of `go_reference/load`."""
        with self.loading(server, **options) as said:
            return said

    @contextmanager
    def loading(self, server: Server, **options: Any) -> Iterator[dict[str, Any]]:
        """The same, with the streams still open meanwhile."""
        with self.started_load(server, **options) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the load ended with {process.wait(PATIENCE_SECONDS)}")
            said: dict[str, Any] = json.loads(line)
            if said["rejected"]:
                raise RuntimeError(f"{said['rejected']} reports were rejected")
            yield said

    @contextmanager
    def started_load(self, server: Server, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """The load under way; it prints one line at the end, and leaves when its standard input is closed."""
        values = {"socket": server.socket, "pid": server.pid, "echo": server.echo, "hold": True, **options}
        words = [f"-{name.replace('_', '-')}={_word(value)}" for name, value in values.items()]
        with on_core(CLIENT_CORE):
            process = subprocess.Popen(
                [str(PROGRAMS / "load"), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        with _ended(process):
            yield process


@contextmanager
def _ready(command: list[str], core: int | None) -> Iterator[int]:
    with on_core(core):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
        )
    with _ended(process):
        assert process.stdout is not None
        if not process.stdout.readline().startswith("ready"):
            raise RuntimeError(f"{command[0]} did not start")
        yield process.pid


@contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        process.kill()
        raise
    finally:
        if process.stdin is not None:
            process.stdin.close()
        else:
            process.kill()
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
