"""When old rows are removed, on a clock and with waits that a test holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from appstatsd.deliver.retention import AGAIN_SECONDS, BUSY_SECONDS, LOOKS, Retention
from appstatsd.errors import StoreUnavailable
from appstatsd.store.removal import Progress
from structlog.testing import capture_logs

DAY_SECONDS = 86_400.0
GONE = StoreUnavailable("server closed the connection unexpectedly", "57P01")
PATIENCE_SECONDS = 30.0


@dataclass
class Old:
    """Six pages in chunks of two, with ten old rows each."""

    claims: list[bool | StoreUnavailable | Exception] = field(default_factory=list)
    """What to answer, one after another; then False."""
    failures: dict[int, StoreUnavailable] = field(default_factory=dict)
    """By a page, what happens when it is come to; once."""
    every_us: list[int] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)

    def claim(self, every_us: int) -> bool:
        self.every_us.append(every_us)
        answer = self.claims.pop(0) if self.claims else False
        if isinstance(answer, Exception):
            raise answer
        return answer

    def remove(self, begin: int = 0) -> Iterator[Progress]:
        self.begins.append(begin)
        for page in range(begin, 6, 2):
            if page in self.failures:
                raise self.failures.pop(page)
            yield Progress(10, page + 2, 6)


@dataclass
class Waits:
    """Waits are over at once, until there have been so many; then the thread stands still until it is stopped."""

    most: int
    seconds: list[float] = field(default_factory=list)
    enough: threading.Event = field(default_factory=threading.Event)
    meanwhile: Callable[[], None] = lambda: None

    def __call__(self, event: threading.Event, seconds: float) -> None:
        self.seconds.append(seconds)
        self.meanwhile()
        if len(self.seconds) >= self.most:
            self.enough.set()
            assert event.wait(PATIENCE_SECONDS)


@contextmanager
def running(old: Old, waits: Waits, days: float = 90, idle: Callable[[], bool] = lambda: True) -> Iterator[Retention]:
    retention = Retention(old, int(days * DAY_SECONDS * 1_000_000), idle, clock=lambda: 0.0, wait=waits)
    retention.start()
    try:
        assert waits.enough.wait(PATIENCE_SECONDS)
        yield retention
    finally:
        retention.stop(PATIENCE_SECONDS)


def test_a_pass_that_is_due_goes_over_all_and_is_told_of_once() -> None:
    old = Old(claims=[True])
    with capture_logs() as log, running(old, Waits(4)) as retention:
        assert retention.removed == 30
    assert log == [
        {"event": "Old rows were removed", "log_level": "info", "rows": 30, "pages": 6, "seconds": 0.0},
    ]


def test_where_none_is_due_it_looks_again_and_touches_nothing() -> None:
    old, waits = Old(), Waits(3)
    with capture_logs() as log, running(old, waits) as retention:
        assert retention.removed == 0
    assert (old.begins, log) == ([], [])
    assert waits.seconds == [DAY_SECONDS / LOOKS] * 3


@pytest.mark.parametrize(("days", "every"), [(90, DAY_SECONDS), (5, DAY_SECONDS / 2), (1 / 24, 360.0)])
def test_passes_are_a_day_apart_or_ten_within_the_retention(days: float, every: float) -> None:
    old, waits = Old(claims=[True]), Waits(4)
    with running(old, waits, days):
        pass
    assert old.every_us == [int(every * 1_000_000)]
    assert waits.seconds[-1] == pytest.approx(every)


def test_a_pass_goes_on_from_where_the_database_went_away() -> None:
    old, waits = Old(claims=[True], failures={2: GONE}), Waits(5)
    with capture_logs() as log, running(old, waits) as retention:
        assert retention.removed == 30
    assert old.begins == [0, 2]
    assert AGAIN_SECONDS in waits.seconds
    assert [event["log_level"] for event in log] == ["warning", "info"]


def test_it_waits_while_rows_wait_to_be_written() -> None:
    busy = [True, True, True]

    def idle() -> bool:
        return not (busy and busy.pop())

    old, waits = Old(claims=[True]), Waits(7)
    with running(old, waits, idle=idle) as retention:
        assert retention.removed == 30
    assert waits.seconds[:3] == [BUSY_SECONDS] * 3


def test_it_stops_in_the_middle_of_a_pass() -> None:
    old, waits = Old(claims=[True]), Waits(2)
    with running(old, waits) as retention:
        assert retention.removed == 20
    assert retention.removed == 20


@pytest.mark.parametrize(("error", "level"), [(GONE, "warning"), (KeyError("foreseen by nobody"), "error")])
def test_nothing_ends_it(error: Exception, level: str) -> None:
    old, waits = Old(claims=[error, True]), Waits(5)
    with capture_logs() as log, running(old, waits) as retention:
        assert retention.removed == 30
    assert log[0]["log_level"] == level
    assert waits.seconds[0] == AGAIN_SECONDS


def test_one_that_was_never_started_can_be_stopped() -> None:
    Retention(Old(), 1, lambda: True).stop(1)
