"""Which tables and columns stand in the database, and who made them?

The migrations make what docs/database.md shows; a table that somebody else made serves as it is, as long as it has the
columns that such tables have in the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import psycopg

from appstatsd.errors import StoreUnavailable
from appstatsd.store.statements import migrations, statement

STATS: Final = "workspace_app_stats"
WORKSPACES: Final = "workspaces"
USAGE: Final = "appstatsd_usage"
"""The views of docs/usage.md, as one of them is called. Nothing that is written needs them."""
BOOKS: Final = "appstatsd_migrations"
RETENTION: Final = "appstatsd_retention"

OPTIONAL_COLUMNS: Final = frozenset({"sessions", "end_source", "updated_at"})
"""Columns of `workspace_app_stats` that are written only where the table has them."""

REQUIRED_COLUMNS: Final = {
    STATS: (
        "user_id",
        "workspace_id",
        "agent_id",
        "access_method",
        "slug_or_port",
        "session_id",
        "session_started_at",
        "session_ended_at",
        "requests",
    ),
    WORKSPACES: ("id", "last_used_at"),
}
"""Columns without which a table does not serve."""


class LastUsedAt(StrEnum):
    """How `workspaces` is kept."""

    AUTO = "auto"
    """`upsert` where our migration made the table, else `update`."""
    UPSERT = "upsert"
    """Rows that are missing are made."""
    UPDATE = "update"
    """Only rows that exist are touched."""
    OFF = "off"
    """The table is neither read nor written."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table as it stands in the database."""

    columns: frozenset[str]
    """Empty where there is no such table."""
    marked: bool
    """It bears the mark that our migration leaves."""
    version: int
    """The newest of our migrations that has run on it, or 0."""

    @property
    def exists(self) -> bool:
        """Whether there is such a table."""
        return bool(self.columns)

    @property
    def made_here(self) -> bool:
        """Whether our migration made this very table, so that it may bring it up to date."""
        return self.marked and self.version > 0


NO_TABLE: Final = Table(frozenset(), marked=False, version=0)


@dataclass(frozen=True, slots=True)
class Schema:
    """Both tables, fit to be written."""

    optional_columns: frozenset[str]
    """Which of `OPTIONAL_COLUMNS` the table of rows has."""
    last_used_at: LastUsedAt
    """How `workspaces` is to be kept; never `AUTO`."""


def read_tables(connection: psycopg.Connection[Any]) -> dict[str, Table]:
    """The tables by name, whether they exist or not; also those that are nobody's but ours."""
    found = {name: (columns, marked) for name, columns, marked in connection.execute(statement("tables"))}
    versions = dict(connection.execute(statement("versions")).fetchall()) if found[BOOKS][0] else {}
    return {name: Table(frozenset(columns), marked, versions.get(name, 0)) for name, (columns, marked) in found.items()}


def read_schema(connection: psycopg.Connection[Any], last_used_at: LastUsedAt, url: str) -> Schema:
    """What there is to write to. `url` is shown to people: it must be without a password.

    Raises:
        StoreUnavailable: a table is missing, is not up to date, or lacks a column without which it does not serve.
    """
    tables = read_tables(connection)
    for name in (STATS,) if last_used_at is LastUsedAt.OFF else (STATS, WORKSPACES):
        if flaw := _flaw(name, tables[name]):
            raise StoreUnavailable(flaw, advice=f"run: appstatsd migrate --database-url '{url}'")
    if last_used_at is LastUsedAt.AUTO:
        last_used_at = LastUsedAt.UPSERT if tables[WORKSPACES].made_here else LastUsedAt.UPDATE
    return Schema(OPTIONAL_COLUMNS & tables[STATS].columns, last_used_at)


def _flaw(name: str, table: Table) -> str:
    """Why the table cannot be written at present; empty where it can."""
    if not table.exists:
        return f"the table {name} is missing"
    newest = max(version for version, _ in migrations(name))
    if table.made_here and table.version < newest:
        return f"the table {name} is not up to date: it is at version {table.version}, this program needs {newest}"
    missing = [column for column in REQUIRED_COLUMNS[name] if column not in table.columns]
    return f"the table {name} has no column {', '.join(missing)}" if missing else ""
