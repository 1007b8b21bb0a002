"""What should the collector have done? A second collector that is slow and obvious, to hold the fast one against.

It is SPEC section 2 written down rule by rule, with one object for each session, group and client, all of which are
looked at on every flush. It shares no code and no form with `appstatsd.collect`, only the values that go in.

All times are microseconds; `wall` is UTC since the Unix epoch, `mono` the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appstatsd.collect.batch import Arrival, Reason, ReportedApp
from appstatsd.collect.rows import EndSource
from appstatsd.collect.rules import Rules

from tests.support.model_state import Client, Group, Session
from tests.support.model_validity import flaw
from tests.support.reports import Report, Row, Table, by_key, reports_of

MOST_REQUESTS: Final = 2**31 - 1


@dataclass(frozen=True)
class ModelFlush:
    """What one flush made."""

    rows: Table
    now: int


class Model:
    """Takes the same events as `Collector`, and should answer the same."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.sessions: dict[bytes, Session] = {}  # in the order in which they were first accepted
        self.groups: dict[tuple[int, int, ReportedApp], Group] = {}
        self.clients: dict[str, Client] = {}
        self.abandoned = 0
        self.last_now: int | None = None
        self.held_since: int | None = None
        self.held_for = 0

    @property
    def live_sessions(self) -> int:
        return sum(session.live for session in self.sessions.values())

    def is_here(self, client_id: str) -> bool:
        """Whether the client has an open stream."""
        return client_id in self.clients and self.clients[client_id].connected

    # Clients come and go.

    def came(self, client_id: str, wall: int, mono: int) -> None:
        client = self.clients.setdefault(client_id, Client(True, client_id.startswith("als/")))
        # Rule 6: "A client that is back within --client-grace goes on as if nothing had been. Once it has been away for
        # longer, each of its live sessions gets an inferred end".
        self._end_after_grace(client, mono)
        client.connected, client.grace_is_over = True, False

    def went(self, client_id: str, wall: int, mono: int) -> None:
        # Rule 6: "A client is away while it has no open stream, since the end of its last one".
        client = self.clients[client_id]
        client.connected = False
        client.away_wall, client.away_mono, client.away_grace = wall, mono, self._grace_clock(mono)

    def close_client(self, client_id: str, wall: int, mono: int) -> None:
        # Rule 7: "then each live session that is left gets an end at that moment, as if reported".
        for session in self._live_sessions_of(self.clients[client_id]):
            session.ended = max(wall, session.started)

    def hold_graces(self, mono: int) -> None:
        # Rule 6: no grace runs "while streams are refused or held back for lack of room"; nor does a session time out
        # then, for nobody could report it.
        if self.held_since is None:
            self.held_since = mono

    def release_graces(self, mono: int) -> None:
        if self.held_since is not None:
            self.held_for += mono - self.held_since
            self.held_since = None

    def restart(self, rules: Rules, wall: int, mono: int, last_wall: int) -> None:
        # Rule 6: "After a restart of the daemon, clients that were there are away since the last moment that the
        # journal knows of, the others since their own, and the grace counts from when the daemon is ready again". The
        # monotonic clock may be that of another boot: how long ago a client was there, only the other clock can say.
        self.rules = rules
        self.held_since = None
        for client in self.clients.values():
            if client.connected:
                client.connected = False
                client.away_wall = last_wall
            client.away_mono = mono - max(0, wall - client.away_wall)
            client.away_grace = self._grace_clock(mono)
        for session in self.sessions.values():
            session.reported_grace = self._grace_clock(mono)

    def forget_person(self, user_id: bytes) -> tuple[int, int, int]:
        """As if the person had never been reported; how many live and ended sessions, and groups, that was."""
        theirs = [session for session in self.sessions.values() if session.app.user_id == user_id]
        groups = [key for key, group in self.groups.items() if group.app.user_id == user_id]
        live = sum(session.live for session in theirs)
        for session in theirs:
            del self.sessions[session.session_id]
        for key in groups:
            del self.groups[key]
        return live, len(theirs) - live, len(groups)

    # Reports.

    def accept(self, arrivals: Sequence[Arrival]) -> list[list[tuple[int, Reason]]]:
        """For each arrival the places of the rejected reports, and why."""
        return [self._accept_one(arrival) for arrival in arrivals]

    def _accept_one(self, arrival: Arrival) -> list[tuple[int, Reason]]:
        rejected = []
        for index, report in enumerate(reports_of(arrival.batch)):
            reason = self._flaw(report, arrival.wall_us)
            if reason is None:
                self._merge(report, arrival)
                continue
            rejected.append((index, reason))
            known = self.sessions.get(report.session_id)
            if reason is Reason.INVALID_TIME and report.ended_ns and known and known.live and known.app == report.app:
                # Section 1: "A rejected end (INVALID_TIME) of a known live session still says that it is over: the
                # session gets an inferred end at the daemon's clock."
                self._infer(known, arrival.wall_us)
        return rejected

    def _flaw(self, report: Report, wall: int) -> Reason | None:
        reason = flaw(report, wall, self.rules)
        known = self.sessions.get(report.session_id)
        if reason is None and known and (known.app, known.started) != (report.app, report.started_ns // 1000):
            # Section 1: "a known session_id with another user, workspace, agent, access method, slug or start".
            return Reason.CONFLICT
        return reason

    def _merge(self, report: Report, arrival: Arrival) -> None:
        """Rule 1, and what rule 6 says of a session whose end was inferred."""
        client = self.clients[arrival.client_id]
        start, end = report.started_ns // 1000, report.ended_ns // 1000 if report.ended_ns else None
        session = self.sessions.get(report.session_id)
        if session is None:
            # Rule 1: "A report of an unknown session is added to its group."
            group = self._group(report.app, start)
            session = Session(report.session_id, report.app, start, group, client)
            self.sessions[session.session_id] = session
        # Rule 6: "A session belongs to the client_id whose report of it was accepted last."
        session.client = client
        session.reported_wall, session.reported_grace = arrival.wall_us, self._grace_clock(arrival.mono_us)
        # Rule 1: "the larger `requests`, an end rather than none, the later of two ends".
        session.requests = max(session.requests, min(report.requests, MOST_REQUESTS))
        if session.inferred:
            # Rule 6: "a later report of it (live again, or with its true end, earlier or later) takes the place of the
            # inferred end".
            session.inferred = False
            session.ended = end
            session.settled = False
        elif end is not None:
            session.ended = end if session.ended is None else max(session.ended, end)

    def _group(self, app: ReportedApp, start: int) -> Group:
        # Section 2: the groups' key. A group keeps its window, so another window makes another group.
        window = self.rules.window_us
        began = start // window * window
        return self.groups.setdefault((began, window, app), Group(app, began, window))

    # Ends that nobody reported.

    def _grace_clock(self, mono: int) -> int:
        """The monotonic clock less the time for which graces were held."""
        return (mono if self.held_since is None else self.held_since) - self.held_for

    def _live_sessions_of(self, client: Client) -> list[Session]:
        return [session for session in self.sessions.values() if session.client is client and session.live]

    def _infer(self, session: Session, end: int) -> None:
        # Rule 2: "No end that the daemon makes precedes the start."
        session.ended = max(end, session.started)
        session.inferred = True
        self.abandoned += 1

    def _end_after_grace(self, client: Client, mono: int) -> None:
        away_for = self._grace_clock(mono) - client.away_grace
        if not client.connected and away_for > self.rules.client_grace_us:
            client.grace_is_over = True
            for session in self._live_sessions_of(client):
                # Rule 6: "the moment since which its client is away (not before its start)".
                self._infer(session, client.away_wall)

    def _end_after_timeout(self, client: Client, mono: int) -> None:
        # Rule 6: "a session that has not been reported for so long gets that [its last report] as its inferred end
        # though its client is there". While its client is away it is left as it is.
        timeout = self._timeout(client)
        if timeout and client.connected:
            for session in self._live_sessions_of(client):
                if self._grace_clock(mono) - session.reported_grace > timeout:
                    self._infer(session, session.reported_wall)

    def _timeout(self, client: Client) -> int:
        # "Sources of reports": proxies that tell their access log have a session time-out of their own.
        return self.rules.log_timeout_us if client.tells_log else self.rules.session_timeout_us

    def _end_at_age(self, client: Client, now: int) -> None:
        # Rule 6: "A live session older than --max-session-age gets an inferred end at that age".
        age = self.rules.max_session_age_us
        if client.connected:
            for session in self._live_sessions_of(client):
                if now - session.started > age:
                    self._infer(session, session.started + age)

    # The flush.

    def flush(self, now: int, mono: int) -> ModelFlush:
        now = self._forward(now)
        for client in self.clients.values():
            self._end_after_grace(client, mono)
            self._end_after_timeout(client, mono)
            self._end_at_age(client, now)
        self._forget_clients(mono)
        rows = [row for session in self.sessions.values() for row in self._flush_session(session, now)]
        for group in self.groups.values():
            # Rule 2: "a group's rolled-up row is written when it changed".
            if group.changed:
                rows.append(self._rolled_up_row(group, now))
                group.changed = False
        self._forget_groups(now)
        return ModelFlush(by_key(rows), now)

    def _forward(self, now: int) -> int:
        # Rule 2: "a flush at an earlier time than the last one sees the last one's time, up to --max-clock-skew; a
        # larger step back is followed".
        if self.last_now is not None and self.last_now - self.rules.max_clock_skew_us <= now < self.last_now:
            now = self.last_now
        self.last_now = now
        return now

    def _flush_session(self, session: Session, now: int) -> list[Row]:
        """Does with one session what rules 2 and 3 say; the row of its own, if it gets one now."""
        if session.settled:
            return self._flush_settled(session, now)
        if session.ended is None:
            # Rule 6: "While its client is away, a live session is left as it is: neither written nor extended."
            if not session.client.connected:
                return []
            # Rule 2: "a live session that began at most one window before `now` waits".
            if now - session.started <= session.group.window:
                return []
            # Rule 2: "any other session is a row of its own", "written again at every flush until its end is known".
            session.own = True
            return [self._own_row(session, now)]
        session.settled = True
        session.settled_at = max(session.settled_at, now)
        session.written = (session.requests, session.ended)
        # Rule 2: "an ended session that lasted at most one window is added to the group's rolled-up row"; but "a
        # session that has once been written as a row of its own stays one", and one whose end is inferred "is settled
        # as a row of its own, short or not" (rule 6).
        if session.own or session.inferred or session.ended - session.started > session.group.window:
            session.own = True
            return [self._own_row(session, now)]
        group = session.group
        if group.session_id is None:
            # Rule 2: "its session_id is that of the first session rolled into it".
            group.session_id = session.session_id
        group.sessions += 1
        self._add_requests(group, session.requests)
        return []

    def _flush_settled(self, session: Session, now: int) -> list[Row]:
        # Rule 3: "A settled session that is reported again unchanged changes nothing."
        requests, ended = session.written
        if session.own:
            # Rule 3: "With a higher request count, the row that it was settled into gets the difference, once; a row of
            # its own also gets a later end".
            if (requests, ended) == (session.requests, session.ended):
                return []
            session.written = (session.requests, session.ended)
            return [self._own_row(session, now)]
        if session.requests > requests:
            # Rule 3: "a rolled-up row keeps its window however late the end".
            session.written = (session.requests, session.ended)
            self._add_requests(session.group, session.requests - requests)
        return []

    @staticmethod
    def _add_requests(group: Group, requests: int) -> None:
        # Rule 2: "`requests` is summed (and stays at 2^31-1 where the sum would be larger)".
        group.requests = min(group.requests + requests, MOST_REQUESTS)
        group.changed = True

    def _own_row(self, session: Session, now: int) -> Row:
        if session.ended is None:
            # Rule 2: "If it is live its `session_ended_at` is `now`"; rule 6: with --session-timeout "a live session's
            # row ends at its last report instead of at `now`".
            last = session.reported_wall if self._timeout(session.client) else now
            end, source = max(last, session.started), EndSource.LIVE
        else:
            end, source = session.ended, EndSource.INFERRED if session.inferred else EndSource.REPORTED
        return _row(session.app, session.session_id, session.started, end, session.requests, 1, source, now)

    @staticmethod
    def _rolled_up_row(group: Group, now: int) -> Row:
        # Rule 2: "`session_started_at` is the group's floored start and `session_ended_at` that plus one window".
        end = group.started + group.window
        source = EndSource.REPORTED
        assert group.session_id is not None
        return _row(group.app, group.session_id, group.started, end, group.requests, group.sessions, source, now)

    # Forgetting.

    def _forget_clients(self, mono: int) -> None:
        # Section 1: "The daemon forgets a client_id 24 h after its last sign of life (--client-retention)."
        for client_id, client in list(self.clients.items()):
            # Not before its grace is over: until then it may be back and go on as if nothing had been.
            if client.grace_is_over and mono - client.away_mono > self.rules.client_retention_us:
                del self.clients[client_id]

    def _forget_groups(self, now: int) -> None:
        # Rule 3: "A group stays for as long as one of its sessions is remembered, and until its window ended more than
        # one window before `now`; it goes with its sessions at the end of the first flush whose `now` is later than
        # both."
        for key, group in list(self.groups.items()):
            members = [session for session in self.sessions.values() if session.group is group]
            old = now > group.started + 2 * group.window
            if old and not any(self._remembered(session, now) for session in members):
                del self.groups[key]
                for session in members:
                    del self.sessions[session.session_id]

    def _remembered(self, session: Session, now: int) -> bool:
        if not session.settled:
            return True
        # Rule 6: a session with an inferred end "is remembered for as long as its client_id is". (A client_id that comes
        # back after it was forgotten is another client.)
        if session.inferred and session.client in self.clients.values():
            return True
        # Rule 3: "A settled session is remembered for --client-grace plus two windows after the flush that settled it,
        # counted in `now`". Of two such flushes, around a step back of the clock, the later `now` counts.
        return now <= session.settled_at + self.rules.client_grace_us + 2 * session.group.window


def _row(
    app: ReportedApp,
    session_id: bytes,
    started: int,
    ended: int,
    requests: int,
    sessions: int,
    source: EndSource,
    made: int,
) -> Row:
    what = (app.user_id, app.workspace_id, app.agent_id, app.access_method, app.slug_or_port)
    return Row(*what, session_id, started, ended, requests, sessions, source, made)
