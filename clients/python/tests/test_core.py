"""The core against the protocol page, rule by rule, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest
from appstatsd_client import AccessMethod, App, Limits, events
from appstatsd_client.core import Core
from appstatsd_client.report import Report
from appstatsd_client.wire.appstats.v1 import appstats_pb2 as pb
from model_daemon import Held, ModelDaemon, rows

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
APP = App(UUID(int=1), UUID(int=2), UUID(int=3), AccessMethod.PATH, "code")


class Wire:
    """A core, a model daemon and one stream between them; nothing moves but by the test."""

    def __init__(self, **limits: float) -> None:
        self.now = 5 * SECOND
        self.made = 0
        self.drawn: list[tuple[float, float]] = []
        self.daemon = ModelDaemon()
        self.core = Core(Limits(**limits), self._new_client_id, self._most)  # type: ignore[arg-type]
        self.client_id = ""
        self.told: list[events.Event] = []

    def _new_client_id(self) -> str:
        self.made += 1
        return f"client-{self.made}"

    def _most(self, least: float, most: float) -> float:
        self.drawn.append((least, most))
        return most

    def begin(self, number: int, app: App = APP) -> Report:
        report = Report(app, UUID(int=number).bytes, START + self.now, self.now, 1)
        self.core.buffer.begin(report, self.now)
        return report

    def begin_many(self, first: int, count: int) -> list[Report]:
        return [self.begin(number) for number in range(first, first + count)]

    def end(self, *reports: Report) -> None:
        for report in reports:
            report.end(self.now)
            self.core.buffer.ended(report, self.now)

    def end_unheard(self, first: int, count: int) -> list[Report]:
        """Sessions that are reported only when they end."""
        reports = [Report(APP, UUID(int=n).bytes, START + self.now, self.now, 1) for n in range(first, first + count)]
        self.end(*reports)
        return reports

    def open(self) -> pb.StreamReportsRequest:
        """Opens a stream and answers its first message."""
        first = pb.StreamReportsRequest.FromString(self.core.opened(self.now))
        assert self.core.next_message(self.now) is None, "something was sent before the answer"
        self.client_id = first.client_id
        self.ack(self.daemon.first(first))
        return first

    def ack(self, sequence: int, *rejected: pb.RejectedReport) -> bool:
        return self.core.answered(pb.StreamReportsResponse(acked_sequence=sequence, rejected=rejected), self.now)

    def sent(self) -> pb.StreamReportsRequest | None:
        """The next message, which the daemon does not get."""
        message = self.core.next_message(self.now)
        return None if message is None else pb.StreamReportsRequest.FromString(message)

    def deliver(self) -> int:
        """All that may be sent now is applied but not acknowledged. Returns how many batches."""
        count = 0
        while (message := self.sent()) is not None:
            assert not message.closing
            self.daemon.batch(self.client_id, message)
            count += 1
        return count

    def settle(self) -> None:
        """Sends, applies and acknowledges until nothing is left to send."""
        while (message := self.sent()) is not None:
            if message.closing:
                self.daemon.close(self.client_id, message)
                self.core.ended("OK", "", None, self.now)
                return
            self.ack(self.daemon.batch(self.client_id, message))

    def lose(self, status: str = "UNAVAILABLE", delay_ms: int | None = None) -> float:
        """Ends the stream; returns how many seconds the next attempt is away."""
        self.core.ended(status, "because", delay_ms, self.now)
        return (self.core.connect_at_ns - self.now) / SECOND

    def linger(self) -> None:
        self.now += SECOND

    def events(self, kind: type[events.Event]) -> list[events.Event]:
        self.told += self.core.take_events()
        return [event for event in self.told if isinstance(event, kind)]

    def held(self, report: Report) -> Held:
        return self.daemon.ever[report.session_id]


def ids(message: pb.StreamReportsRequest | None) -> list[int]:
    assert message is not None
    return [UUID(bytes=session_id).int for session_id, _ in rows(message.columns)]


# --- batches ---


def test_the_first_message_names_the_client_and_nothing_else_goes_out_before_its_answer() -> None:
    wire = Wire()
    wire.begin_many(1, 1000)
    first = wire.open()
    assert (first.client_id, first.sequence, first.closing) == ("client-1", 0, False)
    assert len(ids(wire.sent())) == 1000


def test_a_session_that_begins_and_ends_within_the_linger_is_one_report() -> None:
    wire = Wire()
    wire.open()
    report = wire.begin(1)
    wire.now += SECOND // 2
    report.count(2)
    wire.core.buffer.changed(report, wire.now)
    wire.end(report)
    assert wire.sent() is None
    wire.linger()
    message = wire.sent()
    assert message is not None
    assert rows(message.columns) == [
        (
            report.session_id,
            Held(
                (*[UUID(int=n).bytes for n in (1, 2, 3)], 1, "code"),
                report.started_ns,
                report.started_ns + SECOND // 2,
                3,
            ),
        )
    ]


def test_a_report_waits_for_the_linger_and_the_shell_is_told_until_when() -> None:
    wire = Wire()
    wire.open()
    assert wire.core.look_again_at_ns() is None
    wire.begin(1)
    wire.now += SECOND - 1
    assert wire.sent() is None
    assert wire.core.look_again_at_ns() == wire.now + 1
    wire.now += 1
    assert ids(wire.sent()) == [1]


def test_a_full_batch_does_not_wait_and_what_is_left_over_does() -> None:
    wire = Wire()
    wire.open()
    wire.begin_many(1, 1001)
    assert len(ids(wire.sent())) == 1000
    assert wire.sent() is None
    wire.linger()
    assert ids(wire.sent()) == [1001]


def test_a_batch_ends_before_it_has_too_many_bytes() -> None:
    wire = Wire(batch_max_bytes=4000)
    wire.open()
    for number in range(1, 9):
        wire.begin(number, App(UUID(int=1), UUID(int=2), UUID(int=number), AccessMethod.PATH, "\U0001f600" * 256))
    wire.linger()
    messages = [wire.sent() for _ in range(3)]
    assert [len(ids(message)) for message in messages] == [3, 3, 2]
    assert all(message and message.ByteSize() <= 4000 for message in messages)


def test_the_longest_slugs_in_the_largest_batch_stay_under_the_limit_of_bytes() -> None:
    wire = Wire(batch_max_reports=10_000, batch_max_bytes=4 << 20)
    wire.open()
    for number in range(1, 10_001):
        wire.begin(number, App(UUID(int=1), UUID(int=2), UUID(int=number), AccessMethod.PATH, "\U0001f600" * 256))
    wire.linger()
    message = wire.sent()
    assert message is not None
    assert (4 << 20) * 0.98 < message.ByteSize() <= 4 << 20


def test_each_distinct_app_stands_in_a_batch_once() -> None:
    wire = Wire()
    wire.open()
    other = App(UUID(int=1), UUID(int=2), UUID(int=3), AccessMethod.TERMINAL, "")
    for number, app in enumerate((APP, other, APP, other), start=1):
        wire.begin(number, app)
    wire.linger()
    message = wire.sent()
    assert message is not None
    assert list(message.columns.app) == [0, 1, 0, 1]
    assert [app.slug_or_port for app in message.columns.apps] == ["code", ""]


def test_at_most_eight_batches_are_on_their_way_while_reports_go_on_merging() -> None:
    wire = Wire()
    wire.open()
    reports = wire.begin_many(1, 10_000)
    assert wire.deliver() == 8
    assert wire.core.look_again_at_ns() is None
    wire.end(*reports)
    wire.ack(1)
    assert wire.deliver() == 1
    wire.ack(9)
    wire.linger()
    wire.settle()
    assert all(wire.held(report).ended_ns == report.ended_ns for report in reports)
    assert wire.core.stats().unacknowledged_reports == 0


# --- reconnects ---


def test_what_was_not_acknowledged_is_sent_again_under_its_number_with_its_content() -> None:
    wire = Wire(batch_max_reports=2)
    wire.open()
    reports = wire.begin_many(1, 4)
    before = [wire.sent(), wire.sent()]
    wire.end(*reports)
    wire.lose()
    wire.open()
    after = [wire.sent(), wire.sent()]
    assert [(m.sequence, m.columns) for m in after if m] == [(m.sequence, m.columns) for m in before if m]


def test_what_the_first_answer_acknowledges_is_not_sent_again() -> None:
    wire = Wire(batch_max_reports=2)
    wire.open()
    wire.end_unheard(1, 4)
    assert wire.deliver() == 2
    wire.lose()
    wire.daemon.clients["client-1"].last = 1
    wire.open()
    message = wire.sent()
    assert message is not None
    assert (message.sequence, ids(message)) == (2, [3, 4])


def test_an_acknowledgement_of_the_old_stream_that_comes_on_the_new_one_counts() -> None:
    wire = Wire(batch_max_reports=2)
    wire.open()
    wire.end_unheard(1, 6)
    for _ in range(3):
        wire.sent()
    wire.lose()
    wire.open()
    message = wire.sent()
    assert message is not None
    assert message.sequence == 1
    wire.ack(2)
    message = wire.sent()
    assert message is not None
    assert message.sequence == 3
    wire.ack(3)
    assert wire.core.stats().unacknowledged_reports == 0


def test_live_sessions_are_reported_again_under_new_numbers_after_what_was_not_acknowledged() -> None:
    wire = Wire()
    wire.open()
    wire.begin_many(1, 3)
    wire.linger()
    wire.settle()
    wire.end_unheard(4, 2)
    wire.linger()
    assert ids(wire.sent()) == [4, 5]
    wire.lose()
    wire.daemon.forget()
    wire.open()
    messages = [wire.sent(), wire.sent()]
    assert [(m.sequence, ids(m)) for m in messages if m] == [(2, [4, 5]), (3, [1, 2, 3])]
    assert wire.sent() is None


def test_a_session_that_ended_while_the_daemon_was_away_is_not_reported_live_again() -> None:
    wire = Wire()
    wire.open()
    [report] = wire.begin_many(1, 1)
    wire.linger()
    wire.settle()
    wire.lose()
    wire.end(report)
    wire.open()
    wire.linger()
    wire.settle()
    assert wire.held(report).ended_ns == report.ended_ns
    assert wire.daemon.applied == [("client-1", 1), ("client-1", 2)]


def test_a_rejected_session_is_told_and_not_reported_live_again_but_its_end_is() -> None:
    wire = Wire()
    wire.open()
    [report] = wire.begin_many(7, 1)
    wire.linger()
    assert ids(wire.sent()) == [7]
    rejected = pb.RejectedReport(sequence=1, index=0, reason=pb.REJECTION_REASON_INVALID_TIME, message="too old")
    wire.ack(1, rejected)
    told = wire.events(events.Rejected)
    assert told == [events.Rejected((events.Rejection(UUID(int=7), "REJECTION_REASON_INVALID_TIME", "too old"),))]
    report.count(1)
    wire.core.buffer.changed(report, wire.now)
    wire.lose()
    wire.open()
    wire.linger()
    assert wire.sent() is None
    wire.end(report)
    wire.linger()
    assert ids(wire.sent()) == [7]
    assert wire.core.stats().rejected_reports == 1


def test_rejections_that_name_no_report_of_ours_and_unknown_reasons_do_no_harm() -> None:
    wire = Wire()
    wire.open()
    wire.begin_many(7, 1)
    wire.linger()
    wire.sent()
    wire.ack(
        1,
        pb.RejectedReport(sequence=9, index=0, reason=pb.REJECTION_REASON_CONFLICT),
        pb.RejectedReport(sequence=1, index=5, reason=pb.REJECTION_REASON_CONFLICT),
        pb.RejectedReport(sequence=1, index=0, reason=99),  # type: ignore[arg-type]
    )
    assert wire.events(events.Rejected) == [events.Rejected((events.Rejection(UUID(int=7), "99", ""),))]


# --- refusals ---


@pytest.mark.parametrize("status", ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"])
def test_after_a_refusal_batches_go_singly_under_a_new_client_id_until_one_is_acknowledged(status: str) -> None:
    wire = Wire(batch_max_reports=2)
    wire.open()
    wire.end_unheard(1, 8)
    assert [ids(wire.sent()) for _ in range(4)] == [[1, 2], [3, 4], [5, 6], [7, 8]]
    wire.ack(1)
    wire.lose(status)
    assert wire.open().client_id == "client-2"
    message = wire.sent()
    assert message is not None
    assert (message.sequence, ids(message)) == (1, [3, 4])
    assert wire.sent() is None
    wire.begin(9)
    assert wire.core.look_again_at_ns() is None, "the shell would spin until the acknowledgement"
    wire.ack(wire.daemon.batch("client-2", message))
    assert [ids(wire.sent()) for _ in range(2)] == [[5, 6], [7, 8]]
    assert wire.core.stats().dropped_reports == 0
    assert [e.new for e in wire.events(events.ClientIdReplaced)] == ["client-2"]  # type: ignore[union-attr]


def test_only_a_batch_refused_as_number_1_is_dropped_counted_and_told() -> None:
    wire = Wire(batch_max_reports=2)
    wire.open()
    wire.end_unheard(1, 6)
    for _ in range(3):
        wire.sent()
    wire.ack(1)
    wire.lose("INVALID_ARGUMENT")  # number 2 was the first on its way: nothing is dropped
    assert wire.core.stats().dropped_reports == 0
    wire.open()
    assert ids(wire.sent()) == [3, 4]
    wire.lose("INVALID_ARGUMENT")  # number 1, alone
    assert wire.core.stats().dropped_reports == 2
    assert wire.events(events.BatchRefused) == [events.BatchRefused("INVALID_ARGUMENT", "because", 2, 2)]
    assert wire.events(events.Dropped) == []
    first = wire.open()
    assert (first.client_id, first.dropped_reports) == ("client-3", 2)
    message = wire.sent()
    assert message is not None
    assert (message.sequence, ids(message), message.dropped_reports) == (1, [5, 6], 2)


def test_a_refusal_while_several_were_on_their_way_drops_none_though_number_1_is_among_them() -> None:
    wire = Wire(batch_max_reports=2)
    wire.open()
    wire.end_unheard(1, 4)
    wire.sent()
    wire.sent()
    wire.lose("INVALID_ARGUMENT")
    wire.open()
    wire.settle()
    assert len(wire.daemon.ever) == 4
    assert wire.core.stats().dropped_reports == 0


def test_a_refusal_before_any_batch_was_sent_drops_none() -> None:
    wire = Wire(batch_max_reports=2)
    wire.end_unheard(1, 2)
    wire.open()
    wire.lose("INVALID_ARGUMENT")
    wire.open()
    wire.settle()
    assert len(wire.daemon.ever) == 2


def test_sessions_the_daemon_may_believe_in_use_survive_the_refusal_of_their_batch_each_alone() -> None:
    wire = Wire()
    wire.open()
    live, ending = wire.begin(1), wire.begin(2)
    wire.linger()
    wire.settle()
    live.count(1)
    wire.core.buffer.changed(live, wire.now)
    wire.end(ending)
    wire.end_unheard(3, 2)
    wire.lose("ALREADY_EXISTS")  # so that the next number is 1
    wire.open()
    wire.linger()
    assert sorted(ids(wire.sent())) == [1, 2, 3, 4]
    live.count(1)
    wire.core.buffer.changed(live, wire.now)
    wire.lose("INVALID_ARGUMENT")
    assert wire.core.stats().dropped_reports == 2
    wire.open()
    messages = []
    while message := wire.sent():
        messages.append(message)
        wire.ack(wire.daemon.batch(wire.client_id, message))
    assert sorted(ids(message) for message in messages) == [[1], [2]]
    assert wire.held(ending).ended_ns == ending.ended_ns
    assert wire.held(live).requests == 3
    wire.end(live)
    other = wire.begin(5)
    wire.linger()
    assert sorted(ids(wire.sent())) == [1, 5], "alone until acknowledged, and no longer"
    assert other.tracked


def test_a_report_that_is_refused_alone_is_held_back_and_tried_again_with_the_newest_of_its_session() -> None:
    wire = Wire()
    wire.open()
    poison, good = wire.begin(1), wire.begin(2)
    wire.linger()
    refused = 0
    for _ in range(6):
        message = wire.sent()
        if message is None:
            break
        if 1 in ids(message):
            refused += 1
            wire.lose("INVALID_ARGUMENT")
            wire.open()
        else:
            wire.ack(wire.daemon.batch(wire.client_id, message))
    assert wire.held(good).requests == 1
    assert wire.core.stats().pending_reports == 1
    assert refused == 3  # with its neighbor, alone with the neighbor behind it or not, and alone as number 1
    wire.end(poison)
    at_ns = wire.core.look_again_at_ns()
    assert at_ns is not None
    wire.now = at_ns
    assert wire.sent() is None  # it lingers
    wire.linger()
    wire.settle()
    assert wire.held(poison).ended_ns == poison.ended_ns
    assert wire.core.stats().dropped_reports == 0
    assert wire.core.stats().pending_reports == 0


def test_a_report_that_is_held_back_is_not_reported_again_by_a_reconnect() -> None:
    wire = Wire()
    wire.open()
    wire.begin(1)
    wire.linger()
    for _ in range(2):
        assert ids(wire.sent()) == [1]
        wire.lose("INVALID_ARGUMENT")
        wire.open()
        if wire.sent() is None:
            break
    else:
        pytest.fail("it is not held back")
    wire.lose()
    wire.open()
    assert wire.sent() is None


# --- mistaken identity ---


@pytest.mark.parametrize("status", ["ALREADY_EXISTS", "ABORTED"])
def test_a_client_id_in_use_twice_is_replaced_and_batches_are_sent_again_from_1(status: str) -> None:
    wire = Wire(batch_max_reports=2)
    wire.open()
    wire.end_unheard(1, 6)
    for _ in range(3):
        wire.sent()
    wire.ack(1)
    wire.lose(status)
    assert wire.open().client_id == "client-2"
    messages = [wire.sent(), wire.sent()]
    assert [(m.sequence, ids(m)) for m in messages if m] == [(1, [3, 4]), (2, [5, 6])]
    told = wire.events(events.ClientIdReplaced)
    assert told == [events.ClientIdReplaced("client-1", "client-2", status, "because")]


def test_an_acknowledgement_of_what_was_never_sent_means_that_the_client_id_is_in_use_twice() -> None:
    wire = Wire()
    wire.open()
    wire.end_unheard(1, 1)
    wire.linger()
    assert ids(wire.sent()) == [1]
    assert not wire.ack(2)
    wire.lose("CANCELLED")
    assert wire.open().client_id == "client-2"
    assert ids(wire.sent()) == [1]


def test_what_was_sent_under_the_old_client_id_vouches_for_nothing_under_the_new_one() -> None:
    wire = Wire(batch_max_reports=1)
    wire.open()
    wire.end_unheard(1, 3)
    wire.settle()
    wire.lose("ABORTED")
    wire.open()
    wire.end_unheard(4, 1)
    assert ids(wire.sent()) == [4]
    assert not wire.ack(2)
    wire.lose("CANCELLED")
    wire.core.opened(wire.now)
    assert not wire.ack(1), "it has a number, but was not sent under it"


def test_live_sessions_move_to_the_new_client_id() -> None:
    wire = Wire()
    wire.open()
    wire.begin(1)
    wire.linger()
    wire.settle()
    wire.lose("ABORTED")
    wire.open()
    wire.settle()
    assert wire.daemon.applied == [("client-1", 1), ("client-2", 1)]


# --- when the next attempt is made ---


def test_attempts_back_off_at_random_up_to_eight_seconds() -> None:
    wire = Wire()
    waits = []
    for _ in range(8):
        wire.core.opened(wire.now)
        waits.append(wire.lose())
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 8, 8]
    assert wire.drawn == [(0.0, wait) for wait in waits]
    told = wire.events(events.Disconnected)
    assert [event.attempt for event in told] == [1, 2, 3, 4, 5, 6, 7, 8]  # type: ignore[union-attr]


def test_a_years_outage_does_not_overflow_the_backoff() -> None:
    wire = Wire()
    for _ in range(2000):
        wire.core.opened(wire.now)
        assert wire.lose() <= 8


def test_the_backoff_starts_anew_when_a_batch_is_acknowledged() -> None:
    wire = Wire()
    for _ in range(5):
        wire.core.opened(wire.now)
        wire.lose()
    wire.open()
    assert wire.lose() == 8, "an answer alone is no success"
    wire.open()
    wire.end_unheard(1, 1)
    wire.linger()
    wire.settle()
    assert wire.lose() == 0.25


def test_the_backoff_starts_anew_after_a_stream_that_lasted() -> None:
    wire = Wire()
    for _ in range(5):
        wire.core.opened(wire.now)
        wire.lose()
    wire.open()
    wire.now += 8 * SECOND
    assert wire.lose() == 0.25


def test_the_daemons_own_delay_replaces_the_backoff_up_to_the_slowest_pace() -> None:
    wire = Wire()
    wire.open()
    assert wire.lose("UNAVAILABLE", 2000) == 2.5
    assert wire.drawn == [(1.0, 1.25)]
    wire.open()
    assert wire.lose("UNAVAILABLE", 3_600_000) == 10


@pytest.mark.parametrize("status", ["UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"])
def test_what_a_person_must_mend_is_tried_again_at_the_slowest_pace_and_costs_nothing(status: str) -> None:
    wire = Wire()
    wire.open()
    wire.end_unheard(1, 1)
    wire.linger()
    assert ids(wire.sent()) == [1]
    assert wire.lose(status) == 10
    assert wire.open().client_id == "client-1"
    message = wire.sent()
    assert message is not None
    assert (message.sequence, ids(message)) == (1, [1])


@pytest.mark.parametrize("status", ["OK", "UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"])
def test_every_other_status_keeps_client_id_and_numbers(status: str) -> None:
    wire = Wire()
    wire.open()
    wire.end_unheard(1, 1)
    wire.linger()
    assert ids(wire.sent()) == [1]
    wire.lose(status)
    assert wire.open().client_id == "client-1"
    message = wire.sent()
    assert message is not None
    assert (message.sequence, ids(message)) == (1, [1])


# --- bounds ---


def test_a_full_buffer_drops_the_new_report_counts_it_and_says_so_to_the_daemon() -> None:
    wire = Wire(max_pending_reports=3)
    wire.end_unheard(1, 5)
    first = wire.open()
    assert first.dropped_reports == 2
    wire.linger()
    message = wire.sent()
    assert message is not None
    assert (sorted(ids(message)), message.dropped_reports) == ([1, 2, 3], 2)
    assert wire.events(events.Dropped) == [events.Dropped(2, 2)]
    assert wire.core.take_events() == []


def test_the_end_of_a_session_once_reported_live_finds_room_in_a_full_buffer() -> None:
    wire = Wire(max_pending_reports=2, max_live_sessions=3)
    wire.open()
    reports = wire.begin_many(1, 3)
    wire.linger()
    wire.settle()
    wire.lose()
    wire.end_unheard(4, 10)
    wire.end(*reports)
    wire.open()
    wire.linger()
    wire.settle()
    assert all(wire.held(report).ended_ns == report.ended_ns for report in reports)
    assert wire.core.stats().dropped_reports == 8


def test_a_live_session_too_many_is_reported_when_it_ends() -> None:
    wire = Wire(max_live_sessions=2)
    wire.open()
    reports = wire.begin_many(1, 3)
    wire.linger()
    assert ids(wire.sent()) == [1, 2]
    assert wire.core.stats().dropped_reports == 1
    wire.end(reports[2])
    wire.linger()
    assert ids(wire.sent()) == [3]
    assert wire.core.stats().dropped_reports == 1


def test_an_unacknowledged_end_still_takes_its_place_among_the_live_ones() -> None:
    wire = Wire(max_live_sessions=1)
    wire.open()
    [report] = wire.begin_many(1, 1)
    wire.linger()
    wire.settle()
    wire.end(report)
    assert not wire.begin(2).tracked
    wire.linger()
    wire.settle()
    assert wire.begin(3).tracked


def test_sessions_that_come_and_go_in_an_outage_need_no_more_than_the_bounds() -> None:
    wire = Wire(max_pending_reports=10, max_live_sessions=5)
    wire.open()
    live = wire.begin_many(1, 5)
    wire.linger()
    wire.settle()
    wire.lose()
    wire.end(*live)
    for number in range(6, 1000):
        wire.end(wire.begin(number))
    assert wire.core.stats().pending_reports == 15


def test_a_client_without_a_connection_holds_live_sessions_that_ended_as_ordinary_reports() -> None:
    wire = Wire(max_pending_reports=1)
    first, second = wire.begin_many(1, 2)
    wire.end(first, second)
    assert (wire.core.stats().pending_reports, wire.core.stats().dropped_reports) == (1, 1)
    assert wire.core.stats().live_sessions == 0


# --- closing ---


def test_closing_ends_what_is_left_and_follows_the_last_acknowledgement() -> None:
    wire = Wire()
    wire.open()
    [report] = wire.begin_many(1, 1)
    wire.linger()
    wire.settle()
    wire.core.close(wire.now)
    message = wire.sent()
    assert message is not None
    assert not message.closing
    assert wire.sent() is None, "closing goes out before the last batch is acknowledged"
    wire.ack(wire.daemon.batch("client-1", message))
    message = wire.sent()
    assert message is not None
    assert (message.closing, message.sequence, message.HasField("columns")) == (True, 0, False)
    assert wire.sent() is None
    wire.core.ended("OK", "", None, wire.now)
    assert wire.core.done
    assert wire.core.confirmed
    assert wire.held(report).ended_ns == report.ended_ns > 0
    assert wire.events(events.Closed) == [events.Closed(confirmed=True, left=0)]


def test_closing_is_sent_again_when_there_was_no_ok() -> None:
    wire = Wire()
    wire.open()
    wire.end_unheard(1, 1)
    wire.core.close(wire.now)
    message = wire.sent()
    assert message is not None
    wire.ack(wire.daemon.batch("client-1", message))
    message = wire.sent()
    assert message is not None
    assert message.closing
    wire.lose()
    assert not wire.core.done
    wire.open()
    message = wire.sent()
    assert message is not None
    assert message.closing
    wire.core.ended("OK", "", None, wire.now)
    assert wire.core.confirmed


def test_an_ok_without_closing_closes_nothing() -> None:
    wire = Wire()
    wire.open()
    wire.end_unheard(1, 1)
    wire.linger()
    wire.settle()
    wire.core.close(wire.now)
    wire.lose("OK")
    assert not wire.core.done
    wire.open()
    wire.settle()
    assert wire.core.confirmed


def test_closing_makes_the_next_attempt_at_once() -> None:
    wire = Wire()
    wire.end_unheard(1, 1)
    for _ in range(8):
        wire.core.opened(wire.now)
        wire.lose()
    wire.core.close(wire.now)
    assert wire.core.connect_at_ns == wire.now
    wire.core.opened(wire.now)
    assert wire.lose() == 0.25


def test_a_client_that_has_sent_nothing_has_nothing_to_close() -> None:
    wire = Wire()
    wire.core.close(wire.now)
    assert wire.core.done
    assert wire.core.confirmed


def test_nothing_is_taken_after_closing_and_what_is_lost_is_counted() -> None:
    wire = Wire()
    wire.open()
    wire.end_unheard(1, 1)
    wire.core.close(wire.now)
    late = wire.begin(2)
    assert wire.core.stats().dropped_reports == 0
    wire.end(late)
    assert wire.core.stats().dropped_reports == 1
    wire.settle()
    assert list(wire.daemon.ever) == [UUID(int=1).bytes]
    assert wire.daemon.dropped["client-1"] == 1


def test_what_is_left_at_the_deadline_is_counted_as_dropped() -> None:
    wire = Wire(batch_max_reports=2)
    wire.open()
    wire.end_unheard(1, 3)
    wire.sent()
    wire.core.close(wire.now)
    wire.core.abandon()
    assert wire.core.done
    assert not wire.core.confirmed
    assert wire.core.stats().dropped_reports == 3
    assert wire.events(events.Closed) == [events.Closed(confirmed=False, left=3)]
    assert wire.events(events.Dropped) == []


def test_what_is_refused_alone_is_tried_once_more_when_the_client_closes_and_then_given_up() -> None:
    wire = Wire()
    wire.open()
    wire.begin(1)
    wire.linger()
    refusals = 0

    def refuse_until(idle: Callable[[], bool]) -> None:
        nonlocal refusals
        while not idle():
            message = wire.sent()
            assert message is not None
            if message.closing:
                wire.core.ended("OK", "", None, wire.now)
                return
            refusals += 1
            wire.lose("INVALID_ARGUMENT")
            wire.open()

    refuse_until(lambda: wire.core.look_again_at_ns() not in (None, wire.now))
    before = refusals
    wire.core.close(wire.now)
    refuse_until(lambda: wire.core.done)
    assert refusals == before + 1
    assert wire.core.confirmed
    assert wire.core.stats().dropped_reports == 1


def test_a_count_stays_where_the_database_has_no_more_room() -> None:
    report = Report(APP, UUID(int=1).bytes, START, 0, 2**31 - 2)
    report.count(5)
    assert report.requests == 2**31 - 1
