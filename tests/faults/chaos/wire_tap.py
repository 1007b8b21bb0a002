"""What stands between the daemon and its database in a campaign: passes bytes on, cuts, delays, and springs traps.

A trap is a moment in the conversation at which something is done while the bytes are held: before the first COPY of a
transaction reaches the server, or when the server has committed and the daemon has not heard of it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from enum import Enum


class Trap(Enum):
    """Where a trap is set."""

    ROWS_NOT_SENT = b"COPY "
    """Rows are made, and nothing of them has reached the database."""
    NOT_MARKED = b"COMMIT"
    """The database has committed them, and the daemon does not know."""


class WireTap:
    """A TCP proxy in front of a PostgreSQL."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._delay_seconds = 0.0
        self._lock = threading.Lock()
        self._trap: tuple[Trap, Callable[[], None]] | None = None  # protected by the lock, as is what follows
        self._open: set[socket.socket] = set()
        self._closed = threading.Event()
        threading.Thread(target=self._accept, name="tap", daemon=True).start()

    def set_trap(self, trap: Trap, spring: Callable[[], None]) -> None:
        """Do this once at that moment, and cut all connections then."""
        with self._lock:
            self._trap = trap, spring

    def delay(self, seconds: float) -> None:
        """Hold back each piece of the conversation for so long."""
        self._delay_seconds = seconds

    def cut(self) -> None:
        """Cut all connections."""
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closed.set()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                daemon, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port), timeout=5)
                server.settimeout(None)
            except OSError:
                daemon.close()
                continue
            with self._lock:
                self._open |= {daemon, server}
            committing = threading.Event()
            for source, sink, of_daemon in ((daemon, server, True), (server, daemon, False)):
                threading.Thread(
                    target=self._pass_on, args=(source, sink, of_daemon, committing), name="tap-pass", daemon=True
                ).start()

    def _pass_on(
        self, source: socket.socket, sink: socket.socket, of_daemon: bool, committing: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if self._delay_seconds:
                    self._closed.wait(self._delay_seconds)
                if of_daemon and self._springs(Trap.ROWS_NOT_SENT, data):
                    break
                if of_daemon and self._is_set(Trap.NOT_MARKED, data):
                    committing.set()
                if not of_daemon and committing.is_set() and self._springs(Trap.NOT_MARKED, data):
                    break
                sink.sendall(data)
        with self._lock:
            self._open -= {source, sink}
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _is_set(self, trap: Trap, data: bytes) -> bool:
        with self._lock:
            return self._trap is not None and self._trap[0] is trap and trap.value in data

    def _springs(self, trap: Trap, data: bytes) -> bool:
        with self._lock:
            if self._trap is None or self._trap[0] is not trap or trap.value not in data:
                return False
            _, spring = self._trap
            self._trap = None
        spring()
        return True
