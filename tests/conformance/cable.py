"""What if the connection breaks? Bytes from one unix socket to another, until somebody cuts them off."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

_CHUNK_BYTES: Final = 1 << 16


class Cable:
    """Connects whoever comes to `path` with the socket at `to`. Nothing of it runs once `close` has returned."""

    def __init__(self, path: Path, to: Path) -> None:
        self.target = f"unix:{path}"
        self._to = str(to)
        self._lock = threading.Lock()  # protects what follows
        self._ends: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.connections = 0
        """How many there have been."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._acceptor = threading.Thread(target=self._accept, name="cable")
        self._acceptor.start()

    def cut(self) -> int:
        """End all connections, whatever is on its way; how many there were."""
        with self._lock:
            ends, self._ends = self._ends, set()
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(ends) // 2

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(self._to)
            except OSError:
                near.close()
                far.close()
                continue
            gone = threading.Barrier(2)
            with self._lock:
                self._ends |= {near, far}
                self.connections += 1
                for source, sink in ((near, far), (far, near)):
                    thread = threading.Thread(target=self._carry, args=(source, sink, gone), name="cable-bytes")
                    self._threads.append(thread)
                    thread.start()

    def _carry(self, source: socket.socket, sink: socket.socket, gone: threading.Barrier) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        gone.wait()  # neither is closed while the other thread may still use it
        source.close()
        with self._lock:
            self._ends.discard(source)
