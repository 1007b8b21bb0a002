"""Two rows of one key, before they reach the table."""

from __future__ import annotations

import numpy as np
import pytest
from appstatsd.collect.merge import merged
from appstatsd.collect.rows import CELLS, Cells, EndSource

SKEW_US = 600_000_000


def cell(ended_us: int, requests: int, sessions: int, source: EndSource, made_us: int) -> Cells:
    return np.array([(b"s" * 16, 1, ended_us, requests, sessions, source, made_us)], CELLS)


def test_the_row_made_later_gives_end_source_and_stamp() -> None:
    older, newer = cell(50, 3, 1, EndSource.LIVE, 50), cell(40, 3, 1, EndSource.REPORTED, 60)
    assert merged(older, newer, SKEW_US).tolist() == newer.tolist()


def test_of_two_rows_made_at_one_now_the_newer_counts() -> None:
    older, newer = cell(50, 3, 1, EndSource.LIVE, 50), cell(40, 3, 1, EndSource.REPORTED, 50)
    assert merged(older, newer, SKEW_US).tolist() == newer.tolist()


def test_a_row_made_earlier_changes_nothing_but_a_larger_count() -> None:
    older, newer = cell(50, 3, 2, EndSource.LIVE, 50), cell(90, 7, 1, EndSource.REPORTED, 49)
    assert merged(older, newer, SKEW_US).tolist() == cell(50, 7, 2, EndSource.LIVE, 50).tolist()


@pytest.mark.parametrize(("ahead_us", "follows"), [(SKEW_US, False), (SKEW_US + 1, True)])
def test_a_row_more_than_the_skew_ahead_does_not_stop_newer_ones(ahead_us: int, follows: bool) -> None:
    older, newer = cell(50, 3, 1, EndSource.LIVE, 50 + ahead_us), cell(90, 2, 1, EndSource.REPORTED, 50)
    expected = cell(90, 3, 1, EndSource.REPORTED, 50) if follows else older
    assert merged(older, newer, SKEW_US).tolist() == expected.tolist()


def test_the_start_stays_as_first_written_and_the_arguments_as_they_were() -> None:
    older, newer = cell(50, 3, 1, EndSource.LIVE, 50), cell(60, 4, 1, EndSource.LIVE, 60)
    newer["started_us"] = 2
    copies = older.copy(), newer.copy()
    assert merged(older, newer, SKEW_US)["started_us"].tolist() == [1]
    assert (older.tolist(), newer.tolist()) == (copies[0].tolist(), copies[1].tolist())
