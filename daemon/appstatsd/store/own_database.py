"""How are rows written where no database was named?

To an embedded PostgreSQL, which is started when it is first needed and brought up to date before the first row.
Invariant: it runs until `close`, and nothing of it afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from appstatsd.collect.rows import Rows
from appstatsd.errors import StoreUnavailable
from appstatsd.store.embedded import EmbeddedPostgres
from appstatsd.store.migrate import migrate
from appstatsd.store.pool import BoundedConnection


class Store(Protocol):
    """Where rows go, as the daemon drives it."""

    @property
    def shown_url(self) -> str:
        """The database's URL without a password."""

    def open(self) -> None:
        """Get ready; waits for nothing."""

    def close(self) -> None:
        """End all that was begun."""

    def report(self, rows: Rows) -> None:
        """See `Reporter`."""

    def probe(self, timeout_seconds: float = 5.0) -> None:
        """Raises StoreUnavailable where rows could not be written now."""

    def connection(self, timeout_seconds: float) -> AbstractContextManager[BoundedConnection]:
        """A connection for other work on the tables; raises StoreUnavailable."""

    def figures(self) -> dict[str, int]:
        """What the pool counts."""


class OwnDatabase:
    """A `Store` over an embedded PostgreSQL. Thread-safe."""

    def __init__(self, server: EmbeddedPostgres, connect: Callable[[str], Store]) -> None:
        """`connect` makes the store for the server's URL."""
        self._server = server
        self._connect = connect
        self._lock = threading.Lock()
        self._store: Store | None = None  # protected by the lock
        self._closed = False  # likewise

    @property
    def shown_url(self) -> str:
        """The server's URL; empty until it runs."""
        return "" if self._store is None else self._store.shown_url

    def open(self) -> None:
        """Nothing: the server starts when it is first needed."""

    def close(self) -> None:
        """Stop the server."""
        with self._lock:
            self._closed = True
            if self._store is not None:
                self._store.close()
            self._server.stop()

    def report(self, rows: Rows) -> None:
        """See `Reporter`; starts the server where it does not run yet."""
        self._started().report(rows)

    def probe(self, timeout_seconds: float = 5.0) -> None:
        """See `Store`; starts the server where it does not run yet."""
        self._started().probe(timeout_seconds)

    def connection(self, timeout_seconds: float) -> AbstractContextManager[BoundedConnection]:
        """See `Store`; starts the server where it does not run yet."""
        return self._started().connection(timeout_seconds)

    def figures(self) -> dict[str, int]:
        """What the pool counts."""
        return {} if self._store is None else self._store.figures()

    def _started(self) -> Store:
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the embedded PostgreSQL is stopped")
            if self._store is None:
                url = self._server.start()
                migrate(url)
                store = self._connect(url)
                store.open()
                self._store = store
            return self._store
