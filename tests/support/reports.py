"""How does a test say what was reported, and compare what came out of it?

Everything here is plain: a `Report` for each report, a `Row` for each row, ids made from small numbers. Times are in
microseconds on scales of their own; `T0` is the edge of a minute long after 2020.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from appstatsd.collect import apps
from appstatsd.collect.apps import AppKey
from appstatsd.collect.batch import Arrival, Batch, Reason, Rejection, ReportedApp
from appstatsd.collect.rows import EndSource, Rows
from appstatsd.collect.validate import checked_app

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
T0 = 29_400_000 * MINUTE
"""2025-11-24T16:00:00Z, in microseconds since the Unix epoch."""

PATH, SUBDOMAIN, TERMINAL = 1, 2, 3


def ident(kind: int, number: int) -> bytes:
    """An id of 16 bytes that is not nil: a kind and a number."""
    return bytes([kind]) + number.to_bytes(15, "big")


def user(number: int) -> bytes:
    return ident(1, number)


def workspace(number: int) -> bytes:
    return ident(2, number)


def agent(number: int) -> bytes:
    return ident(3, number)


def session(number: int) -> bytes:
    return ident(4, number)


def app(number: int = 1, method: int = PATH, slug: str = "code") -> ReportedApp:
    """The app of a user, workspace and agent of this number."""
    return ReportedApp(user(number), workspace(number), agent(number), method, slug)


@dataclass(frozen=True, slots=True)
class Report:
    """One `SessionReport`, as the wire has it."""

    app: ReportedApp
    session_id: bytes
    started_ns: int
    ended_ns: int
    """0 while the session is live."""
    requests: int


def report(
    number: int = 1,
    start: int = T0,
    end: int | None = None,
    requests: int = 1,
    of: ReportedApp | None = None,
) -> Report:
    """A report of the session of this number; `start` and `end` in microseconds, no `end` while it is live."""
    ended_ns = 0 if end is None else end * 1000
    return Report(app() if of is None else of, session(number), start * 1000, ended_ns, requests)


def later(one: Report, start_ns: int = 0, end_ns: int = 0) -> Report:
    """The same report with so many nanoseconds added to its times."""
    return replace(one, started_ns=one.started_ns + start_ns, ended_ns=one.ended_ns + end_ns)


def batch(reports: Sequence[Report], seen_before: bool = False) -> Batch:
    """The reports as the edge hands them to the collector: apps that it has seen before by their key, if right."""
    places: dict[ReportedApp, int] = {}
    for one in reports:
        places.setdefault(one.app, len(places))
    flawed = {place: one.session_id for place, one in enumerate(reports) if len(one.session_id) != 16}
    ids = [bytes(16) if place in flawed else one.session_id for place, one in enumerate(reports)]
    return Batch(
        apps=[checked_app(one) if seen_before else one for one in places],
        app=np.array([places[one.app] for one in reports], np.int64),
        session_ids=np.frombuffer(b"".join(ids), "V16"),
        started_ns=np.array([one.started_ns for one in reports], np.uint64),
        ended_ns=np.array([one.ended_ns for one in reports], np.uint64),
        requests=np.array([one.requests for one in reports], np.uint32),
        flawed_ids=flawed,
    )


def reports_of(content: Batch) -> list[Report]:
    """What `batch` was made of."""
    return [
        Report(
            _as_reported(content.apps[int(content.app[place])]),
            content.flawed_ids.get(place, content.session_ids[place].tobytes()),
            int(content.started_ns[place]),
            int(content.ended_ns[place]),
            int(content.requests[place]),
        )
        for place in range(len(content))
    ]


def _as_reported(app: AppKey | ReportedApp) -> ReportedApp:
    if isinstance(app, ReportedApp):
        return app
    method, slug = app[apps.METHOD], apps.slug_or_port(app)
    return ReportedApp(app[apps.USER], app[apps.WORKSPACE], app[apps.AGENT], method, slug)


def arrival(client: str, reports: Sequence[Report], wall: int, mono: int, seen_before: bool = False) -> Arrival:
    return Arrival(client, batch(reports, seen_before), wall, mono)


class Key(NamedTuple):
    """What the table is unique by."""

    user_id: bytes
    agent_id: bytes
    session_id: bytes


class Row(NamedTuple):
    """One row of `workspace_app_stats`; times in microseconds since the Unix epoch."""

    user_id: bytes
    workspace_id: bytes
    agent_id: bytes
    access_method: int
    slug_or_port: str
    session_id: bytes
    started: int
    ended: int
    requests: int
    sessions: int
    end_source: EndSource
    made: int
    """The `now` of the flush that made the row."""

    @property
    def key(self) -> Key:
        return Key(self.user_id, self.agent_id, self.session_id)


Table = dict[Key, Row]


def by_key(rows: Iterable[Row]) -> Table:
    """Rows by their key; one key twice is a mistake (SPEC rule 4: no statement holds one key twice)."""
    table: Table = {}
    for row in rows:
        assert row.key not in table, f"one key twice: {table[row.key]} and {row}"
        table[row.key] = row
    return table


def plain(rows: Rows) -> Table:
    """What a flush of the collector made, as plain rows."""
    return by_key(
        Row(
            key[apps.USER],
            key[apps.WORKSPACE],
            key[apps.AGENT],
            key[apps.METHOD],
            apps.slug_or_port(key),
            cells["session_id"].tobytes(),
            int(cells["started_us"]),
            int(cells["ended_us"]),
            int(cells["requests"]),
            int(cells["sessions"]),
            EndSource(int(cells["end_source"])),
            int(cells["made_us"]),
        )
        for key, cells in zip(rows.apps, rows.cells, strict=True)
    )


def row(
    number: int,
    start: int,
    end: int,
    made: int,
    requests: int = 1,
    sessions: int = 1,
    source: EndSource = EndSource.REPORTED,
    of: ReportedApp | None = None,
) -> Row:
    """The row with the session_id of this number."""
    what = app() if of is None else of
    return Row(
        what.user_id,
        what.workspace_id,
        what.agent_id,
        what.access_method,
        what.slug_or_port,
        session(number),
        start,
        end,
        requests,
        sessions,
        source,
        made,
    )


def upsert(table: Table, rows: Iterable[Row], skew: int) -> None:
    """What the database makes of rows that arrive in this order (SPEC section 2 rule 4)."""
    for new in rows:
        old = table.get(new.key)
        if old is None:
            table[new.key] = new
            continue
        row = old._replace(requests=max(old.requests, new.requests), sessions=max(old.sessions, new.sessions))
        if not new.made < old.made <= new.made + skew:
            row = row._replace(ended=new.ended, end_source=new.end_source, made=new.made)
        table[new.key] = row


def verdicts(rejections: Sequence[Rejection]) -> list[tuple[int, Reason]]:
    """Which reports were rejected, and why; without the words."""
    return [(one.index, one.reason) for one in rejections]
