"""Batches on their way at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from appstatsd.deliver.lanes import Lanes
from appstatsd.deliver.outbox import Outbox, Waiting
from appstatsd.errors import RowsRefused, StoreUnavailable

from tests.support.waiting_rows import block, sessions

PATIENCE_SECONDS = 30.0
GONE = StoreUnavailable("gone", "57P01")


def batches(count: int) -> Iterator[Waiting]:
    """Of one row each."""
    outbox = Outbox(0)
    outbox.add(block(range(count)))
    yield from (outbox.peek(1, number) for number in range(count))


def number_of(batch: Waiting) -> int:
    [number] = sessions(batch.rows)
    return number


def _wait(barrier: threading.Barrier) -> None:
    barrier.wait()


def test_so_many_are_on_their_way_at_once() -> None:
    all_there = threading.Barrier(3, timeout=PATIENCE_SECONDS)
    sent = Lanes(3, lambda batch: _wait(all_there)).send(batches(9))
    assert [(number_of(batch), outcome) for batch, outcome in sent] == [(number, None) for number in range(9)]


def test_one_lane_sends_in_order_and_needs_no_thread() -> None:
    threads: list[tuple[int, threading.Thread]] = []
    Lanes(1, lambda batch: threads.append((number_of(batch), threading.current_thread()))).send(batches(4))
    assert threads == [(number, threading.current_thread()) for number in range(4)]


@pytest.mark.parametrize("failure", [GONE, RowsRefused("bad", "23514")])
def test_after_one_that_was_not_committed_none_is_begun(failure: RowsRefused | StoreUnavailable) -> None:
    def send(batch: Waiting) -> None:
        if number_of(batch) == 2:
            raise failure

    sent = Lanes(1, send).send(batches(9))
    assert [(number_of(batch), outcome) for batch, outcome in sent] == [(0, None), (1, None), (2, failure)]


def test_those_that_are_under_way_when_one_fails_come_to_their_end() -> None:
    under_way, failed = threading.Event(), threading.Event()

    def send(batch: Waiting) -> None:
        if number_of(batch) == 0:
            assert under_way.wait(PATIENCE_SECONDS)
            failed.set()
            raise GONE
        under_way.set()
        assert failed.wait(PATIENCE_SECONDS)

    outcomes = {number_of(batch): outcome for batch, outcome in Lanes(2, send).send(batches(9))}
    assert (outcomes[0], outcomes[1]) == (GONE, None)


@pytest.mark.parametrize("fails_in", ["the caller's thread", "another"])
def test_an_error_that_nobody_foresaw_is_raised_where_somebody_hears(fails_in: str) -> None:
    both = threading.Barrier(2, timeout=PATIENCE_SECONDS)

    def send(batch: Waiting) -> None:
        if number_of(batch) < 2:
            both.wait()  # so that each thread has one
            if (threading.current_thread() is caller) == (fails_in == "the caller's thread"):
                raise ZeroDivisionError

    caller = threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        Lanes(2, send).send(batches(9))


def test_nothing_is_on_its_way_when_it_returns() -> None:
    threads: set[threading.Thread] = set()
    Lanes(4, lambda batch: threads.add(threading.current_thread())).send(batches(50))
    assert {thread for thread in threads if thread.is_alive()} <= {threading.current_thread()}
