"""What do people want to know of the tables: who uses it now, and who used what for how long?

Reads the views that `appstatsd migrate` makes (docs/usage.md). Invariant: nothing is written; a standby answers too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from appstatsd.store.errors import classified
from appstatsd.store.statements import statement
from appstatsd.store.url import redacted, with_defaults

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

KEYS: Final = {
    "user": "user_id::text",
    "workspace": "workspace_id::text",
    "app": "CASE slug_or_port WHEN '' THEN access_method ELSE slug_or_port || ' (' || access_method || ')' END",
    "method": "access_method",
}
"""What use can be summed by, and how that is said in SQL."""


@dataclass(frozen=True, slots=True)
class Session:
    """One row of `workspace_app_stats`, as people ask for it; a rolled-up row is of several short sessions."""

    workspace_id: str
    user_id: str
    agent_id: str
    access_method: str
    slug_or_port: str
    session_id: str
    started_at: datetime
    ended_at: datetime | None
    """None: it goes on."""
    last_seen_at: datetime
    """When the database heard of it last; of a session that ended, its end."""
    requests: int


@dataclass(frozen=True, slots=True)
class Who:
    """Who uses a workspace, or what a user uses, at one moment."""

    now: datetime
    """The database's clock."""
    live: list[Session]
    """What goes on, the oldest first."""
    lately: list[Session]
    """What was used before that, the latest first."""
    last_used_at: datetime | None
    """`workspaces.last_used_at`; None: there is none, or nobody asked for a workspace."""


@dataclass(frozen=True, slots=True)
class Used:
    """How much one user, workspace, app or access method was used."""

    key: str
    seconds: float
    """Time in use; overlapping sessions of one user are counted once, different users each."""
    users: int
    sessions: int
    """How often something was opened."""
    requests: int
    last_used_at: datetime


@contextlib.contextmanager
def reading(url: str) -> Iterator[Connection]:
    """A connection that reads, all at one moment of the tables.

    Raises:
        StoreUnavailable: the database does not answer, or lacks the views; says what to do.
        ValueError: libpq cannot read the URL.
    """
    conninfo = with_defaults(url, target_session_attrs="any")
    connection = None
    try:
        connection = psycopg.connect(conninfo, prepare_threshold=None)
        with connection:
            connection.execute("SET TRANSACTION READ ONLY, ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SET LOCAL timezone = 'UTC'")
            yield connection
    except psycopg.Error as error:
        raise classified(error, redacted(url), connecting=connection is None) from error


def who(connection: Connection, workspace: UUID | None, user: UUID | None, lately: int) -> Who:
    """Who uses the workspace, or what the user uses, and `lately` uses before; at least one of both is given."""
    asked = {"workspace": workspace, "user": user}
    given = [name for name, value in asked.items() if value is not None]
    with connection.cursor(row_factory=class_row(Session)) as cursor:
        live = cursor.execute(statement("who_live", given), asked).fetchall()
        seen = {"live": [session.session_id for session in live], "limit": lately}
        before = cursor.execute(statement("who_lately", given), asked | seen).fetchall()
    [(now, last_used_at)] = connection.execute(
        statement("who_when", ["workspaces"] if workspace and _has_workspaces(connection) else []), asked
    )
    return Who(now, live, before, last_used_at)


def _has_workspaces(connection: Connection) -> bool:
    [(there,)] = connection.execute("SELECT to_regclass('workspaces') IS NOT NULL")
    return bool(there)


def usage(connection: Connection, by: str, since: datetime, until: datetime) -> list[Used]:
    """Use in this span of time, summed by one of `KEYS`, the most used first."""
    with connection.cursor(row_factory=class_row(Used)) as cursor:
        query = statement("usage", key=KEYS[by])
        return cursor.execute(query, {"since": since, "until": until}).fetchall()
