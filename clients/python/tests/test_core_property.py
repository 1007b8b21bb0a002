"""Whatever the transport does, every session's newest state reaches the daemon, by the wire's rules, within the bounds.

A model daemon and a network stand opposite a core with tight limits. Messages and acknowledgements wait on the network and
are lost with their stream, which may end at any moment with any status. The model daemon fails the test at a gap, a changed
content or a broken batch. At the end everything is mended, and what the daemon knows is compared with the sessions.
"""

from __future__ import annotations

from collections import deque
from uuid import UUID

from appstatsd_client import AccessMethod, App, Limits
from appstatsd_client.core import Core
from appstatsd_client.report import Report
from appstatsd_client.wire.appstats.v1 import appstats_pb2 as pb
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model_daemon import ModelDaemon, rows

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
LIMITS = Limits(batch_max_reports=3, window_batches=2, max_live_sessions=4, max_pending_reports=5)
APPS = [App(UUID(int=1), UUID(int=2), UUID(int=3), AccessMethod.PATH, slug) for slug in ("code", "jupyter")]
STATUSES = (
    "OK",
    "UNAVAILABLE",
    "INVALID_ARGUMENT",
    "RESOURCE_EXHAUSTED",
    "ALREADY_EXISTS",
    "ABORTED",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "INTERNAL",
    "CANCELLED",
)


class Network(RuleBasedStateMachine):
    """Sessions that come and go, a stream that moves message by message, and everything that can happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = SECOND
        self.ids = 0
        self.draw = 0.5
        self.daemon = ModelDaemon()
        self.poison: set[bytes] = set()
        self.reports: list[Report] = []
        self.core = Core(LIMITS, self.new_client_id, lambda least, most: least + self.draw * (most - least))
        self.is_open = False

    def new_client_id(self) -> str:
        self.ids += 1
        return f"client-{self.ids}"

    # --- the proxy ---

    @rule(app=st.sampled_from(APPS), report_live=st.booleans())
    def begin(self, app: App, report_live: bool) -> None:
        report = Report(app, UUID(int=len(self.reports) + 1).bytes, START + self.now, self.now, 1)
        self.reports.append(report)
        if report_live:
            self.core.buffer.begin(report, self.now)

    @precondition(lambda self: self.reports)
    @rule(data=st.data())
    def update(self, data: st.DataObject) -> None:
        report = data.draw(st.sampled_from(self.reports))
        if not report.ended_ns:
            report.count(1)
            self.core.buffer.changed(report, self.now)

    @precondition(lambda self: self.reports)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        report = data.draw(st.sampled_from(self.reports))
        if not report.ended_ns:
            report.end(self.now)
            self.core.buffer.ended(report, self.now)

    # --- time and the daemon's mood ---

    @rule(seconds=st.sampled_from([0.3, 1.0, 10.0, 60.0]), draw=st.floats(0, 1))
    def wait(self, seconds: float, draw: float) -> None:
        self.now += int(seconds * SECOND)
        self.draw = draw

    @precondition(lambda self: self.reports)
    @rule(data=st.data())
    def refuse_batches_with_one_session(self, data: st.DataObject) -> None:
        self.poison.add(data.draw(st.sampled_from(self.reports)).session_id)

    @rule()
    def refuse_none(self) -> None:
        self.poison.clear()

    # --- the stream ---

    @initialize()
    def open_at_first(self) -> None:
        self.open()

    @precondition(lambda self: not self.is_open and self.now >= self.core.connect_at_ns)
    @rule()
    def open(self) -> None:
        self.up = deque([self.core.opened(self.now)])
        self.down: deque[pb.StreamReportsResponse] = deque()
        self.client_id = ""
        self.is_open = True

    @precondition(lambda self: self.is_open)
    @rule()
    def send(self) -> None:
        self.send_next()

    def send_next(self) -> bool:
        message = self.core.next_message(self.now)
        if message is not None:
            self.up.append(message)
            return True
        at_ns = self.core.look_again_at_ns()
        assert at_ns is None or at_ns > self.now, "the shell would spin"
        return False

    @precondition(lambda self: self.is_open and self.up)
    @rule()
    def arrive(self) -> None:
        message = pb.StreamReportsRequest.FromString(self.up.popleft())
        if not self.client_id:
            self.client_id = message.client_id
            acked = self.daemon.first(message)
        elif message.closing:
            self.daemon.close(self.client_id, message)
            self.lose("OK")
            return
        elif self.poison & {session_id for session_id, _ in rows(message.columns)}:
            self.lose("INVALID_ARGUMENT")
            return
        else:
            acked = self.daemon.batch(self.client_id, message)
        self.down.append(pb.StreamReportsResponse(acked_sequence=acked))

    @precondition(lambda self: self.is_open and self.down)
    @rule()
    def answer(self) -> None:
        assert self.core.answered(self.down.popleft(), self.now)

    @precondition(lambda self: self.is_open)
    @rule(status=st.sampled_from(STATUSES))
    def lose(self, status: str) -> None:
        self.is_open = False
        self.core.ended(status, "", None, self.now)

    @rule(status=st.sampled_from(["UNAVAILABLE", "INTERNAL"]))
    def restart_a_daemon_that_remembers_nothing(self, status: str) -> None:
        if self.is_open:
            self.lose(status)
        self.daemon.forget()

    # --- what always holds ---

    @invariant()
    def memory_is_bounded(self) -> None:
        stats = self.core.stats()
        assert stats.live_sessions <= LIMITS.max_live_sessions
        assert stats.pending_reports <= LIMITS.max_live_sessions + LIMITS.max_pending_reports
        assert stats.unacknowledged_reports <= LIMITS.window_batches * LIMITS.batch_max_reports

    def pump(self) -> None:
        """Everything works; moves all that can move."""
        for _ in range(400):
            if not self.is_open:
                self.now = max(self.now, self.core.connect_at_ns)
                self.open()
            moved = self.send_next() or bool(self.up or self.down)
            while self.is_open and self.up:
                self.arrive()
            while self.is_open and self.down:
                self.answer()
            if self.core.done:
                return
            if not moved and self.is_open:
                at_ns = self.core.look_again_at_ns()
                if at_ns is None:
                    return
                self.now = max(self.now, at_ns)
        raise AssertionError("it never comes to rest")

    def teardown(self) -> None:
        self.poison.clear()
        if self.is_open:
            self.lose("UNAVAILABLE")
        self.pump()
        stats = self.core.stats()
        assert (stats.pending_reports, stats.unacknowledged_reports) == (0, 0)
        missing = 0
        for report in self.reports:
            held = self.daemon.ever.get(report.session_id)
            if report.tracked:
                assert self.daemon.sessions[report.session_id].requests == report.requests
                assert not report.ended_ns
            elif report.said_live or (held and report.ended_ns):
                assert held
                assert (held.ended_ns, held.requests) == (report.ended_ns, report.requests)
            elif report.ended_ns:
                missing += 1
        assert missing <= stats.dropped_reports
        self.core.close(self.now)
        self.pump()
        assert self.core.confirmed
        for report in self.reports:
            if report.said_live:
                held = self.daemon.ever[report.session_id]
                assert (held.ended_ns, held.requests) == (report.ended_ns, report.requests)


TestNetwork = Network.TestCase
TestNetwork.settings = settings(max_examples=200, stateful_step_count=80, deadline=None)
