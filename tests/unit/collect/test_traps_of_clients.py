"""What would a naive collector get wrong about clients that die, freeze and return?

One history for each trap, with what SPEC section 2 says comes of it. Times are as `tests.support.told` has them.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from appstatsd.collect.batch import Reason
from appstatsd.collect.collector import Collector
from appstatsd.collect.rules import Rules

from tests.support.reports import (
    DAY,
    SECOND,
    T0,
    app,
    report,
    row,
)
from tests.support.told import INFERRED, LIVE, Told, at, lasting, live, own, rolled

# Clients that come and go.


def test_the_sessions_of_a_killed_proxy_end_when_it_died(told: Told) -> None:
    told.hear(1, live(0, number=1))
    told.hear(85, live(80, number=2))
    told.flush(90)
    told.went(100)
    assert told.flush(120) == []
    assert told.flush(220) == []
    assert told.flush(220.000001) == [
        own(1, 0, 100, made=220.000001, source=INFERRED),
        own(2, 80, 100, made=220.000001, source=INFERRED),
    ]
    assert told.flush(250) == []
    assert (told.collector.live_sessions, told.collector.abandoned) == (0, 2)


def test_an_inferred_end_does_not_precede_the_start(told: Told) -> None:
    told.hear(1, live(20))
    told.went(10)
    assert told.flush(131) == [own(1, 20, 20, made=131, source=INFERRED)]


def test_a_frozen_proxy_is_there_until_its_stream_ends_and_its_rows_then_end_earlier_than_was_written(
    told: Told,
) -> None:
    told.hear(1, live(0))
    assert told.flush(120) == [own(1, 0, 120, made=120, source=LIVE)]
    told.went(119)
    assert told.flush(150) == []
    assert told.flush(240) == [own(1, 0, 119, made=240, source=INFERRED)]


def test_a_proxy_that_is_back_within_the_grace_goes_on_as_if_nothing_had_been(told: Told) -> None:
    told.hear(1, live(0))
    told.flush(90)
    told.went(100)
    told.flush(200)
    told.came(220)
    assert told.flush(230) == [own(1, 0, 230, made=230, source=LIVE)]
    assert told.collector.abandoned == 0


def test_a_proxy_that_is_back_within_the_grace_with_an_end_has_ended_its_session_as_any_other(told: Told) -> None:
    told.hear(95, live(90))
    told.went(100)
    told.came(220)
    told.hear(221, lasting(90, 20))
    assert told.flush(230) == [rolled(1, 1, made=230)]


def test_a_proxy_that_is_back_after_the_grace_has_lost_its_sessions_even_if_no_flush_came_between(told: Told) -> None:
    told.hear(1, live(0))
    told.went(100)
    told.came(220.000001)
    assert told.flush(230) == [own(1, 0, 100, made=230, source=INFERRED)]


def test_a_session_reported_live_after_its_inferred_end_is_live_again(told: Told) -> None:
    told.hear(1, live(0))
    told.went(100)
    told.flush(240)
    told.came(250)
    told.hear(251, live(0, requests=2))
    assert told.flush(270) == [own(1, 0, 270, made=270, source=LIVE, requests=2)]


@pytest.mark.parametrize("end", [90, 110])
def test_a_true_end_takes_the_place_of_the_inferred_one_be_it_earlier_or_later(told: Told, end: float) -> None:
    told.hear(1, live(0))
    told.went(100)
    told.flush(240)
    told.came(250)
    told.hear(251, lasting(0, end))
    assert told.flush(270) == [own(1, 0, end, made=270)]
    assert told.flush(300) == []


def test_a_short_session_written_with_an_inferred_end_stays_a_row_of_its_own(told: Told) -> None:
    told.hear(95, live(90), lasting(90, 1, number=2))
    told.went(100)
    told.flush(240)
    told.came(250)
    told.hear(251, lasting(90, 20))
    assert told.flush(270) == [own(1, 90, 110, made=270)]


def test_an_inferred_end_replaced_before_it_was_written_leaves_no_trace(told: Told) -> None:
    told.hear(95, live(90))
    told.went(100)
    told.came(250)
    told.hear(251, lasting(90, 20))
    assert told.flush(270) == [rolled(1, 1, made=270)]


def test_a_session_with_an_inferred_end_is_remembered_for_as_long_as_its_client() -> None:
    told = Told(Rules(client_retention_us=DAY))
    told.hear(1, live(0))
    told.went(100)
    told.flush(240)
    told.flush(86_500)
    assert told.collector.sessions == 1
    told.flush(86_500.000001)
    assert told.collector.sessions == 0


def test_a_session_with_an_inferred_end_keeps_its_group_though_all_of_it_was_settled_at_one_moment(told: Told) -> None:
    told.hear(10, lasting(0, 5, number=1))
    told.flush(60)
    told.hear(60, live(1, number=2))
    told.went(60)
    assert told.flush(60, mono=told.mono(200)) == [own(2, 1, 60, made=60, source=INFERRED)]
    told.flush(301)
    assert told.collector.sessions == 2


def test_a_session_lives_with_the_client_that_reported_it_last(told: Told) -> None:
    told.came(0, client="heir")
    told.hear(1, live(0, number=1), live(0, number=2))
    told.hear(50, live(0, number=1), client="heir")
    told.went(100)
    assert told.flush(110) == [own(1, 0, 110, made=110, source=LIVE)]
    assert told.flush(230) == [
        own(1, 0, 230, made=230, source=LIVE),
        own(2, 0, 100, made=230, source=INFERRED),
    ]


def test_a_client_that_closes_ends_what_it_left_live_as_if_it_had_reported_so(told: Told) -> None:
    told.came(0, client="other")
    told.hear(1, live(0, number=1), live(30, number=2), live(200, number=3))
    told.hear(2, live(0, number=4), client="other")
    told.flush(80)
    told.close(85)
    told.went(86)
    assert told.flush(110) == [
        own(1, 0, 85, made=110),
        rolled(2, 0, made=110),
        rolled(3, 3, made=110),
        own(4, 0, 110, made=110, source=LIVE),
    ]
    assert told.collector.abandoned == 0


def test_no_grace_runs_while_streams_are_refused(told: Told) -> None:
    told.hear(1, live(0))
    told.went(100)
    told.hold(150)  # 50 s of its grace are over
    told.flush(900)
    told.hold(950)  # it is held already
    told.release(1_000)
    assert told.flush(1_070) == []
    assert told.flush(1_070.000001) == [own(1, 0, 100, made=1_070.000001, source=INFERRED)]


def test_after_a_restart_clients_are_away_since_the_last_moment_known_and_have_a_whole_grace(told: Told) -> None:
    told.came(0, client="gone before")
    told.hear(1, live(0, number=1))
    told.hear(2, live(0, number=2), client="gone before")
    told.went(60, client="gone before")
    told.restart(170, last=100)
    assert told.flush(290) == []
    assert told.flush(290.000001) == [
        own(1, 0, 100, made=290.000001, source=INFERRED),
        own(2, 0, 60, made=290.000001, source=INFERRED),
    ]


def test_a_group_keeps_its_window_when_the_daemon_comes_back_with_another(told: Told) -> None:
    told.hear(10, live(0, number=1), live(0, number=2))
    told.restart(15, last=12, rules=replace(told.rules, window_us=30 * SECOND))
    told.came(16)
    told.hear(50, lasting(0, 45, number=1), lasting(0, 45, number=3), lasting(1, 5, number=4), live(0, number=2))
    assert told.flush(55) == [
        rolled(1, 0, made=55),
        own(3, 0, 45, made=55),
        row(4, T0, at(30), at(55)),
    ]
    assert told.flush(61) == [own(2, 0, 61, made=61, source=LIVE)]


# Sessions that nobody ends.


def test_a_live_session_gets_an_inferred_end_at_the_greatest_age_and_is_not_reported_live_again() -> None:
    told = Told(Rules(max_session_age_us=300 * SECOND))
    told.hear(1, live(0))
    assert told.flush(300) == [own(1, 0, 300, made=300, source=LIVE)]
    assert told.hear(300, live(0)) == []
    assert told.flush(330) == [own(1, 0, 300, made=330, source=INFERRED)]
    assert told.hear(331, live(0)) == [(0, Reason.INVALID_TIME)]
    assert told.flush(360) == []
    told.hear(361, lasting(0, 299))
    assert told.flush(390) == [own(1, 0, 299, made=390)]


def test_with_a_session_timeout_a_live_row_ends_at_its_last_report_and_the_session_there_too() -> None:
    told = Told(Rules(session_timeout_us=100 * SECOND))
    told.hear(1, live(0))
    told.hear(50, live(0, requests=2))
    assert told.flush(90) == [own(1, 0, 50, made=90, source=LIVE, requests=2)]
    assert told.flush(150) == [own(1, 0, 50, made=150, source=LIVE, requests=2)]
    assert told.flush(150.000001) == [own(1, 0, 50, made=150.000001, source=INFERRED, requests=2)]
    told.hear(151, live(0, requests=3))
    assert told.flush(180) == [own(1, 0, 151, made=180, source=LIVE, requests=3)]


def test_a_session_does_not_time_out_while_its_client_is_away() -> None:
    told = Told(Rules(session_timeout_us=30 * SECOND))
    told.hear(1, live(0))
    told.went(20)
    assert told.flush(140) == []
    assert told.flush(140.000001) == [own(1, 0, 20, made=140.000001, source=INFERRED)]


def test_a_session_of_an_access_log_times_out_though_those_of_others_do_not(told: Told) -> None:
    told.came(0, client="als/edge/http")
    told.hear(1, live(0, number=1))
    told.hear(1, live(0, number=2), client="als/edge/http")
    told.hear(60, live(0, number=2), client="als/edge/http")
    assert told.flush(100) == [own(1, 0, 100, made=100, source=LIVE), own(2, 0, 60, made=100, source=LIVE)]
    assert told.flush(240)[1] == own(2, 0, 60, made=240, source=LIVE)
    assert told.flush(240.000001) == [
        own(1, 0, 240.000001, made=240.000001, source=LIVE),
        own(2, 0, 60, made=240.000001, source=INFERRED),
    ]


def test_it_is_live_again_when_the_log_tells_of_it_again_and_so_it_is_after_a_snapshot(told: Told) -> None:
    told.came(0, client="als/edge/http")
    told.hear(1, live(0), client="als/edge/http")
    assert told.flush(200) == [own(1, 0, 1, made=200, source=INFERRED)]
    told.collector = Collector.from_arrays(told.collector.to_arrays())
    told.hear(201, live(0), client="als/edge/http")
    assert told.flush(300) == [own(1, 0, 201, made=300, source=LIVE)]
    assert told.flush(400) == [own(1, 0, 201, made=400, source=INFERRED)]


def test_a_session_that_a_client_reports_after_a_log_told_of_it_is_the_clients(told: Told) -> None:
    told.came(0, client="als/edge/http")
    told.hear(1, live(0), client="als/edge/http")
    told.hear(2, live(0))
    assert told.flush(1000) == [own(1, 0, 1000, made=1000, source=LIVE)]


def test_a_rejected_end_of_a_live_session_still_says_that_it_is_over(told: Told) -> None:
    told.hear(1, live(0, number=1), live(0, number=2), live(0, number=3))
    ends = [report(1, T0, T0 - 1), report(2, 0, at(9)), report(3, T0, at(9), of=app(2))]
    assert told.hear(20, *ends) == [(0, Reason.INVALID_TIME), (1, Reason.INVALID_TIME), (2, Reason.CONFLICT)]
    assert told.flush(30) == [own(1, 0, 20, made=30, source=INFERRED), own(2, 0, 20, made=30, source=INFERRED)]
    told.hear(40, lasting(0, 9))
    assert told.flush(50) == [own(1, 0, 9, made=50)]
