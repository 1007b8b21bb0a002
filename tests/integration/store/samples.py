"""Rows, tables and readings that the tests of the store share."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from appstatsd.collect.apps import AppKey, app_key
from appstatsd.collect.rows import CELLS, EndSource, Rows
from psycopg.conninfo import conninfo_to_dict

NOW_US = 1_800_000_000_000_000
MINUTE_US = 60_000_000
SKEW_US = 10 * MINUTE_US

FOREIGN_STATS = """
CREATE TABLE workspace_app_stats (
    id bigserial PRIMARY KEY,
    user_id uuid NOT NULL,
    workspace_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    access_method text NOT NULL,
    slug_or_port text NOT NULL,
    session_id uuid NOT NULL,
    session_started_at timestamptz NOT NULL,
    session_ended_at timestamptz NOT NULL,
    requests integer NOT NULL CHECK (requests >= 0),
    UNIQUE (user_id, agent_id, session_id)
)
"""
"""As such tables stand in the field."""

FOREIGN_WORKSPACES = """
CREATE TABLE workspaces (
    id uuid PRIMARY KEY,
    owner_name text NOT NULL,
    last_used_at timestamp NOT NULL DEFAULT '0001-01-01'
)
"""


def uuid_bytes(number: int) -> bytes:
    return number.to_bytes(16, "big")


def app(user: int = 1, workspace: int = 1, agent: int = 1, method: int = 1, slug: str = "code") -> AppKey:
    return app_key(uuid_bytes(user), uuid_bytes(workspace), uuid_bytes(agent), method, slug)


def rows(
    apps: Sequence[AppKey],
    *,
    first_session: int = 1,
    made_us: int = NOW_US,
    ended_us: int = NOW_US,
    requests: int = 1,
    source: EndSource = EndSource.REPORTED,
) -> Rows:
    """One row for each app, sessions numbered from `first_session`."""
    cells = np.zeros(len(apps), CELLS)
    cells["session_id"] = [uuid_bytes(first_session + place) for place in range(len(apps))]
    cells["started_us"] = NOW_US - MINUTE_US
    cells["ended_us"] = ended_us
    cells["requests"] = requests
    cells["sessions"] = 1
    cells["end_source"] = source
    cells["made_us"] = made_us
    return Rows(list(apps), cells)


def one_row(slug: str = "code", requests: int = 1) -> Rows:
    """A row of a session of its own."""
    return rows([app(slug=slug)], first_session=next(_SESSIONS), requests=requests)


_SESSIONS = itertools.count(10**6)


def moment(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


def microseconds(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def query(url: str, text: str, *values: object) -> list[tuple[Any, ...]]:
    """Run one statement as the superuser and read what it answers."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(text.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def count(url: str) -> int:
    ((number,),) = query(url, "SELECT count(*) FROM workspace_app_stats")
    assert isinstance(number, int)
    return number


def database_name(url: str) -> str:
    name = conninfo_to_dict(url)["dbname"]
    assert isinstance(name, str)
    return name


@contextlib.contextmanager
def role(url: str, name: str, attributes: str = "LOGIN") -> Iterator[str]:
    """A role of the test's own, and the URL with which it connects; roles belong to the whole server."""
    name = f"{name}_{os.getpid()}_{next(_SESSIONS)}"
    query(url, f"CREATE ROLE {name} {attributes}")
    try:
        yield url.replace("postgres@", f"{name}@")
    finally:
        query(url, f"DROP OWNED BY {name}")
        query(url, f"DROP ROLE {name}")
