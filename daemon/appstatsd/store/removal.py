"""How do rows leave the database: old ones, and those of one person?

In small transactions, each with time limits of its own, so that nobody who writes waits for long. Old rows go by one
process at a time, whichever daemon or command it is: under an advisory lock that ends with the transaction, so that
it works through a pooler too. Invariant: an age is measured by the database's clock, and a live row has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import psycopg

from appstatsd.store.pool import BoundedConnection
from appstatsd.store.schema import OPTIONAL_COLUMNS, RETENTION, STATS, read_tables
from appstatsd.store.statements import statement

Connect = Callable[[float], AbstractContextManager[BoundedConnection]]
"""A connection that works, for so many seconds at most; raises StoreUnavailable."""

CHUNK_PAGES: Final = 64
"""Pages of the table that one transaction looks at: about 2,500 rows."""
PERSON_ROWS: Final = 1000
"""Rows of a person that one transaction removes at most."""
STATEMENT_SECONDS: Final = 10.0
"""How long a statement may take, on whatever disk."""
LOCK_SECONDS: Final = 2.0
"""How long it may wait for a row that somebody writes, or for another who removes old rows."""
_CONNECTION_SECONDS: Final = 2 * STATEMENT_SECONDS
_LOCK: Final = int.from_bytes(b"appstatr", "big")
"""Key of the advisory lock."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pass over the table has come."""

    rows: int
    """Old rows that were found in this chunk, and removed unless they were only counted."""
    pages: int
    """Pages that the pass has looked at."""
    of_pages: int


class OldRows:
    """Old rows of one database."""

    def __init__(self, connect: Connect, age_us: int) -> None:
        """`age_us`: rows that ended longer ago than this are old."""
        self._connect = connect
        self._age_us = age_us

    def claim(self, every_us: int) -> bool:
        """Whether nobody's pass has begun for so long; then one has now.

        A database where nothing is ours does not know of others: there each daemon makes its own.

        Raises:
            StoreUnavailable: the database does not say.
        """
        with _transaction(self._connect) as connection:
            if not read_tables(connection)[RETENTION].exists:
                return True
            return connection.execute(statement("retention_claim", every_us=every_us)).fetchone() is not None

    def count(self) -> Iterator[Progress]:
        """Go over the table, a chunk at a time, and count.

        Raises:
            StoreUnavailable: the database does not take part; the pass ends there.
        """
        return self._go_over("old_rows_count", 0)

    def remove(self, begin: int = 0) -> Iterator[Progress]:
        """Go over the table from a page on, a chunk at a time, and remove; what is told of is committed.

        Raises:
            StoreUnavailable: the database does not take part; the pass ends there, and can go on from there.
        """
        return self._go_over("old_rows_delete", begin)

    def _go_over(self, what: str, begin: int) -> Iterator[Progress]:
        with _transaction(self._connect) as connection:
            columns = OPTIONAL_COLUMNS & read_tables(connection)[STATS].columns
            pages = _number(connection.execute(statement("table_pages")))
        for first in range(begin, pages, CHUNK_PAGES):
            end = min(first + CHUNK_PAGES, pages)
            old_rows = statement("old_rows", columns, first=first, end=end, age_us=self._age_us)
            with _transaction(self._connect) as connection:
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                cursor = connection.execute(statement(what, old_rows=old_rows))
                rows = _number(cursor) if cursor.description else cursor.rowcount
            yield Progress(rows, end, pages)


class RowsOfPerson:
    """The rows of one person in one database."""

    def __init__(self, connect: Connect, user_id: bytes) -> None:
        self._connect = connect
        self._values = {"user_id": UUID(bytes=user_id)}

    def count(self) -> int:
        """How many there are.

        Raises:
            StoreUnavailable: the database does not say.
        """
        with _transaction(self._connect) as connection:
            return _number(connection.execute(statement("person_count"), self._values))

    def remove_some(self) -> int:
        """Remove some; how many. 0: there are none left.

        Raises:
            StoreUnavailable: none of these was removed.
        """
        with _transaction(self._connect) as connection:
            return connection.execute(statement("person_delete", rows=PERSON_ROWS), self._values).rowcount


@contextmanager
def _transaction(connect: Connect) -> Iterator[BoundedConnection]:
    limits = statement(
        "limits", statement_timeout_ms=int(STATEMENT_SECONDS * 1000), lock_timeout_ms=int(LOCK_SECONDS * 1000)
    )
    with connect(_CONNECTION_SECONDS) as connection, connection.transaction():
        connection.execute(limits)
        yield connection


def _number(cursor: psycopg.Cursor[tuple[Any, ...]]) -> int:
    """What a statement answers that answers one number."""
    row = cursor.fetchone()
    assert row is not None, "a count answers one row"
    number: int = row[0]
    return number
