"""What stands in the tables? Read with a connection of the test's own, as plain rows."""

from __future__ import annotations

import psycopg
from appstatsd.collect.rows import EndSource

from tests.support.reports import Row, Table, by_key

_ROWS = """
SELECT user_id, workspace_id, agent_id, access_method, slug_or_port, session_id,
       (extract(epoch FROM session_started_at) * 1000000)::bigint,
       (extract(epoch FROM session_ended_at) * 1000000)::bigint,
       requests, sessions, end_source,
       (extract(epoch FROM updated_at) * 1000000)::bigint
FROM workspace_app_stats
"""
_USED = "SELECT id, (extract(epoch FROM last_used_at) * 1000000)::bigint FROM workspaces"
_METHODS = ("", "path", "subdomain", "terminal")


def rows(url: str) -> Table:
    """All rows of `workspace_app_stats`."""
    with psycopg.connect(url) as connection:
        return by_key(
            Row(
                user.bytes,
                workspace.bytes,
                agent.bytes,
                _METHODS.index(method),
                slug,
                session.bytes,
                started,
                ended,
                requests,
                sessions,
                EndSource[source.upper()],
                made,
            )
            for user, workspace, agent, method, slug, session, started, ended, requests, sessions, source, made in (
                connection.execute(_ROWS)
            )
        )


def rows_of(url: str, workspace: bytes) -> list[Row]:
    """The rows of one workspace, in the order of their starts, then of their ends."""
    return sorted((row for row in rows(url).values() if row.workspace_id == workspace), key=_order)


def _order(row: Row) -> tuple[int, int, str]:
    return row.started, row.ended, row.slug_or_port


def last_used(url: str) -> dict[bytes, int]:
    """By workspace, its `last_used_at` in microseconds since the Unix epoch."""
    with psycopg.connect(url) as connection:
        return {workspace.bytes: used for workspace, used in connection.execute(_USED)}
