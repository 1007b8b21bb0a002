"""How do rows get into the database? All of a call in one transaction, or none.

COPY into a table that the transaction drops again, then one upsert in key order, then the workspaces in id order. What
is held at the end is what everybody wants (workspaces), so it is taken last. Invariant: nothing outlives the
transaction on the server's side (a pooler may stand between), and `report` ends by its time limit whatever happens.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Final, Self

import psycopg
import structlog

from appstatsd.collect.rows import Rows
from appstatsd.errors import StoreUnavailable
from appstatsd.store.copy_body import BodyEncoder
from appstatsd.store.errors import classified
from appstatsd.store.pool import BoundedConnection, Database
from appstatsd.store.schema import LastUsedAt, Schema, read_schema
from appstatsd.store.statements import statement
from appstatsd.store.url import redacted

_SHARE_OF_STATEMENT: Final = 0.8
"""Of the flush's time limit: the server gives a statement up before we give the server up, and says why."""
_SHARE_OF_LOCK: Final = 0.4
_LOST_RACE: Final = frozenset({"40001", "40P01"})
"""Others update the same rows, in an order of their own, and this transaction was chosen to make way: no trouble of the
database's, and nothing to tell anybody."""
_RACES: Final = 10
"""How many of those one call may lose."""
_SCHEMA_SECONDS: Final = 60.0
"""How long what we know of the tables is believed; columns may be added, and tables replaced, under our feet."""


class PostgresReporter:
    """A `Reporter` over a pool of connections to one PostgreSQL. Thread-safe."""

    def __init__(
        self,
        url: str,
        *,
        pool_min_size: int = 1,
        pool_max_size: int = 4,
        flush_timeout_seconds: float = 15.0,
        max_clock_skew_us: int = 600_000_000,
        last_used_at: LastUsedAt = LastUsedAt.AUTO,
    ) -> None:
        """Prepare; nothing is opened yet.

        Raises:
            ValueError: libpq cannot read the URL.
        """
        self.shown_url = redacted(url)
        """The URL without a password."""
        self._database = Database(url, min_size=pool_min_size, max_size=pool_max_size)
        self._timeout_seconds = flush_timeout_seconds
        self._skew_us = max_clock_skew_us
        self._mode = last_used_at
        self._encoder = BodyEncoder()
        limit_ms = flush_timeout_seconds * 1000
        # BEGIN goes with what comes next: a round trip of its own costs as much as ten rows. COMMIT does not go with what
        # comes before: a server that waits for a lock would commit what was given up long ago.
        self._begin = "BEGIN ISOLATION LEVEL READ COMMITTED;\n" + statement(
            "begin",
            statement_timeout_ms=max(1, int(limit_ms * _SHARE_OF_STATEMENT)),
            lock_timeout_ms=max(1, int(limit_ms * _SHARE_OF_LOCK)),
            idle_timeout_ms=max(1, int(limit_ms)),
        )
        self._copy = statement("copy")
        self._known: tuple[float, Schema, str] | None = None  # replaced as a whole, so it needs no lock
        self._log = structlog.get_logger("appstatsd.store")

    def open(self) -> None:
        """Start the pool. Waits for no connection, so the database may be down."""
        self._database.open()

    def close(self) -> None:
        """End the pool's threads and connections. Must be called before the interpreter ends."""
        self._database.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def report(self, rows: Rows) -> None:
        """Commit all rows and what they say of their workspaces, in one transaction, or nothing.

        Raises:
            RowsRefused: the content of at least one row is why.
            StoreUnavailable: anything else.
        """
        if not len(rows):
            return
        body = self._encoder.body(rows)
        deadline = time.monotonic() + self._timeout_seconds
        for left in reversed(range(_RACES)):
            try:
                self._commit(body, deadline - time.monotonic())
            except StoreUnavailable as error:
                if error.sqlstate not in _LOST_RACE or not left or time.monotonic() >= deadline:
                    raise
            else:
                break

    def _commit(self, body: bytes, timeout_seconds: float) -> None:
        with self.connection(timeout_seconds) as connection:
            write = self._writing(connection)
            with _ended(connection):
                connection.execute(self._begin)
                with connection.cursor().copy(self._copy) as copy:
                    copy.write(body)
                connection.execute(write)

    def probe(self, timeout_seconds: float = 5.0) -> None:
        """Ask whether rows could be written now: the server answers, and the tables are fit.

        Raises:
            StoreUnavailable: not now.
        """
        with self.connection(timeout_seconds) as connection, connection.transaction():
            self._writing(connection)

    def figures(self) -> dict[str, int]:
        """What the pool counts, by psycopg's names (`pool_size`, `requests_waiting`, `connections_errors`, ...)."""
        return self._database.figures()

    @contextlib.contextmanager
    def connection(self, timeout_seconds: float) -> Iterator[BoundedConnection]:
        """A connection for other work on the tables, for at most so long altogether.

        Raises:
            RowsRefused, StoreUnavailable: in place of any error of the database's, within too.
        """
        connected = False
        try:
            with self._database.connection(timeout_seconds) as connection:
                connected = True
                yield connection
        except (psycopg.Error, UnicodeError) as error:
            if isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith("42"):
                self._known = None
            raise classified(error, self.shown_url, connecting=not connected) from error

    def _writing(self, connection: BoundedConnection) -> str:
        """The statements that take rows to the tables, as these stand in the database."""
        now = time.monotonic()
        if self._known is not None and now - self._known[0] < _SCHEMA_SECONDS:
            return self._known[2]
        schema = read_schema(connection, self._mode, self.shown_url)
        if self._known is None or self._known[1] != schema:
            self._log.info(
                "writing to the tables as they are",
                optional_columns=sorted(schema.optional_columns),
                last_used_at=schema.last_used_at.value,
            )
        write = _write_statements(schema, self._skew_us)
        self._known = now, schema, write
        return write


@contextlib.contextmanager
def _ended(connection: BoundedConnection) -> Iterator[None]:
    """The transaction that is begun within is committed, or rolled back where an error leaves the connection working."""
    try:
        yield
        connection.commit()
    except BaseException:
        with contextlib.suppress(psycopg.Error):
            connection.rollback()
        raise


def _write_statements(schema: Schema, skew_us: int) -> str:
    """One text, so that it costs one round trip: it has no parameters."""
    stale = statement("stale", skew_us=skew_us).strip()
    upsert = statement("upsert", schema.optional_columns, stale=stale)
    if schema.last_used_at is LastUsedAt.OFF:
        return upsert
    return f"{upsert}\n{statement(f'last_used_{schema.last_used_at}')}"
