"""What the quarantine promises, one sentence each."""

from __future__ import annotations

import pytest
from appstatsd.deliver.quarantine import Quarantine

from tests.support.waiting_rows import T0, app, block, plain, sessions

SKEW_US = 600_000_000
CHECK = 'new row for relation "workspace_app_stats" violates check constraint "odd"'


@pytest.fixture
def quarantine() -> Quarantine:
    return Quarantine(SKEW_US)


def test_a_refused_row_is_kept_with_the_words_of_the_database(quarantine: Quarantine) -> None:
    quarantine.put(block([5], of=app(2)), CHECK, "23514", T0 + 1)
    [row] = quarantine.page(0, 10)
    assert (row.id, row.app, row.message, row.sqlstate, row.at_us) == (1, app(2), CHECK, "23514", T0 + 1)
    assert row.cells.tolist() == block([5]).cells.tolist()


def test_a_newer_row_of_the_same_key_takes_the_place_of_the_older_one(quarantine: Quarantine) -> None:
    quarantine.put(block([5], requests=9), CHECK, "23514", T0)
    quarantine.put(block([6]), CHECK, "23514", T0)
    quarantine.put(block([5], made_us=T0 + 3, ended_us=T0 + 3, requests=2), "other", None, T0 + 4)
    first, second = quarantine.page(0, 10)
    assert (first.id, first.message, first.sqlstate, first.at_us) == (1, "other", None, T0 + 4)
    assert (first.cells["requests"][0], first.cells["ended_us"][0]) == (9, T0 + 3)
    assert second.id == 2


def test_rows_are_shown_by_the_page_in_the_order_of_their_ids(quarantine: Quarantine) -> None:
    quarantine.put(block(range(5)), CHECK, "23514", T0)
    assert [row.id for row in quarantine.page(0, 2)] == [1, 2]
    assert [row.id for row in quarantine.page(2, 99)] == [3, 4, 5]
    assert quarantine.ids() == [1, 2, 3, 4, 5]


def test_rows_that_are_taken_or_dropped_are_gone_and_their_ids_are_not_used_again(quarantine: Quarantine) -> None:
    quarantine.put(block([10, 11, 12]), CHECK, "23514", T0)
    assert sessions(quarantine.take([3, 1, 3, 77])) == [12, 10]
    assert quarantine.drop([2, 3]) == 1
    assert len(quarantine) == len(quarantine._ids) == 0
    quarantine.put(block([10]), CHECK, "23514", T0)
    assert quarantine.ids() == [4]


def test_rows_that_were_taken_can_be_merged_into_like_any_others(quarantine: Quarantine) -> None:
    quarantine.put(block([10]), CHECK, "23514", T0)
    rows = quarantine.take([1])
    rows.cells["requests"] = 4
    assert plain(rows)[0].requests == 4


def test_it_comes_back_from_arrays_as_it_was(quarantine: Quarantine) -> None:
    quarantine.put(block([1, 2, 3]), "naïve ✗", "23514", T0)
    quarantine.put(block([4]), "", None, T0 + 1)
    quarantine.drop([2, 4])
    quarantine.put(block([5]), "broken \ud800", None, T0 + 2)
    again = Quarantine.from_arrays(quarantine.to_arrays(), SKEW_US)
    assert again.page(0, 2) == quarantine.page(0, 2)
    assert again.page(3, 9)[0].message == "broken \\ud800"
    again.put(block([3, 9]), CHECK, "23514", T0)
    assert again.ids() == [1, 3, 5, 6]
    again.drop([6])
    later = Quarantine.from_arrays(again.to_arrays(), SKEW_US)
    later.put(block([9]), CHECK, "23514", T0)
    assert later.ids() == [1, 3, 5, 7]


def test_an_empty_one_comes_back_empty(quarantine: Quarantine) -> None:
    again = Quarantine.from_arrays(quarantine.to_arrays(), SKEW_US)
    assert len(again) == 0
    assert sessions(again.take([1])) == []
