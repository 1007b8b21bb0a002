"""What does an error of the database mean for the rows that met it?

Only what concerns the content of a row can cost a row: SQLSTATE classes 22 and 23, and data or encoding errors of the
client library, become `RowsRefused`. Everything else becomes `StoreUnavailable`, whose advice says what a person must do
where waiting does not help. docs/database.md has the table with the reasons; the tests meet each line for real.
"""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg_pool import PoolTimeout

from appstatsd.errors import RowsRefused, StoreUnavailable

WRITTEN_COLUMNS: Final = frozenset(
    (
        "user_id",
        "workspace_id",
        "agent_id",
        "access_method",
        "slug_or_port",
        "session_id",
        "session_started_at",
        "session_ended_at",
        "requests",
        "sessions",
        "end_source",
        "updated_at",
        "last_used_at",
    )
)
"""Columns that may be filled from a row; none of them ever by us with NULL."""

_MIGRATE: Final = "run: appstatsd migrate --database-url '{url}'"
_GRANT: Final = (
    "grant the daemon's role SELECT, INSERT and UPDATE on workspace_app_stats and workspaces, SELECT on"
    " appstatsd_migrations, and TEMPORARY on the database; for --retention and forget also DELETE on"
    " workspace_app_stats, SELECT and UPDATE on appstatsd_retention"
)

_ADVICE: Final = {
    "42P01": _MIGRATE,
    "42703": _MIGRATE,
    "3F000": _MIGRATE,
    "42501": _GRANT,
    "42P10": "create a unique index on workspace_app_stats (user_id, agent_id, session_id)",
    "42804": "a column of the table has another type than documented; see docs/database.md",
    "23502": "give the column a default, or keep to existing rows of workspaces with --last-used-at=update",
    "21000": "two rows of one key came in one batch, an error of appstatsd: please report it; nothing is lost",
    "25006": "the server is read-only: where it does not become the primary again by itself, name the primary in"
    " --database-url",
    "53100": "free disk space on the database server",
    "53300": "the server has no connection left: raise its max_connections or lower --pool-max-size",
    "54000": "a limit of the server was met; see its log",
}
"""What a person must do, by SQLSTATE; by its class where that says enough (see `_advice`)."""

_CLASS_ADVICE: Final = {
    "28": "correct user or password in --database-url, or pg_hba.conf",
    "3D": "create the database, or correct its name in --database-url",
    "42": _MIGRATE,
    "53": "give the database server more of the resource",
    "58": "look at the database server's log: it met an error of its system",
    "XX": "look at the database server's log: its data may be damaged",
}

_CONNECT_ADVICE: Final = (
    ("too many clients", _ADVICE["53300"]),
    ("too many connections", _ADVICE["53300"]),
    ("connection slots", _ADVICE["53300"]),
    ("authentication failed", _CLASS_ADVICE["28"]),
    ("pg_hba.conf", _CLASS_ADVICE["28"]),
    ("no password supplied", _CLASS_ADVICE["28"]),
    ('role "', _CLASS_ADVICE["28"]),
    ('database "', _CLASS_ADVICE["3D"]),
    ("session is read-only", _ADVICE["25006"]),
    ("could not translate host name", "correct the host in --database-url"),
)
"""libpq tells a refused connection's reason in words only, without a SQLSTATE."""


def classified(
    error: psycopg.Error | UnicodeError, url: str, *, connecting: bool = False
) -> RowsRefused | StoreUnavailable:
    """What crosses the boundary in place of `error`. `url` is shown to people: it must be without a password.

    `connecting` says that the error is libpq's, about a connection that never came to be.
    """
    sqlstate = error.sqlstate if isinstance(error, psycopg.Error) else None
    message = _words(error)
    if _concerns_content(error, sqlstate):
        return RowsRefused(message, sqlstate)
    return StoreUnavailable(message, sqlstate, _advice(message, sqlstate, connecting).replace("{url}", url))


def ends_connection(error: BaseException) -> bool:
    """Whether a connection that met the error must not be used again, however good it looks."""
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate == "25006" or error.sqlstate.startswith(("08", "57P"))


def _concerns_content(error: psycopg.Error | UnicodeError, sqlstate: str | None) -> bool:
    if sqlstate is None:
        return isinstance(error, UnicodeError | psycopg.DataError)
    if sqlstate == "23502" and isinstance(error, psycopg.Error):
        # A NOT NULL column that we do not know is the table's own doing: every row would meet it.
        return error.diag.column_name in WRITTEN_COLUMNS
    return sqlstate.startswith(("22", "23"))


def _advice(message: str, sqlstate: str | None, connecting: bool) -> str:
    if sqlstate is not None:
        return _ADVICE.get(sqlstate) or _CLASS_ADVICE.get(sqlstate[:2], "")
    if connecting:
        return next((advice for words, advice in _CONNECT_ADVICE if words in message), "")
    return ""


def _words(error: psycopg.Error | UnicodeError) -> str:
    """One line, in the database's own words where it spoke."""
    if isinstance(error, PoolTimeout):
        return f"no connection of the pool became free: {error}"
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        parts = (error.diag.message_primary, error.diag.message_detail)
        return "; ".join(part for part in parts if part)
    return " ".join(str(error).split()) or type(error).__name__
