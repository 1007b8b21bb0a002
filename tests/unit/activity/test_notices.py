"""Who is told of activity is told once an interval, and costs what is written nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pytest
from appstatsd.activity.notices import ActivityFigures, Notice, NotTold, Teller, ToldReporter, last_used_us
from appstatsd.collect.apps import app_key
from appstatsd.collect.rows import CELLS, Rows
from appstatsd.errors import StoreUnavailable
from structlog.testing import capture_logs

PATIENCE_SECONDS: Final = 30.0
LONG_SECONDS: Final = 3600.0
ONE, TWO = b"1" * 16, b"2" * 16


class Told:
    """Takes notices; a test may have it wait or fail."""

    def __init__(self) -> None:
        self.notices: list[list[Notice]] = []
        self.came = threading.Semaphore(0)
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.error: Exception | None = None

    def __call__(self, notices: Sequence[Notice]) -> None:
        self.notices.append(list(notices))
        self.came.release()
        assert self.may_go_on.wait(PATIENCE_SECONDS)
        if self.error is not None:
            raise self.error

    def wait(self) -> None:
        assert self.came.acquire(timeout=PATIENCE_SECONDS)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def tellers() -> Iterator[list[Teller]]:
    """What a test starts; all are stopped."""
    started: list[Teller] = []
    yield started
    for teller in started:
        teller.stop(PATIENCE_SECONDS)


def started(tellers: list[Teller], told: Told, seconds: float, room: int = 100) -> Teller:
    teller = Teller("test", told, seconds, room=room)
    teller.start()
    tellers.append(teller)
    return teller


def test_the_first_use_is_told_at_once_and_what_follows_is_merged_until_the_interval_is_over(
    told: Told, tellers: list[Teller]
) -> None:
    waits = threading.Semaphore(0)
    over = threading.Event()

    def wait(stopping: threading.Event, seconds: float) -> bool:
        assert seconds == LONG_SECONDS
        waits.release()
        assert over.wait(PATIENCE_SECONDS)
        return stopping.is_set()

    teller = Teller("test", told, LONG_SECONDS, wait=wait)
    teller.start()
    tellers.append(teller)
    teller.used({ONE: 5})
    told.wait()
    assert waits.acquire(timeout=PATIENCE_SECONDS)
    teller.used({ONE: 7, TWO: 3})
    teller.used({ONE: 6})
    assert len(told.notices) == 1
    over.set()
    told.wait()
    assert told.notices == [[Notice(ONE, 5)], [Notice(ONE, 7), Notice(TWO, 3)]]


def test_a_stop_tells_what_waits_without_waiting_for_the_interval(told: Told) -> None:
    teller = Teller("test", told, LONG_SECONDS)
    teller.start()
    teller.used({ONE: 5})
    told.wait()
    teller.used({TWO: 3})
    teller.stop(PATIENCE_SECONDS)
    assert told.notices == [[Notice(ONE, 5)], [Notice(TWO, 3)]]
    assert teller.figures() == ActivityFigures(told=2, dropped=0)


def test_after_the_interval_it_tells_again(told: Told, tellers: list[Teller]) -> None:
    teller = started(tellers, told, 0.001)
    for used_us in range(5):
        teller.used({ONE: used_us})
        told.wait()
    assert [notice for [notice] in told.notices] == [Notice(ONE, used_us) for used_us in range(5)]


def test_who_is_slow_is_told_later_and_what_finds_no_room_is_dropped_and_counted(
    told: Told, tellers: list[Teller]
) -> None:
    teller = started(tellers, told, 0.0, room=2)
    told.may_go_on.clear()
    teller.used({ONE: 1})
    told.wait()
    for number in range(5):
        teller.used({bytes([number]) * 16: number})  # returns although nobody listens
    teller.used({b"\0" * 16: 9})  # one that waits is still renewed
    assert teller.figures().dropped == 3
    told.may_go_on.set()
    told.wait()
    assert told.notices[1] == [Notice(b"\0" * 16, 9), Notice(b"\1" * 16, 1)]


@pytest.mark.parametrize("error", [NotTold("nobody there"), ValueError("a bug")])
def test_what_does_not_get_through_is_counted_and_the_next_is_tried(
    told: Told, tellers: list[Teller], error: Exception
) -> None:
    told.error = error
    with capture_logs() as logs:
        teller = started(tellers, told, 0.0)
        for number in range(3):
            teller.used({ONE: number})
            told.wait()
        told.error = None
        teller.used({ONE: 9})
        told.wait()
        teller.stop(PATIENCE_SECONDS)
    assert teller.figures() == ActivityFigures(told=1, dropped=3)
    said = [log["event"] for log in logs if log["log_level"] in ("warning", "info")]
    assert said == ["Activity can't be told at present", "Activity is told again"]
    traces = [log for log in logs if log["log_level"] == "error"]
    assert len(traces) == (0 if isinstance(error, NotTold) else 3)


def test_a_stop_does_not_wait_for_who_hangs(told: Told) -> None:
    teller = Teller("test", told, 0.0)
    teller.start()
    told.may_go_on.clear()
    teller.used({ONE: 1})
    told.wait()
    teller.stop(0.01)
    told.may_go_on.set()


def rows(*made: tuple[bytes, int, int]) -> Rows:
    cells = np.zeros(len(made), CELLS)
    cells["ended_us"] = [ended for _, ended, _ in made]
    cells["made_us"] = [made_us for _, _, made_us in made]
    return Rows([app_key(b"u" * 16, workspace, b"a" * 16, 1, "code") for workspace, _, _ in made], cells)


def test_a_workspace_was_used_when_its_latest_row_ends_but_not_after_that_was_made() -> None:
    assert last_used_us(rows((ONE, 5, 9), (TWO, 20, 9), (ONE, 7, 9), (ONE, 6, 9))) == {ONE: 7, TWO: 9}


def test_only_what_was_committed_is_told(told: Told, tellers: list[Teller]) -> None:
    class Database:
        away = True

        def report(self, rows: Rows) -> None:
            if self.away:
                raise StoreUnavailable("away")

    database = Database()
    reporter = ToldReporter(database, [started(tellers, told, 0.0)])
    with pytest.raises(StoreUnavailable):
        reporter.report(rows((ONE, 5, 9)))
    database.away = False
    reporter.report(rows((TWO, 5, 9)))
    told.wait()
    assert told.notices == [[Notice(TWO, 5)]]


def test_a_notice_has_its_id_and_its_time_in_utc() -> None:
    assert Notice(bytes(15) + b"\x0b", 1_800_000_000_000_001).as_json() == {
        "workspace_id": "00000000-0000-0000-0000-00000000000b",
        "last_used_at": "2027-01-15T08:00:00.000001Z",
    }
