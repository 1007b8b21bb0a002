"""What would a naive collector get wrong at the edges of times and counts?

One history for each trap, with what SPEC section 2 says comes of it. Times are as `tests.support.told` has them.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from appstatsd.collect.batch import Reason
from appstatsd.collect.rows import MAX_REQUESTS
from appstatsd.collect.rules import Rules

from tests.support.reports import (
    T0,
    app,
    arrival,
    later,
    plain,
    report,
    row,
    workspace,
)
from tests.support.told import LIVE, Told, at, lasting, live, own, rolled

# The edges of the window.


def test_a_session_that_starts_on_the_edge_of_a_window_is_in_the_window_that_begins_there(told: Told) -> None:
    told.hear(90, report(1, at(60) - 1, at(61)), report(2, at(60), at(61)))
    assert told.flush(100) == [rolled(1, 0, made=100), rolled(2, 1, made=100)]


def test_a_session_of_exactly_one_window_is_rolled_up_and_one_of_a_microsecond_more_is_not(told: Told) -> None:
    told.hear(90, report(1, at(7), at(67)), report(2, at(7), at(67) + 1))
    assert told.flush(100) == [rolled(1, 0, made=100), row(2, at(7), at(67) + 1, at(100))]


def test_400_nanoseconds_more_than_one_window_are_cut_off_before_anything_is_compared(told: Told) -> None:
    told.hear(90, later(report(1, at(7), at(67)), end_ns=400), later(report(2, at(7), at(67)), start_ns=999))
    assert told.flush(100) == [rolled(1, 0, made=100, requests=2, sessions=2)]


def test_start_and_end_are_cut_and_not_the_time_between_them(told: Told) -> None:
    told.hear(90, later(report(1, at(7), at(67)), start_ns=600, end_ns=600 + 400))
    assert told.flush(100) == [row(1, at(7), at(67) + 1, at(100))]


def test_a_live_session_waits_for_exactly_one_window(told: Told) -> None:
    told.hear(8, live(7))
    assert told.flush(67) == []
    assert told.flush(67.000001) == [own(1, 7, 67.000001, made=67.000001, source=LIVE)]


def test_an_end_in_the_first_microsecond_of_1970_is_an_end_and_not_a_live_session(told: Told) -> None:
    assert told.hear(10, replace(live(0), ended_ns=999)) == [(0, Reason.INVALID_TIME)]
    assert told.collector.live_sessions == 0


# Forgetting. A session settled at 60 s is remembered until 60 + 120 + 2 · 60 = 300 s.


def test_a_late_report_for_a_group_that_is_about_to_go_is_counted_in_its_row(told: Told) -> None:
    told.hear(10, lasting(0, 5, number=1))
    told.flush(60)
    assert told.flush(300) == []
    told.hear(301, lasting(0, 5, number=1, requests=3), lasting(0, 5, number=2))
    assert told.flush(302) == [rolled(1, 0, made=302, requests=4, sessions=2)]


def test_a_straggler_does_not_make_a_group_stay_longer(told: Told) -> None:
    told.hear(10, lasting(0, 5))
    told.flush(60)
    told.hear(299, lasting(0, 5, requests=3))
    assert told.flush(300) == [rolled(1, 0, made=300, requests=3)]
    told.flush(300.000001)
    assert (told.collector.sessions, told.collector.groups) == (0, 0)


def test_a_late_session_for_a_group_that_has_gone_begins_a_new_row(told: Told) -> None:
    told.hear(10, lasting(0, 5, number=1))
    told.flush(60)
    told.flush(300.000001)
    told.hear(301, lasting(0, 6, number=2))
    assert told.flush(302) == [rolled(2, 0, made=302)]


def test_a_group_stays_until_its_window_ended_more_than_one_window_ago() -> None:
    told = Told(Rules(client_grace_us=0))
    told.hear(0, lasting(290, 5))  # begins in the window from 240 to 300, ahead of the clock
    told.flush(1)
    told.flush(360)
    assert told.collector.groups == 1
    told.flush(360.000001)
    assert told.collector.groups == 0


def test_a_settled_session_goes_only_with_its_whole_group(told: Told) -> None:
    told.hear(10, lasting(0, 5, number=1), live(50, number=2))
    told.flush(60)
    told.flush(400)
    told.hear(401, lasting(0, 5, number=1))  # known, so it is neither a ghost nor counted twice
    told.hear(402, lasting(50, 351, number=2))
    assert told.flush(403) == [own(2, 50, 401, made=403)]
    told.flush(643)
    assert told.collector.sessions == 2
    told.flush(643.000001)
    assert told.collector.sessions == 0


# Many, and large.


@pytest.mark.parametrize("many", [1_024, 100_000])
def test_every_one_of_many_workspaces_has_its_row_in_one_flush(told: Told, many: int) -> None:
    apps = [replace(app(), workspace_id=workspace(number + 1)) for number in range(many)]
    for begin in range(0, many, 10_000):
        numbers = range(begin, min(begin + 10_000, many))
        reports = [report(number, T0, at(5), number, apps[number]) for number in numbers]
        told.collector.accept([arrival("proxy", reports, at(10), told.mono(10))])
    rows = told.collector.flush(at(20), told.mono(20)).rows
    assert len(rows) == many
    assert list(plain(rows).values()) == [
        row(number, T0, at(60), at(20), number, of=apps[number]) for number in range(many)
    ]
    assert sum(len(part) for part in rows.batches(1_024)) == many


def test_a_count_that_the_table_cannot_hold_counts_as_the_largest_that_it_can(told: Told) -> None:
    told.hear(100, lasting(0, 90, number=1, requests=2**31), lasting(0, 90, number=2, requests=2**32 - 1))
    assert [one.requests for one in told.flush(120)] == [MAX_REQUESTS, MAX_REQUESTS]
    told.hear(130, lasting(0, 90, number=1, requests=2**31 + 1))
    assert told.flush(150) == []


def test_a_sum_that_the_table_cannot_hold_stays_at_the_largest_that_it_can(told: Told) -> None:
    told.hear(10, lasting(0, 5, number=1, requests=MAX_REQUESTS - 2), lasting(0, 5, number=2, requests=2))
    assert [one.requests for one in told.flush(20)] == [MAX_REQUESTS]
    told.hear(21, *(lasting(0, 5, number, 2**32 - 1) for number in range(3, 10)))
    assert told.flush(30) == [rolled(1, 0, made=30, requests=MAX_REQUESTS, sessions=9)]
    told.hear(31, lasting(0, 5, number=1, requests=MAX_REQUESTS))
    assert [one.requests for one in told.flush(40)] in ([], [MAX_REQUESTS])


# Clocks.


def test_a_small_step_back_of_the_clock_does_not_take_the_rows_back(told: Told) -> None:
    told.hear(1, live(0))
    told.flush(1_000)
    assert told.flush(999.999999) == [own(1, 0, 1_000, made=1_000, source=LIVE)]
    assert told.flush(400) == [own(1, 0, 1_000, made=1_000, source=LIVE)]


def test_a_large_step_back_of_the_clock_is_followed_but_no_end_precedes_its_start(told: Told) -> None:
    told.hear(900, live(800))
    told.flush(1_000)
    assert told.flush(399.999999) == []
    told.hear(400, lasting(800, 30))
    assert told.flush(410) == [own(1, 800, 830, made=410)]


def test_a_client_that_closes_after_a_step_back_of_the_clock_ends_no_session_before_its_start(told: Told) -> None:
    told.hear(900, live(800))
    told.flush(1_000)
    told.close(700)
    assert told.flush(1_010) == [own(1, 800, 800, made=1_010)]


def test_graces_are_measured_on_the_monotonic_clock_whatever_the_other_says(told: Told) -> None:
    told.hear(1, live(0))
    told.went(100)
    assert told.flush(5_000, mono=told.mono(220)) == []
    told.came(220)
    assert told.collector.abandoned == 0
