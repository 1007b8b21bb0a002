"""What the deliverer does while the database takes rows, does not, and does again."""

from __future__ import annotations

import queue
import threading
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from appstatsd.collect.apps import USER
from appstatsd.collect.rows import Rows
from appstatsd.deliver.deliverer import FULL_JITTER
from appstatsd.deliver.figures import DatabaseState
from appstatsd.deliver.segment import Int64s
from appstatsd.errors import StoreUnavailable
from structlog.testing import capture_logs

from tests.support.scripted_database import GONE, PATIENCE_SECONDS, Delivery, ScriptedDatabase
from tests.support.waiting_rows import T0, app, block, plain

HOUR_US = 3_600_000_000


def test_rows_land_in_their_order_and_the_flush_hears_of_it() -> None:
    delivery = Delivery(batch_size=10)
    with delivery.running():
        outcome = delivery.flush(block(range(25)))
    assert (outcome.rows_written, outcome.backlog_rows, outcome.error) == (25, 0, None)
    assert [len(batch) for batch in delivery.database.batches] == [10, 10, 5]
    assert delivery.database.landed == list(range(25))


def test_rows_land_without_anybody_asking() -> None:
    delivery = Delivery()
    with delivery.running():
        delivery.add(block([1]))
        delivery.database.wait_for_attempts(1)
    assert delivery.database.landed == [1]


def test_where_much_waits_several_batches_are_on_their_way_at_once() -> None:
    delivery = Delivery(batch_size=10, lanes=2)
    both = threading.Barrier(2, timeout=PATIENCE_SECONDS)
    delivery.database.script = [both.wait, both.wait]
    with delivery.running():
        assert delivery.flush(block(range(20))).error is None
    assert sorted(delivery.database.landed) == list(range(20))
    assert sorted(map(len, delivery.database.batches)) == [10, 10]


def test_where_the_daemon_has_much_else_to_do_one_batch_at_a_time_is_on_its_way() -> None:
    threads: list[threading.Thread] = []

    class Remembers(ScriptedDatabase):
        def report(self, rows: Rows) -> None:
            threads.append(threading.current_thread())
            super().report(rows)

    delivery = Delivery(batch_size=10, lanes=2, busy=True, reporter=Remembers())
    with delivery.running():
        assert delivery.flush(block(range(40))).error is None
    assert threads == [delivery.deliverer._thread] * 4


def test_a_flush_hears_why_one_of_several_batches_could_not_be_written() -> None:
    delivery = Delivery(batch_size=10, lanes=2, waits=True)
    both = threading.Barrier(2, timeout=PATIENCE_SECONDS)

    def gone() -> None:
        both.wait()
        raise GONE

    delivery.database.script = [both.wait, gone]
    with delivery.running():
        outcome = delivery.flush(block(range(20)))
        assert outcome.error is GONE
        assert outcome.backlog_rows == 10
        assert delivery.flush(block([20])).error is None
    assert sorted(delivery.database.landed) == list(range(21))


def test_nothing_is_paused_while_all_is_well() -> None:
    delivery = Delivery(batch_size=1)
    with delivery.running():
        for number in range(5):
            delivery.ask(delivery.add(block(range(number * 10, number * 10 + 10))), urgent=False)
            delivery.outcome()
    assert delivery.waited == []


def test_attempts_are_spaced_by_the_backoff_until_the_database_is_back() -> None:
    delivery = Delivery()
    delivery.database.script = [GONE] * 7
    with delivery.running():
        delivery.ask(delivery.add(block([1])), urgent=False)
        while delivery.outcome().error is not None:
            delivery.ask(1, urgent=False)
    backoffs = delivery.waited[:7]
    assert all(0 <= seconds <= 2**number for number, seconds in enumerate(backoffs))
    assert delivery.database.landed == [1]


def test_the_backoff_is_full_jitter_and_at_most_a_minute() -> None:
    for attempt in (1, 4, 7, 50):
        state = cast(Any, SimpleNamespace(attempt_number=attempt))
        drawn = [cast(Any, FULL_JITTER)(state) for _ in range(300)]
        high = min(60, 2 ** (attempt - 1))
        assert 0 <= min(drawn) < high / 4
        assert high * 3 / 4 < max(drawn) <= high


def test_the_backoff_begins_anew_after_a_batch_that_went_through() -> None:
    delivery = Delivery(batch_size=1)
    delivery.database.script = [GONE] * 9 + [None, GONE]
    with delivery.running():
        delivery.add(block([1, 2]))
        delivery.database.wait_for_attempts(12)
    assert delivery.waited[-1] <= 1


def test_new_rows_do_not_end_a_backoff_but_somebody_who_asks_does() -> None:
    delivery = Delivery(waits=True)
    delivery.database.down = GONE
    with delivery.running():
        delivery.add(block([1]))
        delivery.wait_for_a_wait()
        delivery.add(block([2]))
        assert delivery.waits_for is not None
        assert not delivery.waits_for.is_set()
        delivery.database.down = None
        outcome = delivery.flush(block([3]))
    assert outcome.error is None
    assert outcome.rows_written == 3
    assert delivery.database.batches == [[1, 2, 3]]
    assert delivery.database.attempts == 2


def test_an_ask_that_is_not_urgent_leaves_the_backoff_alone_and_learns_the_reason_in_time() -> None:
    delivery = Delivery(waits=True)
    delivery.database.down = GONE
    with delivery.running():
        stamp = delivery.add(block([1]))
        delivery.wait_for_a_wait()
        delivery.ask(stamp, seconds=0, urgent=False)
        assert delivery.outcome().error is GONE
        assert delivery.database.attempts == 1


def test_a_flush_hears_why_rows_cannot_be_written_and_they_stay() -> None:
    delivery = Delivery(waits=True)
    delivery.database.down = GONE
    with delivery.running():
        outcome = delivery.flush(block([1, 2]))
        assert outcome.error is GONE
        assert outcome.backlog_rows == 2
        figures = delivery.deliverer.figures()
        assert figures.database_state is DatabaseState.DOWN
        assert figures.last_error == str(GONE)
        delivery.database.down = None
        delivery.ask(1)
        assert delivery.outcome().error is None
        assert delivery.deliverer.figures().database_state is DatabaseState.UP
        assert delivery.deliverer.figures().last_error == ""


def test_a_flush_does_not_fail_by_an_attempt_that_was_under_way_when_it_came() -> None:
    delivery = Delivery(waits=True)
    reached, go_on = threading.Event(), threading.Event()

    def hang_and_fail() -> None:
        reached.set()
        assert go_on.wait(PATIENCE_SECONDS)
        raise GONE

    delivery.database.script = [hang_and_fail]
    with delivery.running():
        stamp = delivery.add(block([1]))
        assert reached.wait(PATIENCE_SECONDS)
        delivery.ask(stamp)
        go_on.set()
        assert delivery.outcome().error is None


def test_flushes_that_wait_share_attempts() -> None:
    delivery = Delivery(waits=True)
    reached, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        reached.set()
        assert go_on.wait(PATIENCE_SECONDS)

    delivery.database.script = [hang]
    with delivery.running():
        delivery.ask(delivery.add(block([1])))
        assert reached.wait(PATIENCE_SECONDS)
        stamps = [delivery.add(block([2, 3])), delivery.add(block([4]))]
        for stamp in stamps:
            delivery.ask(stamp)
        go_on.set()
        outcomes = [delivery.outcome() for _ in range(3)]
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert [outcome.rows_written for outcome in outcomes] == [1, 4, 4]
    assert delivery.database.batches == [[1], [2, 3, 4]]


def test_a_flush_with_nothing_to_write_is_answered_while_the_database_is_away() -> None:
    delivery = Delivery()
    delivery.database.down = GONE
    with delivery.running():
        delivery.ask(0)
        assert delivery.outcome().error is None


def test_a_flush_waits_until_the_one_writer_has_heard() -> None:
    delivery = Delivery()
    news: queue.Queue[tuple[Int64s, int]] = queue.Queue()
    delivery.deliverer._on_written = lambda serials, stamp: news.put((serials, stamp))
    with delivery.running():
        stamp = delivery.add(block([1]))
        delivery.ask(stamp)
        serials, as_of_stamp = news.get(timeout=PATIENCE_SECONDS)
        assert delivery.outcomes.empty()
        delivery.written(serials, as_of_stamp)
        assert delivery.outcome().error is None
    assert delivery.database.attempts == 1


def test_a_flush_is_answered_in_time_though_the_database_hangs_and_so_does_the_stop() -> None:
    delivery = Delivery()
    reached, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        reached.set()
        assert go_on.wait(PATIENCE_SECONDS)

    delivery.database.script = [GONE, None, hang]
    with delivery.running():
        delivery.ask(delivery.add(block([1])), urgent=False)
        while delivery.outcome().error is not None:
            delivery.ask(1, urgent=False)
        stamp = delivery.add(block([2]))
        assert reached.wait(PATIENCE_SECONDS)
        delivery.ask(stamp, seconds=0)
        error = delivery.outcome().error
        assert error is not None
        assert "time limit" in error.message  # not the trouble from before
        assert not delivery.stop(seconds=0)
        go_on.set()


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_backlog_is_written_with_pauses_as_long_as_its_batches_take(lanes: int) -> None:
    delivery = Delivery(batch_size=10, lanes=lanes)

    def gone() -> None:
        delivery.outbox.add(block(range(1, 40)))
        raise GONE

    def take(seconds: float) -> None:
        delivery.clock.now_s += seconds

    delivery.database.script = [
        gone,
        lambda: take(1),
        lambda: take(2),
        lambda: take(3),
        lambda: delivery.outbox.add(block([100])),
        lambda: take(7),
    ]
    with delivery.running():
        delivery.add(block([0]))
        delivery.database.wait_for_attempts(6)
    assert delivery.waited[1:] == [1, 2, 3]
    assert delivery.database.landed == [*range(40), 100]


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_backlog_from_before_the_start_is_written_with_pauses(lanes: int) -> None:
    delivery = Delivery(batch_size=10, lanes=lanes)
    delivery.outbox.add(block(range(30)))
    with delivery.running():
        delivery.database.wait_for_attempts(3)
    assert len(delivery.waited) == 2


def test_a_flush_that_waits_for_the_backlog_ends_the_pause_and_the_pauses() -> None:
    delivery = Delivery(batch_size=10, waits=True)
    delivery.outbox.add(block(range(50)))
    with delivery.running():
        delivery.wait_for_a_wait()
        delivery.ask(1)
        assert delivery.outcome().error is None
    assert len(delivery.waited) == 1


def test_a_stop_ends_a_backoff_at_once_after_one_last_attempt() -> None:
    delivery = Delivery(waits=True)
    delivery.database.down = GONE
    with delivery.running():
        delivery.add(block([1]))
        delivery.wait_for_a_wait()
        assert delivery.stop()
        assert delivery.database.attempts == 2
    assert len(delivery.outbox) == 1


def test_a_stop_writes_what_waits_without_pauses() -> None:
    delivery = Delivery(batch_size=10, waits=True)
    delivery.outbox.add(block(range(50)))
    with delivery.running():
        delivery.wait_for_a_wait()
        assert delivery.stop()
    assert delivery.database.landed == list(range(50))


def test_a_stop_whose_time_is_up_makes_no_attempt() -> None:
    delivery = Delivery(waits=True)
    delivery.database.down = GONE
    with delivery.running():
        delivery.add(block([1]))
        delivery.wait_for_a_wait()
        delivery.stop(seconds=0)
        delivery.deliverer._thread.join(PATIENCE_SECONDS)
        assert delivery.database.attempts == 1
    assert delivery.deliverer.figures().last_error == str(GONE)


def test_whoever_still_asks_when_it_stops_is_told_so() -> None:
    delivery = Delivery(waits=True)
    news: list[int] = []
    delivery.deliverer._on_written = lambda serials, stamp: news.append(stamp)
    with delivery.running():
        delivery.ask(delivery.add(block([1])))
    error = delivery.outcome().error
    assert error is not None
    assert "stops" in error.message
    delivery.ask(1)
    assert delivery.outcome().error is error


def test_both_threads_end_with_the_stop() -> None:
    delivery = Delivery()
    with delivery.running():
        assert {"appstatsd-deliver", "appstatsd-deliver-asks"} <= {each.name for each in threading.enumerate()}
    assert not delivery.deliverer._thread.is_alive()
    assert not delivery.deliverer._watch.is_alive()


def test_a_refused_row_is_quarantined_and_the_flush_is_told_that_all_is_well() -> None:
    delivery = Delivery()
    delivery.database.bad = {4}
    with delivery.running():
        outcome = delivery.flush(block(range(10)))
    assert (outcome.error, outcome.rows_written, outcome.backlog_rows) == (None, 9, 0)
    [row] = delivery.quarantine.page(0, 9)
    assert (row.message, row.sqlstate) == ("row 4 is bad", "23514")
    figures = delivery.deliverer.figures()
    assert figures.database_state is DatabaseState.UP
    assert figures.rows_written == 9
    assert figures.errors["23"] == delivery.database.attempts - len(delivery.database.batches)


def test_while_all_is_refused_new_rows_are_tried_as_they_come() -> None:
    delivery = Delivery(waits=True)
    delivery.database.bad = {1}
    with delivery.running():
        outcome = delivery.flush(block([1]))
        assert outcome.error is not None
        assert delivery.deliverer.figures().database_state is DatabaseState.UP
        delivery.ask(delivery.add(block([2])), urgent=False)
        assert delivery.outcome().error is None
    assert set(delivery.database.landed) == {2}
    assert len(delivery.quarantine) == 1


def test_a_table_that_refuses_all_counts_as_down_and_says_what_to_do() -> None:
    delivery = Delivery(waits=True)
    delivery.database.bad = {1, 2}
    with delivery.running():
        error = delivery.flush(block([1, 2])).error
        figures = delivery.deliverer.figures()
        delivery.database.bad = set()
    assert error is not None
    assert "nothing is quarantined" in error.advice
    assert figures.database_state is DatabaseState.DOWN
    assert "row 2 is bad" in figures.last_error
    assert sum(figures.errors.values()) == 3


def test_a_change_of_the_databases_state_is_told_once() -> None:
    delivery = Delivery()
    delivery.database.script = [GONE] * 5
    with delivery.running():
        delivery.ask(delivery.add(block([1])))
        while delivery.outcome().error is not None:
            delivery.ask(1)
        delivery.database.bad = {2, 3}
        for _ in range(3):
            delivery.ask(delivery.outbox.add(block([2, 3])))
            assert delivery.outcome().error is not None
        delivery.database.bad = set()
        delivery.ask(2)
        while delivery.outcome().error is not None:
            delivery.ask(2)
    assert delivery.states == ["down", "up", "down", "up"]


def test_what_a_probe_finds_counts_while_nothing_is_written() -> None:
    delivery = Delivery()
    delivery.deliverer.probed(GONE)
    assert delivery.deliverer.figures().database_state is DatabaseState.DOWN
    assert delivery.deliverer.figures().last_error == str(GONE)
    delivery.deliverer.probed(None)
    assert delivery.deliverer.figures().last_error == ""
    delivery.outbox.add(block([1]))
    delivery.deliverer.probed(GONE)
    assert delivery.states == ["down", "up"]


def test_rows_that_ended_over_an_hour_ago_count_as_late() -> None:
    delivery = Delivery()
    with delivery.running():
        delivery.flush(block([1], ended_us=T0 - HOUR_US))
        delivery.flush(block([2, 3], ended_us=T0 - HOUR_US - 1))
        figures = delivery.deliverer.figures()
    assert (figures.rows_written, figures.rows_written_late) == (3, 2)
    assert figures.last_success_us == T0


def test_errors_are_counted_by_their_class() -> None:
    delivery = Delivery()
    delivery.database.script = [GONE, StoreUnavailable("no answer"), GONE]
    with delivery.running():
        delivery.add(block([1]))
        delivery.database.wait_for_attempts(4)
    assert delivery.deliverer.figures().errors == {"57": 2, "none": 1}


def test_before_the_first_attempt_the_database_is_neither_up_nor_down() -> None:
    assert Delivery().deliverer.figures().database_state is DatabaseState.UNKNOWN


def test_an_outage_is_logged_when_it_begins_and_when_it_ends() -> None:
    with capture_logs() as logs:
        delivery = Delivery()
        delivery.database.script = [GONE] * 20
        with delivery.running():
            delivery.add(block([1, 2]))
            delivery.database.wait_for_attempts(21)
    begin, end = logs
    assert (begin["log_level"], begin["reason"], begin["what_to_do"]) == ("error", GONE.message, "start PostgreSQL")
    assert begin["backlog_rows"] == 2
    assert (end["log_level"], end["attempts"]) == ("warning", 20)


@pytest.mark.parametrize("error", [RuntimeError("no such thing"), ZeroDivisionError()])
def test_an_error_of_its_own_is_logged_and_does_not_end_it(error: Exception) -> None:
    with capture_logs() as logs:
        delivery = Delivery()
        delivery.database.script = [error]
        with delivery.running():
            assert repr(error) in str(delivery.flush(block([1])).error)
            delivery.ask(1)
            assert delivery.outcome().error is None
    assert [each["log_level"] for each in logs] == ["error"]
    assert delivery.waited == [10]


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_while_one_thread_adds_and_others_deliver_the_newest_row_of_every_key_lands(seed: int, lanes: int) -> None:
    random = Random(seed)
    delivery = Delivery(batch_size=7, lanes=lanes)
    table: dict[int, int] = {}
    news: queue.SimpleQueue[tuple[Int64s, int]] = queue.SimpleQueue()

    def report(rows: Rows) -> None:
        if random.random() < 0.05:
            raise GONE
        table.update((row.session, row.requests) for row in plain(rows))

    delivery.database.report = report  # type: ignore[method-assign]
    delivery.deliverer._on_written = lambda serials, stamp: news.put((serials, stamp))
    newest: dict[int, int] = {}
    with delivery.running():
        for number in range(1, 400):
            sessions = random.sample(range(60), random.randrange(1, 20))
            newest.update(dict.fromkeys(sessions, number))
            stamp = delivery.add(block(sessions, requests=number, made_us=T0 + number))
            while random.random() < 0.7 and not news.empty():
                delivery.written(*news.get())
        while delivery.outbox.owes(stamp):
            delivery.written(*news.get(timeout=PATIENCE_SECONDS))
    assert table == newest
    assert len(delivery.outbox) == 0


def test_nothing_that_was_erased_is_on_its_way_once_that_is_said() -> None:
    delivery = Delivery()
    taken, go_on, said = threading.Event(), threading.Event(), threading.Event()

    def slowly() -> None:
        taken.set()
        assert go_on.wait(PATIENCE_SECONDS)

    delivery.database.script = [slowly]
    with delivery.running():
        delivery.add(block([1, 2]))
        assert taken.wait(PATIENCE_SECONDS)
        assert delivery.outbox.forget_person(bytes(app()[USER])) == 2
        delivery.deliverer.erased(said.set)
        assert not said.is_set()
        go_on.set()
        assert said.wait(PATIENCE_SECONDS)
        assert delivery.database.landed == [1, 2]
        delivery.deliverer.kick()
    assert delivery.database.landed == [1, 2]


def test_it_is_said_when_the_batches_that_were_on_their_way_are_written_though_many_more_wait() -> None:
    delivery = Delivery(batch_size=10, lanes=2)
    both = threading.Barrier(2, timeout=PATIENCE_SECONDS)
    landed: list[int] = []

    def erased() -> None:
        both.wait()
        delivery.deliverer.erased(lambda: landed.append(len(delivery.database.landed)))
        both.wait()

    def written_meanwhile() -> None:
        both.wait()
        both.wait()

    delivery.database.script = [erased, written_meanwhile]
    with delivery.running():
        assert delivery.flush(block(range(500))).error is None
    assert landed == [20]


def test_where_nothing_is_being_written_it_is_said_at_once() -> None:
    delivery = Delivery()
    said: list[bool] = []
    delivery.deliverer.erased(lambda: said.append(True))
    assert said == [True]


def test_it_is_said_too_where_the_attempt_fails() -> None:
    delivery = Delivery(waits=True)
    said = threading.Event()

    def fail() -> None:
        delivery.deliverer.erased(said.set)
        raise GONE

    delivery.database.script = [fail]
    with delivery.running():
        delivery.add(block([1]))
        assert said.wait(PATIENCE_SECONDS)


def test_whoever_waits_for_rows_that_are_erased_is_answered() -> None:
    delivery = Delivery(waits=True)
    delivery.database.down = GONE
    with delivery.running():
        stamp = delivery.add(block([1]))
        delivery.wait_for_a_wait()
        delivery.ask(stamp, urgent=False)
        delivery.outbox.forget_person(bytes(app()[USER]))
        delivery.deliverer.kick()
        assert delivery.outcome().error is None
