"""What would a naive collector get wrong about reports and rows?

One history for each trap, with what SPEC section 2 says comes of it. Times are as `tests.support.told` has them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from appstatsd.collect.batch import Reason

from tests.support.reports import (
    T0,
    app,
    later,
    report,
    row,
    session,
    workspace,
)
from tests.support.told import LIVE, Told, at, lasting, live, own, rolled

# Reports of one session, again and again.


def test_a_session_reported_live_twice_and_then_ended_is_one_session_with_its_largest_count(told: Told) -> None:
    told.hear(1, live(0, requests=1))
    told.hear(20, live(0, requests=4))
    told.hear(40, lasting(0, 39, requests=3))
    assert told.flush(50) == [rolled(1, 0, made=50, requests=4)]


def test_a_long_session_is_written_at_every_flush_until_its_end_is_known_and_then_once(told: Told) -> None:
    told.hear(1, live(0))
    assert told.flush(30) == []
    told.hear(70, live(0, requests=2))
    assert told.flush(90) == [own(1, 0, 90, made=90, source=LIVE, requests=2)]
    assert told.flush(120) == [own(1, 0, 120, made=120, source=LIVE, requests=2)]
    told.hear(130, lasting(0, 125, requests=3))
    assert told.flush(150) == [own(1, 0, 125, made=150, requests=3)]
    assert told.flush(180) == []


def test_an_end_reported_twice_before_the_flush_counts_once(told: Told) -> None:
    told.hear(11, lasting(0, 10))
    told.hear(12, lasting(0, 10))
    assert told.flush(30) == [rolled(1, 0, made=30)]


def test_an_end_reported_twice_around_the_flush_changes_nothing(told: Told) -> None:
    told.hear(100, lasting(0, 10), lasting(0, 90, number=2))
    told.flush(120)
    told.hear(121, lasting(0, 10), lasting(0, 90, number=2))
    assert told.flush(150) == []


def test_the_later_of_two_ends_counts_whichever_comes_first(told: Told) -> None:
    told.hear(100, lasting(0, 90), lasting(0, 80, number=2))
    told.hear(101, lasting(0, 80), lasting(0, 90, number=2))
    assert told.flush(120) == [own(1, 0, 90, made=120), own(2, 0, 90, made=120)]


def test_an_ended_session_of_its_own_is_written_once_though_it_had_waited_live_before(told: Told) -> None:
    told.hear(1, live(0))
    told.flush(1)
    told.hear(2, lasting(0, 90))  # ahead of the clock
    assert told.flush(3) == [own(1, 0, 90, made=3)]
    assert told.flush(61) == []


def test_a_later_end_of_a_settled_row_of_its_own_is_written_and_an_earlier_one_is_not(told: Told) -> None:
    told.hear(100, lasting(0, 90))
    told.flush(120)
    told.hear(130, lasting(0, 80))
    assert told.flush(150) == []
    told.hear(160, lasting(0, 95))
    assert told.flush(180) == [own(1, 0, 95, made=180)]


def test_a_live_report_after_the_end_revives_nothing_before_the_flush_that_settles_it(told: Told) -> None:
    told.hear(11, lasting(0, 10))
    told.hear(12, live(0))
    assert told.flush(90) == [rolled(1, 0, made=90)]


def test_a_live_report_after_the_end_revives_nothing_after_the_flush_that_settled_it(told: Told) -> None:
    told.hear(100, lasting(0, 10), lasting(0, 90, number=2))
    told.flush(120)
    told.hear(121, live(0), live(0, number=2))
    assert told.flush(150) == []
    assert told.collector.live_sessions == 0


def test_a_live_report_after_the_end_still_brings_its_larger_count(told: Told) -> None:
    told.hear(100, lasting(0, 10), lasting(0, 90, number=2))
    told.flush(120)
    told.hear(121, live(0, requests=3), live(0, number=2, requests=4))
    assert told.flush(150) == [rolled(1, 0, made=150, requests=3), own(2, 0, 90, made=150, requests=4)]


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=lambda order: "".join(map(str, order)))
def test_the_order_of_one_sessions_reports_does_not_matter(told: Told, order: tuple[int, ...]) -> None:
    said = [live(0, requests=1), live(0, requests=5), lasting(0, 20, requests=2), lasting(0, 30, requests=3)]
    for place in order:
        told.hear(40, said[place])
    assert told.flush(50) == [rolled(1, 0, made=50, requests=5)]


def test_one_session_several_times_in_one_batch_is_one_session(told: Told) -> None:
    told.hear(40, live(0), lasting(0, 30, requests=2), live(0, requests=7), lasting(0, 20))
    assert told.flush(50) == [rolled(1, 0, made=50, requests=7)]


# Own rows and rolled-up rows.


def test_a_session_first_written_live_and_then_ended_within_the_window_is_counted_in_one_row(told: Told) -> None:
    told.hear(1, live(0), lasting(0, 5, number=2))
    assert told.flush(61) == [own(1, 0, 61, made=61, source=LIVE), rolled(2, 0, made=61)]
    told.hear(62, lasting(0, 20, requests=2))
    assert told.flush(90) == [own(1, 0, 20, made=90, requests=2)]


def test_two_sessions_of_one_group_rolled_up_in_different_flushes_are_one_row_with_the_sum(told: Told) -> None:
    told.hear(10, live(0, number=1, requests=2), lasting(1, 5, number=2, requests=3))
    assert told.flush(20) == [rolled(2, 0, made=20, requests=3)]
    told.hear(30, lasting(0, 25, number=1, requests=4))
    assert told.flush(40) == [rolled(2, 0, made=40, requests=7, sessions=2)]
    assert told.flush(50) == []


def test_a_rolled_up_row_has_the_id_of_the_session_that_was_accepted_first_not_of_the_one_that_ended_first(
    told: Told,
) -> None:
    told.hear(10, live(3, number=9), live(2, number=5))
    told.hear(20, lasting(1, 1, number=1))
    told.hear(30, lasting(2, 1, number=5))
    told.hear(40, lasting(3, 1, number=9))
    assert told.flush(50) == [rolled(9, 0, made=50, requests=3, sessions=3)]


def test_a_higher_count_of_a_rolled_up_session_adds_the_difference_once(told: Told) -> None:
    told.hear(10, lasting(0, 5, number=1, requests=2), lasting(0, 5, number=2, requests=3))
    told.flush(20)
    told.hear(30, lasting(0, 5, number=2, requests=7))
    told.hear(31, lasting(0, 5, number=2, requests=7))
    assert told.flush(40) == [rolled(1, 0, made=40, requests=9, sessions=2)]
    told.hear(41, lasting(0, 5, number=2, requests=7))
    assert told.flush(50) == []


def test_a_rolled_up_session_keeps_its_window_however_late_its_end(told: Told) -> None:
    told.hear(10, lasting(0, 5))
    told.flush(20)
    told.hear(100, lasting(0, 95))
    assert told.flush(120) == []
    told.hear(130, lasting(0, 95, requests=2))
    assert told.flush(150) == [rolled(1, 0, made=150, requests=2)]


def test_a_row_of_its_own_and_a_rolled_up_row_never_share_a_key_in_one_flush(told: Told) -> None:
    told.hear(10, lasting(0, 5, number=1), live(0, number=2))
    told.flush(61)
    told.hear(100, lasting(0, 95, number=1), lasting(0, 30, number=2), lasting(0, 30, number=3))
    assert told.flush(120) == [rolled(1, 0, made=120, requests=2, sessions=2), own(2, 0, 30, made=120)]


def test_sessions_that_differ_in_one_part_of_their_app_are_in_groups_of_their_own(told: Told) -> None:
    apps = [
        app(),
        app(2),
        replace(app(), workspace_id=workspace(2)),
        replace(app(), agent_id=app(2).agent_id),
        app(method=2),
        app(slug="other"),
    ]
    told.hear(10, *(report(number, T0, at(5), of=one) for number, one in enumerate(apps)))
    assert told.flush(20) == [row(number, T0, at(60), at(20), of=one) for number, one in enumerate(apps)]


# Bad reports.


def test_a_bad_report_does_not_cost_its_neighbours(told: Told) -> None:
    reports = [
        lasting(0, 5, number=1),
        replace(lasting(0, 5, number=2), session_id=b""),
        report(3, T0, at(5), of=app(method=4)),
        report(4, T0, at(5), of=app(slug="")),
        report(5, T0, T0 - 1),
        report(1, T0, at(5), of=app(2)),
        lasting(1, 5, number=1),
        lasting(0, 5, number=6),
    ]
    assert told.hear(10, *reports) == [
        (1, Reason.INVALID_ID),
        (2, Reason.INVALID_ACCESS_METHOD),
        (3, Reason.INVALID_SLUG_OR_PORT),
        (4, Reason.INVALID_TIME),
        (5, Reason.CONFLICT),
        (6, Reason.CONFLICT),
    ]
    assert told.flush(20) == [rolled(1, 0, made=20, requests=2, sessions=2)]


def test_a_conflicting_report_changes_neither_count_nor_end_nor_owner(told: Told) -> None:
    told.came(0, client="liar")
    told.hear(1, live(0))
    assert told.hear(2, report(1, T0 + 1, at(40), 99), client="liar") == [(0, Reason.CONFLICT)]
    told.went(3, client="liar")
    assert told.flush(200) == [own(1, 0, 200, made=200, source=LIVE)]


def test_a_start_may_differ_by_what_is_cut_off(told: Told) -> None:
    told.hear(1, live(0))
    assert told.hear(10, later(lasting(0, 5), start_ns=999)) == []


def test_the_rows_of_a_session_carry_its_own_id(told: Told) -> None:
    told.hear(100, lasting(0, 90, number=3))
    assert [one.session_id for one in told.flush(120)] == [session(3)]
