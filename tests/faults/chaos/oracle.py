"""What must stand in the table, for what the proxies of a campaign were promised?

Read from their diaries alone, with nothing of the daemon's code. What was acknowledged is certain; a batch that was sent
and whose acknowledgement was never heard (its proxy was killed) may have been applied or not. So every number has a lower
and an upper bound, and for all but the last batches of killed proxies these are one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg

from tests.faults.chaos.reporter import SECOND, app

WINDOW: Final = 60 * SECOND


@dataclass
class Session:
    """What is known of one session: from acknowledged reports, and with those that may have been applied."""

    app: int
    started_us: int
    sure: bool = False
    sure_ended_us: int = 0
    sure_requests: int = 0
    ended_us: int = 0
    requests: int = 0
    seen_live: bool = False
    proxy_killed: bool = False

    def add(self, ended_us: int, requests: int, sure: bool) -> None:
        self.seen_live |= not ended_us
        self.ended_us = max(self.ended_us, ended_us)
        self.requests = max(self.requests, requests)
        if sure:
            self.sure = True
            self.sure_ended_us = max(self.sure_ended_us, ended_us)
            self.sure_requests = max(self.sure_requests, requests)


@dataclass
class Expectation:
    """All diaries together."""

    sessions: dict[str, Session] = field(default_factory=dict)
    sent: int = 0
    acknowledged: int = 0
    rejected: list[str] = field(default_factory=list)
    killed_between_journal_and_acknowledgement: int = 0

    def read(self, diary: Path) -> None:
        """Add one proxy's diary."""
        entries = [json.loads(line) for line in diary.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        acked = max((entry.get("acked", 0) for entry in entries), default=0)
        closed = any("closed" in entry for entry in entries)
        for entry in entries:
            if "greeting" in entry and entry["greeting"] > entry["known"]:
                self.killed_between_journal_and_acknowledgement += 1
            if "rejected" in entry:
                self.rejected.append(entry["rejected"])
            for session_id, number, started_us, ended_us, requests in entry.get("reports", ()):
                sure = entry["batch"] <= acked
                self.sent += 1
                self.acknowledged += sure
                session = self.sessions.setdefault(session_id, Session(number, started_us))
                session.add(ended_us, requests, sure)
                session.proxy_killed |= not closed


@dataclass
class _Bounds:
    sessions: list[int] = field(default_factory=lambda: [0, 0])
    requests: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, sessions: tuple[int, int], requests: tuple[int, int]) -> None:
        for total, more in ((self.sessions, sessions), (self.requests, requests)):
            total[0] += more[0]
            total[1] += more[1]


Group = tuple[str, int]
"""Slug of the app, start of the window."""


def compare(expected: Expectation, url: str) -> list[str]:
    """What is wrong with the table; empty where nothing is."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT encode(uuid_send(user_id), 'hex'), slug_or_port, encode(uuid_send(session_id), 'hex'),"
            " (extract(epoch FROM session_started_at) * 1000000)::bigint,"
            " (extract(epoch FROM session_ended_at) * 1000000)::bigint, requests, sessions, end_source"
            " FROM workspace_app_stats"
        ).fetchall()
        used = dict(
            connection.execute(
                "SELECT encode(uuid_send(id), 'hex'), (extract(epoch FROM last_used_at) * 1000000)::bigint FROM workspaces"
            ).fetchall()
        )
    own = {row[2]: row for row in rows if row[3] % WINDOW}
    wrong = [f"a session_id nobody reported: {session_id}" for session_id in own if session_id not in expected.sessions]
    for session_id, row in own.items():
        session = expected.sessions.get(session_id)
        if session is not None:
            wrong += _own_row_wrong(session_id, session, row)
    wrong += _groups_wrong(expected, own, (row for row in rows if not row[3] % WINDOW))
    for number in {session.app for session in expected.sessions.values() if session.sure}:
        if app(number).workspace_id.hex() not in used:
            wrong.append(f"the workspace of app {number} has no last_used_at")
    return wrong


def _own_row_wrong(session_id: str, session: Session, row: tuple[object, ...]) -> Iterable[str]:
    user, slug, _, started_us, ended_us, requests, sessions, source = row
    told = app(session.app)
    if (user, slug, started_us, sessions) != (told.user_id.hex(), told.slug_or_port, session.started_us, 1):
        yield f"session {session_id} is {row}, and was reported as app {session.app} from {session.started_us}"
    if not session.sure_requests <= int(str(requests)) <= session.requests:
        yield f"session {session_id} has {requests} requests instead of {session.sure_requests} to {session.requests}"
    if source == "live" or (source == "inferred" and session.sure_ended_us):
        yield f"session {session_id} has the end source {source}, and ended at {session.sure_ended_us}"
    if source == "inferred" and not session.proxy_killed:
        yield f"session {session_id} has an inferred end, and its proxy said when it ended"
    if source == "reported" and ended_us not in (session.sure_ended_us, session.ended_us):
        yield f"session {session_id} ended at {ended_us} instead of {session.sure_ended_us} or {session.ended_us}"
    short = bool(session.sure_ended_us) and session.ended_us - session.started_us <= WINDOW
    if short and not session.seen_live:
        yield f"session {session_id} lasted at most a window, and has a row of its own"


def _groups_wrong(
    expected: Expectation, own: dict[str, tuple[object, ...]], rows: Iterable[tuple[object, ...]]
) -> Iterable[str]:
    bounds: dict[Group, _Bounds] = defaultdict(_Bounds)
    for session_id, session in expected.sessions.items():
        if session_id in own:
            continue
        if session.sure and not session.ended_us:
            yield f"session {session_id} was acknowledged as live, and is nowhere"
        elif session.sure and session.sure_ended_us and session.sure_ended_us - session.started_us > WINDOW:
            yield f"session {session_id} lasted longer than a window, and has no row of its own"
        else:
            group = app(session.app).slug_or_port, session.started_us - session.started_us % WINDOW
            requests = session.sure_requests if session.sure else 0
            bounds[group].add((int(session.sure), 1), (requests, session.requests))
    found: dict[Group, list[int]] = defaultdict(lambda: [0, 0])
    for _, slug, _, started_us, _, requests, sessions, _ in rows:
        found[str(slug), int(str(started_us))][0] += int(str(sessions))
        found[str(slug), int(str(started_us))][1] += int(str(requests))
    for group in sorted(bounds.keys() | found.keys()):
        limits, (sessions, requests) = bounds[group], found[group]
        if not limits.sessions[0] <= sessions <= limits.sessions[1]:
            verb = "lost" if sessions < limits.sessions[0] else "doubled"
            yield f"{verb}: group {group} has {sessions} sessions instead of {limits.sessions[0]} to {limits.sessions[1]}"
        if not limits.requests[0] <= requests <= limits.requests[1]:
            verb = "lost" if requests < limits.requests[0] else "doubled"
            yield f"{verb}: group {group} has {requests} requests instead of {limits.requests[0]} to {limits.requests[1]}"
