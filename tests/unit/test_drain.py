"""The one writer: what waits is made durable together, applied together, and answered once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from appstatsd.answers import Answer
from appstatsd.collect.rollup import ALL
from appstatsd.collect.rollup import Flushed as RolledUp
from appstatsd.collect.rules import Rules
from appstatsd.drain import MAX_DRAIN_BYTES, Drain, FlushCall, ForgetCall, Question
from appstatsd.events import Came, Flushed, FlushedOn, Forgotten, Received, Started, Went, Written
from appstatsd.ledger import Held, Ledger

from tests.support.raw_client import request
from tests.support.reports import HOUR, SECOND, T0, app, report, session
from tests.support.standing import PATIENCE_SECONDS, GatedLog, StandingClock


@dataclass
class Drained:
    """A drain, all that it says, and how to tell it something."""

    clock: StandingClock = field(default_factory=StandingClock)
    log: GatedLog = field(default_factory=GatedLog)
    ledger: Ledger = field(default_factory=lambda: Ledger(Rules()))
    answers: queue.SimpleQueue[dict[int, Answer]] = field(default_factory=queue.SimpleQueue)
    rolled_up: list[RolledUp] = field(default_factory=list)
    kicks: queue.SimpleQueue[None] = field(default_factory=queue.SimpleQueue)
    timer_stamps: list[int] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    give_way: Callable[[float, Callable[[], None]], None] = lambda seconds, go_on: go_on()
    drain: Drain = field(init=False)

    def make(self, first_flush_us: int | None = None) -> Drain:
        self.drain = Drain(
            self.ledger,
            self.log,
            self.clock,
            first_flush_us=first_flush_us,
            flush_interval_us=30 * SECOND,
            timer_flush=lambda: FlushCall(None, self.timer_stamps.append),
            answer=self.answers.put,
            rolled_up=self.rolled_up.append,
            outbox_changed=lambda: self.kicks.put(None),
            acknowledged=self.waits.append,
            refuse=lambda _: None,
            give_way=lambda seconds, go_on: self.give_way(seconds, go_on),
            failed=self.failures.append,
        )
        return self.drain

    def opens(self, stream: int, client_id: str = "c") -> None:
        self.drain.put(Came(stream, client_id, self.clock.wall_us(), self.clock.mono_us()))

    def says(self, stream: int, sequence: int, client_id: str = "c") -> None:
        message = request(sequence, [report(sequence)]).SerializeToString()
        self.drain.put(Received(stream, client_id, message, self.clock.wall_us(), self.clock.mono_us()))

    def asks(self) -> Ledger:
        """Wait until the drain has dealt with all that was put before."""
        answer: queue.SimpleQueue[Ledger] = queue.SimpleQueue()
        self.drain.put(Question(answer.put))
        return answer.get(timeout=PATIENCE_SECONDS)


@pytest.fixture
def drained() -> Iterator[Drained]:
    drained = Drained()
    drained.make()
    yield drained
    drained.log.gate.set()
    if drained.drain._thread.is_alive():
        drained.drain.stop()


def test_what_waits_is_made_durable_in_one_go_and_each_stream_is_answered_once(drained: Drained) -> None:
    drained.opens(1)
    drained.opens(2, "d")
    for sequence in (1, 2, 3):
        drained.says(1, sequence)
        drained.says(2, sequence, "d")
    drained.drain.start()
    answers = drained.answers.get(timeout=PATIENCE_SECONDS)
    assert {
        stream: (answer.greeting, answer.acked_sequence, answer.messages) for stream, answer in answers.items()
    } == {
        1: (0, 3, 3),
        2: (0, 3, 3),
    }
    assert [len(drain) for drain in drained.log.drains] == [8]


def test_nothing_is_applied_or_answered_before_it_is_durable(drained: Drained) -> None:
    drained.opens(1)
    drained.says(1, 1)
    drained.log.gate.clear()
    drained.drain.start()
    assert drained.log.asked.acquire(timeout=PATIENCE_SECONDS)
    assert drained.answers.empty()
    assert drained.ledger.open_streams == 0
    drained.log.gate.set()
    assert drained.answers.get(timeout=PATIENCE_SECONDS)[1].acked_sequence == 1


def test_it_is_told_how_long_each_message_waited_for_its_answer(drained: Drained) -> None:
    drained.opens(1)
    drained.says(1, 1)
    drained.clock.passed = 250_000
    drained.says(1, 2)
    drained.clock.passed = 750_000
    drained.drain.start()
    drained.asks()
    assert drained.waits == [0.75, 0.5]


def test_what_comes_while_the_disk_is_busy_shares_the_next_sync(drained: Drained) -> None:
    drained.opens(1)
    drained.log.gate.clear()
    drained.drain.start()
    assert drained.log.asked.acquire(timeout=PATIENCE_SECONDS)
    for sequence in range(1, 11):
        drained.says(1, sequence)
    drained.log.gate.set()
    drained.asks()
    assert [len(drain) for drain in drained.log.drains] == [1, 10]


def test_events_are_made_durable_in_the_order_in_which_they_came(drained: Drained) -> None:
    drained.opens(1)
    drained.says(1, 1)
    drained.drain.put(Went(1, T0, 0))
    drained.opens(2)
    drained.drain.start()
    drained.asks()
    assert [type(event) for event in drained.log.events] == [Came, Received, Went, Came]


def test_one_drain_takes_no_more_than_so_many_bytes(drained: Drained) -> None:
    message = bytes(1 << 20)  # no message at all, but bytes are bytes
    drained.opens(1)
    for _ in range(2 * (MAX_DRAIN_BYTES >> 20)):
        drained.drain.put(Received(1, "c", message, T0, 0))
    drained.drain.start()
    drained.asks()
    sizes = [sum(len(event.message) for event in drain if isinstance(event, Received)) for drain in drained.log.drains]
    assert sizes == [MAX_DRAIN_BYTES, MAX_DRAIN_BYTES]


def test_a_log_that_fails_ends_the_drain_and_nothing_of_that_is_applied_or_answered(drained: Drained) -> None:
    drained.log.failure = OSError("no space left on device")
    drained.opens(1)
    drained.says(1, 1)
    drained.drain.start()
    drained.drain._thread.join(PATIENCE_SECONDS)
    assert drained.failures == [drained.log.failure]
    assert drained.answers.empty()
    assert drained.ledger.open_streams == 0


def test_stopping_deals_with_all_that_came_before_and_ends_the_thread(drained: Drained) -> None:
    drained.opens(1)
    drained.drain.start()
    for sequence in range(1, 50):
        drained.says(1, sequence)
    drained.drain.stop()
    assert not drained.drain._thread.is_alive()
    assert drained.ledger.collector.live_sessions == 49


def says_some(drained: Drained, count: int, *, each_takes_us: int, then_pass_us: int = 0) -> None:
    """Messages that take so long to be dealt with, one after another."""

    def answer(answers: dict[int, Answer]) -> None:
        drained.clock.passed += each_takes_us
        drained.answers.put(answers)

    drained.drain._answer = answer
    drained.opens(9, "some")
    for sequence in range(1, count + 1):
        drained.says(9, sequence, "some")
        drained.asks()
        drained.clock.passed += then_pass_us


@pytest.mark.parametrize(("each_takes_us", "busy"), [(150_000, False), (250_000, True)])
def test_it_is_busy_while_messages_take_more_than_a_fifth_of_the_time(
    drained: Drained, each_takes_us: int, busy: bool
) -> None:
    drained.drain.start()
    says_some(drained, 3, each_takes_us=each_takes_us, then_pass_us=SECOND - each_takes_us)
    assert drained.drain.busy() is busy


def test_it_is_not_busy_any_more_when_no_messages_come(drained: Drained) -> None:
    drained.drain.start()
    says_some(drained, 3, each_takes_us=SECOND)
    assert drained.drain.busy()
    drained.clock.passed += 2 * SECOND
    assert not drained.drain.busy()


class TestFlushes:
    def call(self, drained: Drained, as_of_us: int | None = None) -> queue.SimpleQueue[int]:
        stamps: queue.SimpleQueue[int] = queue.SimpleQueue()
        drained.drain.put(FlushCall(as_of_us, stamps.put))
        return stamps

    @pytest.fixture
    def holding(self, drained: Drained, monkeypatch: pytest.MonkeyPatch) -> Drained:
        """It holds five ended sessions, and looks at two of them at once."""
        monkeypatch.setattr("appstatsd.drain.MAX_FLUSH_SESSIONS", 2)
        drained.opens(1)
        ended = [report(number, T0 - HOUR, T0 - SECOND) for number in range(1, 6)]
        drained.drain.put(Received(1, "c", request(1, ended).SerializeToString(), T0, 0))
        drained.drain.start()
        drained.asks()
        return drained

    def test_a_flush_of_many_comes_in_parts_and_others_are_answered_between_them(self, holding: Drained) -> None:
        holding.log.gate.clear()
        call = self.call(holding)
        holding.says(1, 2)
        holding.log.gate.set()
        stamp = call.get(timeout=PATIENCE_SECONDS)
        ledger = holding.asks()
        events = holding.log.events
        parts = [event for event in events if isinstance(event, (Flushed, FlushedOn))]
        assert [part.until for part in parts] == [0, 2, 4, ALL]
        assert [len(part.rows) for part in holding.rolled_up] == [0, 2, 2, 1]
        assert call.empty()
        assert ledger.outbox.owes(stamp)
        _, meanwhile = (place for place, event in enumerate(events) if isinstance(event, Received))
        assert meanwhile < events.index(parts[-1]), "it waited for the whole flush"

    def test_between_the_parts_of_a_flush_others_have_their_turn(self, holding: Drained) -> None:
        turns: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        holding.give_way = lambda _, go_on: turns.put(go_on)
        call = self.call(holding)
        for rows in (0, 2, 2):
            go_on = turns.get(timeout=PATIENCE_SECONDS)
            holding.asks()
            assert len(holding.rolled_up[-1].rows) == rows
            assert call.empty()
            go_on()
        call.get(timeout=PATIENCE_SECONDS)
        assert turns.empty()

    @pytest.mark.parametrize(("each_takes_us", "pauses"), [(0, [0, 0, 0]), (SECOND, [0.003, 0.003, 0.003])])
    def test_while_many_messages_come_half_of_the_time_of_a_flush_is_theirs(
        self, holding: Drained, each_takes_us: int, pauses: list[float]
    ) -> None:
        says_some(holding, 2, each_takes_us=each_takes_us)
        seconds: list[float] = []

        def rolled_up(_: RolledUp) -> None:
            holding.clock.passed += 3_000

        def give_way(pause: float, go_on: Callable[[], None]) -> None:
            seconds.append(pause)
            go_on()

        holding.drain._rolled_up = rolled_up
        holding.give_way = give_way
        self.call(holding).get(timeout=PATIENCE_SECONDS)
        assert seconds == pauses

    def test_a_flush_that_takes_over_waits_for_the_same_turn(self, holding: Drained) -> None:
        turns: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        holding.give_way = lambda _, go_on: turns.put(go_on)
        calls = [self.call(holding, T0 + SECOND)]
        holding.asks()
        calls.append(self.call(holding, T0 + 2 * SECOND))
        holding.asks()
        for _ in range(3):
            turns.get(timeout=PATIENCE_SECONDS)()
        for call in calls:
            call.get(timeout=PATIENCE_SECONDS)
        assert turns.empty()
        assert [flush.now_us for flush in holding.rolled_up] == [T0 + SECOND] + [T0 + 2 * SECOND] * 4

    def test_a_turn_that_comes_when_the_flush_is_whole_is_nothing_to_go_on_with(
        self, holding: Drained, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        turns: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        holding.give_way = lambda _, go_on: turns.put(go_on)
        self.call(holding, T0 + SECOND)
        go_on = turns.get(timeout=PATIENCE_SECONDS)
        holding.asks()
        monkeypatch.setattr("appstatsd.drain.MAX_FLUSH_SESSIONS", 9)
        self.call(holding, T0 + 2 * SECOND).get(timeout=PATIENCE_SECONDS)
        go_on()
        holding.asks()
        flushes = [event for event in holding.log.events if isinstance(event, (Flushed, FlushedOn))]
        assert [flush.until for flush in flushes] == [0, ALL]

    def test_another_flush_takes_over_what_is_left(self, holding: Drained) -> None:
        calls = [self.call(holding, as_of_us) for as_of_us in (T0 + SECOND, T0 + 2 * SECOND)]
        first, second = (call.get(timeout=PATIENCE_SECONDS) for call in calls)
        assert len(holding.asks().outbox) == 5
        assert second >= first

    @pytest.mark.parametrize("others", ["have their turn", "never have it"])
    def test_stopping_waits_for_the_flush_under_way(self, holding: Drained, others: str) -> None:
        if others == "never have it":
            holding.give_way = lambda _, go_on: None
        call = self.call(holding)
        holding.drain.stop()
        assert not call.empty()
        assert len(holding.ledger.outbox) == 5

    def test_calls_that_wait_share_one_flush(self, drained: Drained) -> None:
        calls = [self.call(drained) for _ in range(5)]
        drained.drain.start()
        assert {call.get(timeout=PATIENCE_SECONDS) for call in calls} == {0}
        assert len(drained.rolled_up) == 1
        assert [type(event) for event in drained.log.events] == [Flushed]

    def test_calls_that_want_another_clock_get_a_flush_each(self, drained: Drained) -> None:
        calls = [self.call(drained, as_of_us) for as_of_us in (T0 + SECOND, T0 + HOUR, T0 + HOUR)]
        drained.drain.start()
        for call in calls:
            call.get(timeout=PATIENCE_SECONDS)
        assert [flush.now_us for flush in drained.rolled_up] == [T0 + SECOND, T0 + HOUR]

    def test_a_flush_sees_all_that_came_before_the_call_and_its_rows_wait_when_the_call_hears_of_it(
        self, drained: Drained
    ) -> None:
        drained.opens(1)
        message = request(1, [report(1, T0 - HOUR, T0 - SECOND)]).SerializeToString()
        drained.drain.put(Received(1, "c", message, T0, 0))
        rows: queue.SimpleQueue[int] = queue.SimpleQueue()
        drained.drain.put(FlushCall(None, lambda _: rows.put(len(drained.ledger.outbox))))
        drained.drain.start()
        assert rows.get(timeout=PATIENCE_SECONDS) == 1
        assert drained.ledger.outbox.peek(1).rows.cells["session_id"][0].tobytes() == session(1)

    def test_a_call_is_told_the_stamp_up_to_which_rows_are_owed(self, drained: Drained) -> None:
        drained.opens(1)
        drained.drain.start()
        stamps = []
        for number in (1, 2):
            message = request(number, [report(number, T0 - HOUR, T0 - SECOND)]).SerializeToString()
            drained.drain.put(Received(1, "c", message, T0, 0))
            stamps.append(self.call(drained).get(timeout=PATIENCE_SECONDS))
        assert 0 < stamps[0] < stamps[1]
        assert drained.asks().outbox.owes(stamps[0])

    def test_whoever_delivers_rows_hears_of_new_ones_and_of_those_written(self, drained: Drained) -> None:
        drained.opens(1)
        message = request(1, [report(1, T0 - HOUR, T0 - SECOND)]).SerializeToString()
        drained.drain.put(Received(1, "c", message, T0, 0))
        stamp = self.call(drained)
        drained.drain.start()
        drained.kicks.get(timeout=PATIENCE_SECONDS)
        waiting = drained.asks().outbox.peek(1)
        drained.drain.put(Written(waiting.serials, stamp.get(timeout=PATIENCE_SECONDS), T0))
        drained.kicks.get(timeout=PATIENCE_SECONDS)
        assert len(drained.asks().outbox) == 0

    def test_a_call_with_a_clock_of_its_own_leaves_the_daemons_clock_alone(self, drained: Drained) -> None:
        self.call(drained, T0 + HOUR)
        drained.drain.start()
        drained.asks()
        [event] = drained.log.events
        assert isinstance(event, Flushed)
        assert (event.now_us, event.wall_us) == (T0 + HOUR, T0)


class TestTheTimer:
    @pytest.fixture
    def timed(self) -> Iterator[Callable[[int | None], Drained]]:
        made: list[Drained] = []

        def make(first_flush_us: int | None) -> Drained:
            drained = Drained()
            drained.make(first_flush_us)
            made.append(drained)
            return drained

        yield make
        for drained in made:
            drained.drain.stop()

    def test_the_first_flush_comes_after_its_part_of_the_interval_then_one_comes_each_interval(
        self, timed: Callable[[int | None], Drained]
    ) -> None:
        drained = timed(7 * SECOND)
        flushed = []
        drained.drain.start()
        for passed in (0, 6_999_999, 7_000_000, 7_000_001, 36_999_999, 37_000_000, 67_000_000):
            drained.clock.passed = passed
            drained.asks()
            flushed.append(len(drained.rolled_up))
        assert flushed == [0, 0, 1, 1, 1, 2, 3]

    def test_flushes_that_were_missed_are_not_made_up_for_and_the_daemons_part_of_the_interval_stays(
        self, timed: Callable[[int | None], Drained]
    ) -> None:
        drained = timed(7 * SECOND)
        drained.drain.start()
        flushed = []
        for passed in (7, 3_600, 3_600, 3_606, 3_607, 3_636, 3_637):
            drained.clock.passed = passed * SECOND
            drained.asks()
            flushed.append(len(drained.rolled_up))
        assert flushed == [1, 2, 2, 2, 3, 3, 4]
        assert len(drained.timer_stamps) == 4

    def test_it_wakes_the_drain_by_itself(self, timed: Callable[[int | None], Drained]) -> None:
        drained = timed(1)
        drained.clock.passed = 1
        drained.drain.start()
        assert drained.log.asked.acquire(timeout=PATIENCE_SECONDS)

    def test_without_one_nothing_is_flushed_unless_somebody_asks(self, timed: Callable[[int | None], Drained]) -> None:
        drained = timed(None)
        drained.drain.start()
        drained.clock.passed = 24 * HOUR
        drained.asks()
        assert drained.rolled_up == []


def test_a_start_is_an_event_like_others(drained: Drained) -> None:
    rules = Rules(window_us=5 * SECOND)
    drained.drain.put(Started(rules, T0, 0))
    drained.drain.start()
    drained.asks()
    assert [type(event) for event in drained.log.events] == [Started]


def test_whoever_is_to_be_forgotten_is_once_it_is_durable_with_what_came_before(drained: Drained) -> None:
    held: queue.SimpleQueue[Held] = queue.SimpleQueue()
    gone: queue.SimpleQueue[None] = queue.SimpleQueue()
    drained.opens(1)
    drained.says(1, 1)
    drained.drain.put(ForgetCall(app().user_id, held.put, lambda: gone.put(None)))
    drained.drain.start()
    assert held.get(timeout=PATIENCE_SECONDS).collected.live_sessions == 1
    gone.get(timeout=PATIENCE_SECONDS)
    drained.kicks.get(timeout=PATIENCE_SECONDS)
    assert drained.asks().collector.sessions == 0
    assert [type(event) for event in drained.log.events] == [Came, Received, Forgotten]


def test_a_log_that_needs_another_look_to_let_go_gets_one(drained: Drained) -> None:
    looks = threading.Semaphore(0)
    drained.log.purge = lambda gone, again: again()  # type: ignore[method-assign]
    drained.log.applied = lambda ledger: looks.release()  # type: ignore[method-assign]
    drained.drain.put(ForgetCall(app().user_id, lambda held: None, lambda: None))
    drained.drain.start()
    for _ in range(2):
        assert looks.acquire(timeout=PATIENCE_SECONDS)
