"""What would a naive collector get wrong? One history for each trap, with what SPEC section 2 says comes of it.

Times are seconds after `T0`, the edge of a window; windows are 60 s, graces 120 s.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from appstatsd.collect.batch import Reason
from appstatsd.collect.collector import Collector
from appstatsd.collect.rows import MAX_REQUESTS, EndSource
from appstatsd.collect.rules import Rules

from tests.support.model import Model
from tests.support.reports import (
    DAY,
    SECOND,
    T0,
    Report,
    Row,
    app,
    arrival,
    later,
    plain,
    report,
    row,
    session,
    verdicts,
    workspace,
)

LIVE, REPORTED, INFERRED = EndSource.LIVE, EndSource.REPORTED, EndSource.INFERRED
WINDOW = 60 * SECOND


def at(seconds: float) -> int:
    """Microseconds since the Unix epoch."""
    return T0 + round(seconds * SECOND)


class Told:
    """A collector under one clock, which both the wall and the monotonic clock follow.

    The model is told the same, and must answer the same: so what is written here by hand holds for both.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.collector = Collector(self.rules)
        self.model = Model(self.rules)
        self.came(0)

    def hear(self, when: float, *reports: Report, client: str = "proxy") -> list[tuple[int, Reason]]:
        """What is rejected of these reports."""
        said = [arrival(client, reports, at(when), self.mono(when))]
        [answer] = self.collector.accept(said)
        assert self.model.accept(said) == [verdicts(answer)]
        return verdicts(answer)

    def flush(self, when: float, mono: int | None = None) -> list[Row]:
        """The rows, by session_id."""
        mono = self.mono(when) if mono is None else mono
        rows = plain(self.collector.flush(at(when), mono).rows)
        assert self.model.flush(at(when), mono).rows == rows
        return sorted(rows.values(), key=lambda one: (one.session_id, one.user_id))

    def came(self, when: float, client: str = "proxy") -> None:
        self.collector.came(client, at(when), self.mono(when))
        self.model.came(client, at(when), self.mono(when))

    def went(self, when: float, client: str = "proxy") -> None:
        self.collector.went(client, at(when), self.mono(when))
        self.model.went(client, at(when), self.mono(when))

    def close(self, when: float, client: str = "proxy") -> None:
        self.collector.close_client(client, at(when), self.mono(when))
        self.model.close_client(client, at(when), self.mono(when))

    def restart(self, when: float, last: float, rules: Rules | None = None) -> None:
        self.rules = rules or self.rules
        self.collector.restart(self.rules, at(when), self.mono(when), at(last))
        self.model.restart(self.rules, at(when), self.mono(when), at(last))

    def hold(self, when: float) -> None:
        self.collector.hold_graces(self.mono(when))
        self.model.hold_graces(self.mono(when))

    def release(self, when: float) -> None:
        self.collector.release_graces(self.mono(when))
        self.model.release_graces(self.mono(when))

    @staticmethod
    def mono(when: float) -> int:
        return at(when) - T0 + 77_000 * SECOND


@pytest.fixture
def told() -> Told:
    return Told()


def lasting(start: float, seconds: float, number: int = 1, requests: int = 1) -> Report:
    return report(number, at(start), at(start + seconds), requests)


def live(start: float, number: int = 1, requests: int = 1) -> Report:
    return report(number, at(start), None, requests)


def rolled(number: int, window: int, made: float, requests: int = 1, sessions: int = 1) -> Row:
    """The rolled-up row of a window, counted from `T0`."""
    start = at(60 * window)
    return row(number, start, start + WINDOW, at(made), requests, sessions)


def own(number: int, start: float, end: float, made: float, source: EndSource = REPORTED, requests: int = 1) -> Row:
    return row(number, at(start), at(end), at(made), requests, 1, source)


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


def test_a_rejected_end_of_a_live_session_still_says_that_it_is_over(told: Told) -> None:
    told.hear(1, live(0, number=1), live(0, number=2), live(0, number=3))
    ends = [report(1, T0, T0 - 1), report(2, 0, at(9)), report(3, T0, at(9), of=app(2))]
    assert told.hear(20, *ends) == [(0, Reason.INVALID_TIME), (1, Reason.INVALID_TIME), (2, Reason.CONFLICT)]
    assert told.flush(30) == [own(1, 0, 20, made=30, source=INFERRED), own(2, 0, 20, made=30, source=INFERRED)]
    told.hear(40, lasting(0, 9))
    assert told.flush(50) == [own(1, 0, 9, made=50)]


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


def test_graces_are_measured_on_the_monotonic_clock_whatever_the_other_says(told: Told) -> None:
    told.hear(1, live(0))
    told.went(100)
    assert told.flush(5_000, mono=told.mono(220)) == []
    told.came(220)
    assert told.collector.abandoned == 0


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
