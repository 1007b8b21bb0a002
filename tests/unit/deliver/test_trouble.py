"""How much the log says of trouble."""

from __future__ import annotations

from appstatsd.deliver.outbox import Outbox
from appstatsd.deliver.trouble import TroubleLog
from appstatsd.errors import RowsRefused, StoreUnavailable
from structlog.testing import capture_logs

from tests.support.scripted_database import GONE, Clock
from tests.support.waiting_rows import block

MISSING = StoreUnavailable('relation "workspace_app_stats" does not exist', "42P01", "run `appstatsd migrate`")


def test_a_new_reason_is_said_again_after_a_minute() -> None:
    clock = Clock()
    with capture_logs() as logs:
        trouble = TroubleLog(clock)
        for _ in range(100):
            trouble.failed(GONE, 1)
            clock.now_s += 1
        trouble.failed(MISSING, 1)
        trouble.failed(MISSING, 1)
        clock.now_s += 20
        assert trouble.over(5)
        assert not trouble.over(5)
    assert [each.get("what_to_do") for each in logs] == ["start PostgreSQL", "run `appstatsd migrate`", None]
    assert (logs[2]["seconds"], logs[2]["attempts"], logs[2]["backlog_rows"]) == (120, 102, 5)


def test_many_short_troubles_are_not_each_spoken_of() -> None:
    clock = Clock()
    with capture_logs() as logs:
        trouble = TroubleLog(clock)
        for _ in range(600):
            trouble.failed(GONE, 1)
            clock.now_s += 0.1
            trouble.over(0)
            clock.now_s += 0.1
    assert len(logs) == 2 * 2


def test_a_trouble_that_was_left_out_is_spoken_of_when_it_lasts() -> None:
    clock = Clock()
    with capture_logs() as logs:
        trouble = TroubleLog(clock)
        trouble.failed(GONE, 1)
        trouble.over(0)
        clock.now_s += 30
        trouble.failed(GONE, 1)
        assert len(logs) == 2
        clock.now_s += 31
        trouble.failed(GONE, 1)
        trouble.over(0)
    assert len(logs) == 4
    assert logs[3]["seconds"] == 31


def test_of_many_quarantined_rows_a_few_are_logged_with_how_many_were_not() -> None:
    clock = Clock()
    outbox = Outbox(0)
    outbox.add(block(range(100)))
    with capture_logs() as logs:
        trouble = TroubleLog(clock)
        for _ in range(100):
            trouble.quarantined(outbox.peek(1), RowsRefused("odd", "23514"))
            clock.now_s += 0.1
    assert [each["others_not_logged"] for each in logs] == [0, 49]
    assert logs[0]["session_id"] == "00000000-0000-0000-0000-000000000001"
