"""How does the daemon get a connection that works, or the true reason why there is none, in bounded time?

Over psycopg's own pool, which alone would tell neither: it hides why it could not connect, waits up to minutes between
its attempts, keeps connections to a server that has become read-only, and waits for ever for an answer. Invariant: a
connection that met an error of its server (`ends_connection`) is never handed out again, nor are its older neighbours.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from typing import Any, Final, Self

import psycopg
from psycopg import IsolationLevel
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout

from appstatsd.store.errors import ends_connection
from appstatsd.store.url import with_defaults

_SHARE_OF_WAIT: Final = 0.5
"""How much of the time left is spent waiting for a free connection before asking why there is none."""

_SHARE_OF_CHECK: Final = 0.25
"""How much of the time left a connection has to show that it still works."""


class NoAnswer(psycopg.OperationalError):
    """The database did not answer in time; its connection is given up."""


class BoundedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for answers no longer than until its deadline, whatever the server or a proxy does."""

    deadline: float = math.inf
    """On the monotonic clock, in seconds."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait as psycopg does; after the deadline the connection is broken.

        Raises:
            NoAnswer: the deadline has come.
        """
        left = self.deadline - time.monotonic()
        if timeout is not None and timeout < left:
            return super().wait(gen, interval, timeout)
        if left == math.inf:
            return super().wait(gen, interval)
        try:
            return super().wait(gen, interval, max(left, 0.0))
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()
            raise NoAnswer("the database did not answer in time") from None


class Database:
    """The way to one database. Thread-safe: psycopg's pool is, and the only state beside it is one event."""

    def __init__(self, url: str, *, min_size: int = 1, max_size: int = 4) -> None:
        """Prepare; nothing is opened yet.

        Raises:
            ValueError: libpq cannot read the URL.
        """
        self._conninfo = with_defaults(url)
        self._doubtful = threading.Event()
        self._doubtful.set()
        self._pool = ConnectionPool(
            self._conninfo,
            connection_class=BoundedConnection,
            kwargs={"prepare_threshold": None, "autocommit": True},
            configure=_configure,
            min_size=min_size,
            max_size=max_size,
            name="appstatsd-pool",
            num_workers=1,
            reconnect_timeout=0.0,  # every attempt is somebody's who waits; none lingers in a backoff of its own
            open=False,
        )

    def open(self) -> None:
        """Start the pool's threads. Waits for no connection."""
        self._pool.open(wait=False)

    def close(self) -> None:
        """End the pool's threads and its connections."""
        self._pool.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def figures(self) -> dict[str, int]:
        """What psycopg's pool counts, by its own names (`pool_size`, `requests_waiting`, ...)."""
        return self._pool.get_stats()

    @contextlib.contextmanager
    def connection(self, timeout_seconds: float) -> Iterator[BoundedConnection]:
        """A connection that works, for at most so long altogether.

        Raises:
            psycopg.OperationalError: there is none; the error says why.
        """
        deadline = time.monotonic() + timeout_seconds
        connection = self._take(deadline)
        try:
            yield connection
        except BaseException as error:
            if ends_connection(error):
                self._give_up_all()
            raise
        finally:
            self._pool.putconn(connection)

    def _take(self, deadline: float) -> BoundedConnection:
        if self._doubtful.is_set():
            self._knock(deadline)
        connection = self._get(deadline)
        connection.deadline = _part(deadline, _SHARE_OF_CHECK)
        if _answers(connection):
            connection.deadline = deadline
            return connection
        # It went while it lay there: ask the server itself, then take one that is new.
        self._give_up_all()
        self._pool.putconn(connection)
        self._knock(deadline)
        return self._get(deadline)

    def _get(self, deadline: float) -> BoundedConnection:
        try:
            connection = self._pool.getconn(_part(deadline, _SHARE_OF_WAIT) - time.monotonic())
        except PoolTimeout:
            self._knock(deadline)
            raise
        connection.deadline = deadline
        return connection

    def _knock(self, deadline: float) -> None:
        """Connect once, outside the pool: either the server answers, or this raises its reason."""
        self._doubtful.set()
        seconds = max(1, min(5, math.floor(deadline - time.monotonic())))
        BoundedConnection.connect(self._conninfo, connect_timeout=seconds).close()
        self._doubtful.clear()

    def _give_up_all(self) -> None:
        """Have every connection closed that was opened until now: what has come over one has come over all."""
        self._doubtful.set()
        self._pool.drain()  # one that is out is closed when it is put back


def _configure(connection: BoundedConnection) -> None:
    # The upsert's rule needs each statement to see what others have committed, whatever the database's default.
    connection.isolation_level = IsolationLevel.READ_COMMITTED


def _part(deadline: float, share: float) -> float:
    """The moment when this share of the time until the deadline will have passed."""
    now = time.monotonic()
    return now + (deadline - now) * share


def _answers(connection: BoundedConnection) -> bool:
    try:
        ConnectionPool.check_connection(connection)
    except psycopg.OperationalError:
        return False
    return connection.pgconn.transaction_status == TransactionStatus.IDLE
