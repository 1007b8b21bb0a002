"""What the outbox promises, one sentence each."""

from __future__ import annotations

import numpy as np
import pytest
from appstatsd.collect.rows import Rows
from appstatsd.deliver import outbox as outbox_module
from appstatsd.deliver import segment
from appstatsd.deliver.outbox import Outbox

from tests.support.waiting_rows import T0, app, block, plain, sessions

SKEW_US = 600_000_000


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(SKEW_US)


def waiting(outbox: Outbox) -> list[int]:
    return sessions(outbox.peek(1_000_000).rows)


def test_rows_leave_in_the_order_in_which_they_came(outbox: Outbox) -> None:
    outbox.add(block([3, 1, 2]))
    outbox.add(block([9, 4]))
    assert sessions(outbox.peek(4).rows) == [3, 1, 2, 9]
    assert waiting(outbox) == [3, 1, 2, 9, 4]


def test_a_newer_row_of_a_key_that_waits_takes_its_place_in_the_order(outbox: Outbox) -> None:
    outbox.add(block([1, 2, 3], made_us=T0))
    outbox.add(block([5, 2], made_us=T0 + 1, ended_us=T0 + 7, requests=4))
    assert waiting(outbox) == [1, 2, 3, 5]
    assert [(row.ended_us, row.requests) for row in plain(outbox.peek(2).rows)] == [(T0, 1), (T0 + 7, 4)]


def test_a_row_of_the_same_session_but_another_user_or_agent_is_another_row(outbox: Outbox) -> None:
    outbox.add(block([1], of=app(1)))
    outbox.add(block([1], of=app(1, user=2)))
    outbox.add(block([1], of=app(2, user=1)))
    assert len(outbox) == 3


def test_a_row_of_the_same_key_but_another_slug_is_the_same_row_and_keeps_the_first_slug(outbox: Outbox) -> None:
    outbox.add(block([1], of=app(1, slug="first"), requests=1))
    outbox.add(block([1], of=app(1, slug="second"), requests=5, made_us=T0 + 1))
    assert [(row.slug, row.requests) for row in plain(outbox.peek(9).rows)] == [("first", 5)]


def test_sessions_that_share_a_digest_are_told_apart(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def alike(cells: np.ndarray) -> np.ndarray:
        return np.zeros(len(cells), np.uint64)

    monkeypatch.setattr(segment, "_digests", alike)
    outbox.add(block(range(20)))
    outbox.add(block([30, 19, 0, 7], requests=9))
    assert waiting(outbox) == [*range(20), 30]
    assert [row.session for row in plain(outbox.peek(99).rows) if row.requests == 9] == [0, 7, 19, 30]


def test_a_row_that_was_written_as_it_is_waits_no_longer(outbox: Outbox) -> None:
    stamp = outbox.add(block([1, 2, 3]))
    seen = outbox.peek(2)
    assert outbox.settle(seen.serials, seen.as_of_stamp) == 2
    assert waiting(outbox) == [3]
    assert outbox.owes(stamp)
    rest = outbox.peek(2)
    outbox.settle(rest.serials, rest.as_of_stamp)
    assert not outbox.owes(stamp)
    assert len(outbox) == 0


def test_a_row_that_was_merged_while_it_was_written_waits_behind_all_others(outbox: Outbox) -> None:
    first = outbox.add(block([1, 2]))
    seen = outbox.peek(2)
    second = outbox.add(block([1, 3], requests=8))
    outbox.settle(seen.serials, seen.as_of_stamp)
    assert waiting(outbox) == [3, 1]
    assert (outbox.owes(first), outbox.owes(second)) == (False, True)


def test_a_row_merged_while_it_was_written_and_once_more_owes_since_the_first_time(outbox: Outbox) -> None:
    outbox.add(block([1]))
    seen = outbox.peek(1)
    second = outbox.add(block([1], requests=2))
    outbox.add(block([1], requests=3))
    outbox.settle(seen.serials, seen.as_of_stamp)
    assert outbox.owes(second)


def test_a_row_that_owes_more_than_those_before_it_is_not_overlooked(outbox: Outbox) -> None:
    outbox.add(block([1]))
    seen = outbox.peek(1)
    second = outbox.add(block([1], requests=2))
    outbox.add(block([3, 4]))
    outbox.settle(seen.serials, seen.as_of_stamp)
    assert waiting(outbox) == [3, 4, 1]
    assert outbox.owes(second)


def test_a_row_settled_twice_is_settled_once(outbox: Outbox) -> None:
    outbox.add(block([1, 2]))
    seen = outbox.peek(1)
    assert [outbox.settle(seen.serials, seen.as_of_stamp) for _ in range(2)] == [1, 0]
    assert outbox.settled == 1


def test_a_row_taken_out_is_given_away_as_it_was_seen(outbox: Outbox) -> None:
    outbox.add(block([1, 2]))
    seen = outbox.peek(1)
    assert sessions(outbox.take_out(int(seen.serials[0]), seen.as_of_stamp)) == [1]
    assert waiting(outbox) == [2]
    assert len(outbox.take_out(int(seen.serials[0]), seen.as_of_stamp)) == 0


def test_a_row_that_was_merged_while_it_was_refused_is_not_given_away(outbox: Outbox) -> None:
    outbox.add(block([1, 2]))
    seen = outbox.peek(1)
    outbox.add(block([1], requests=8))
    assert len(outbox.take_out(int(seen.serials[0]), seen.as_of_stamp)) == 0
    assert waiting(outbox) == [2, 1]


def test_what_was_seen_does_not_change_afterwards(outbox: Outbox) -> None:
    outbox.add(block([1], requests=1))
    seen = outbox.peek(1)
    outbox.add(block([1], requests=7))
    assert plain(seen.rows)[0].requests == 1


def test_a_row_that_is_merged_owes_since_it_first_came(outbox: Outbox) -> None:
    first = outbox.add(block([1]))
    outbox.add(block([1], requests=2))
    assert outbox.owes(first)


def test_the_age_of_a_row_counts_from_when_it_first_came(outbox: Outbox) -> None:
    assert outbox.oldest_owing_us is None
    outbox.add(block([1], made_us=T0))
    seen = outbox.peek(1)
    outbox.add(block([1], made_us=T0 + 50))
    assert outbox.oldest_owing_us == T0
    outbox.settle(seen.serials, seen.as_of_stamp)
    assert outbox.oldest_owing_us == T0 + 50


def test_a_look_leaves_out_what_it_is_told_to(outbox: Outbox) -> None:
    outbox.add(block(range(100)))
    assert sessions(outbox.peek(3, 10, {11, 13}).rows) == [11, 13, 14]
    assert sessions(outbox.pick([5, 1, 400]).rows) == [0, 4]


def test_a_look_reaches_over_long_stretches_of_rows_that_are_gone(outbox: Outbox) -> None:
    outbox.add(block(range(1, 1001)))
    gone = np.setdiff1d(np.arange(1, 1001), [1, 400, 800])
    outbox.settle(gone[:400], 1)
    assert sessions(outbox.peek(3).rows) == [1, 400, 403]
    outbox.settle(gone[400:], 1)
    assert waiting(outbox) == [1, 400, 800]


def test_a_sample_is_spread_over_all_and_holds_the_last(outbox: Outbox) -> None:
    for number in range(3):
        outbox.add(block(range(number * 300, number * 300 + 300)))
    picked = sessions(outbox.sample(7).rows)
    assert len(picked) == 7
    assert (picked[0], picked[-1]) == (0, 899)
    assert max(np.diff(picked)) <= 150
    assert sessions(outbox.sample(1).rows) == [899]
    assert sessions(outbox.sample(9, 898, {900}).rows) == [898]
    assert len(outbox.sample(9, 900)) == 0


def test_an_empty_outbox_keeps_a_block_as_it_is(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "_digests", None)  # nobody looks for keys
    rows = block(range(10))
    outbox.add(rows)
    assert outbox._segments[0].rows is rows
    outbox.settle(outbox.peek(10).serials, 1)
    outbox.add(block(range(10)))


def test_rows_that_are_gone_take_no_room(outbox: Outbox) -> None:
    for number in range(200):
        outbox.add(block(range(number * 10, number * 10 + 10)))
        seen = outbox.peek(8)
        outbox.settle(seen.serials, seen.as_of_stamp)
    held = sum(len(each.rows) for each in outbox._segments)
    assert len(outbox) == 400
    assert held <= 3 * 400
    assert len(outbox._segments) <= 10


def test_segments_are_joined_to_few_yet_none_to_very_many_rows(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "_SEGMENT_ROWS", 64)
    monkeypatch.setattr(outbox_module, "_SEGMENTS", 8)
    longest = []
    for number in range(200):
        outbox.add(block(range(number * 10, number * 10 + 10)))
        longest.append(max(len(each.rows) for each in outbox._segments))
    assert longest[50] <= 64 < longest[-1] <= 2000 // 8
    assert len(outbox._segments) <= 3 * 8
    assert waiting(outbox) == [*range(2000)]


def test_a_snapshot_stays_as_it_was_when_a_row_is_merged_afterwards(outbox: Outbox) -> None:
    outbox.add(block([1, 2], requests=1))
    arrays = outbox.to_arrays()
    outbox.add(block([2], requests=5))
    back = Outbox.from_arrays(arrays, outbox.max_clock_skew_us)
    assert [row.requests for row in plain(back.peek(9).rows)] == [1, 1]


def test_nothing_added_is_nothing_owed(outbox: Outbox) -> None:
    assert not outbox.owes(outbox.add(Rows.empty()))


def test_serials_and_stamps_go_on_where_they_were_after_it_was_read_back(outbox: Outbox) -> None:
    outbox.settle(np.array([1, 2]), outbox.add(block([1, 2])))
    again = Outbox.from_arrays(outbox.to_arrays(), SKEW_US)
    assert again.add(block([3])) == 2
    assert again.peek(1).serials.tolist() == [3]


def test_equal_apps_share_one_key_after_they_were_read_back(outbox: Outbox) -> None:
    outbox.add(block([1, 2], of=app(7)))
    again = Outbox.from_arrays(outbox.to_arrays(), SKEW_US).peek(2).rows.apps
    assert again[0] == app(7)
    assert again[0] is again[1]
