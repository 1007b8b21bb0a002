"""How does a database come to have the tables, and how do they stay up to date?

By numbered SQL files for each table, under a lock that ends with the transaction, so that any number of hosts may do
it at once, through a transaction-pooling proxy too. Invariant: a table that our migration did not make is never altered;
what would serve it better is said instead.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from appstatsd.store.errors import classified
from appstatsd.store.schema import (
    BOOKS,
    NO_TABLE,
    OPTIONAL_COLUMNS,
    REQUIRED_COLUMNS,
    RETENTION,
    STATS,
    USAGE,
    WORKSPACES,
    Table,
    read_tables,
)
from appstatsd.store.statements import migrations, statement
from appstatsd.store.url import redacted, with_defaults

_LOCK: Final = int.from_bytes(b"appstats", "big")
"""Key of the advisory lock, which is the database's: unlikely to be anybody else's."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration did, and what it leaves to others."""

    applied: list[str]
    """The migrations that ran now, as `TABLE VERSION_NAME`; empty where all was up to date."""
    advice: list[str]
    """What would serve tables that are not ours better, a line each; most are SQL statements with their reason."""


def migrate(url: str, *, usage_views: bool = False) -> Migrated:
    """Bring the tables up to date, all in one transaction; waits for others who are at it.

    Args:
        url: The database.
        usage_views: Make the views of docs/usage.md also beside a `workspace_app_stats` of somebody else's.

    Raises:
        StoreUnavailable: the database cannot be reached or does not allow it; nothing was changed.
        ValueError: libpq cannot read the URL.
    """
    conninfo = with_defaults(url)
    connection = None
    try:
        connection = psycopg.connect(conninfo, prepare_threshold=None)
        with connection:
            return _migrate(connection, usage_views)
    except psycopg.Error as error:
        raise classified(error, redacted(url), connecting=connection is None) from error


def _migrate(connection: psycopg.Connection[Any], usage_views: bool) -> Migrated:
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    tables = read_tables(connection)
    foreign = {name for name in (STATS, WORKSPACES) if tables[name].exists and not tables[name].made_here}
    wanted = [name for name in (STATS, WORKSPACES) if name not in foreign]
    if STATS not in foreign or usage_views:
        wanted.append(USAGE)
    if STATS not in foreign:
        wanted.append(RETENTION)
    if wanted and not tables[BOOKS].exists:
        connection.execute(statement("bookkeeping"))
    done = Migrated([], [])
    for name in sorted(foreign):
        done.advice.extend(_advice(connection, name, tables[name], usage_views or tables[USAGE].exists))
    for name in wanted:
        # Beside a table of somebody else's the views are made anew: it may have got columns since.
        table = NO_TABLE if name == USAGE and STATS in foreign else tables[name]
        columns = tables[STATS].columns if STATS in foreign else OPTIONAL_COLUMNS
        done.applied.extend(_apply(connection, name, table, columns))
    return done


def _apply(connection: psycopg.Connection[Any], name: str, table: Table, stats_columns: Collection[str]) -> list[str]:
    """Run what has not run on this table yet: all of it where somebody dropped the one that we had made."""
    if not table.exists:
        connection.execute("DELETE FROM appstatsd_migrations WHERE table_name = %s", (name,))
    [(schema,)] = connection.execute("SELECT quote_ident(current_schema())")
    applied = []
    for version, stem in migrations(name):
        if table.exists and version <= table.version:
            continue
        connection.execute(statement(f"migrations/{name}/{stem}", stats_columns, schema=schema))
        connection.execute("INSERT INTO appstatsd_migrations VALUES (%s, %s, %s)", (name, version, stem))
        applied.append(f"{name} {stem}")
    if not table.exists and name != USAGE:  # whose migration marks it, as it is a view
        connection.execute(statement("mark", table=name))
    return applied


def _advice(connection: psycopg.Connection[Any], name: str, table: Table, with_views: bool) -> list[str]:
    missing = [column for column in REQUIRED_COLUMNS[name] if column not in table.columns]
    advice = [f"the table {name}, which is not ours, needs a column {column} (docs/database.md)" for column in missing]
    if name == WORKSPACES:
        advice.append(
            "the table workspaces is not ours: --last-used-at=auto updates rows that exist and makes none,"
            " which is right where another program makes them"
        )
    elif not missing:
        advice += [text for (text,) in connection.execute(statement("advice"))]
        if not with_views:
            advice.append(
                "`appstatsd usage` and `who` read views, which are made beside a table that is not ours only with:"
                " appstatsd migrate --usage-views"
            )
    return advice
