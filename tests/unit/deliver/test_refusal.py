"""Who is to blame, found by sending: rows by themselves, the table, or nobody."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable

import pytest
from appstatsd.collect.rows import Rows
from appstatsd.deliver.lanes import Lanes
from appstatsd.deliver.outbox import Outbox, Waiting
from appstatsd.deliver.refusal import PATIENCE, PROBES, OnlyRowRefused, Sifter, TableRefuses
from appstatsd.errors import RowsRefused, StoreUnavailable
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.waiting_rows import app, block, ident, sessions


class Table:
    """A database that refuses some sessions, or all, and the one writer who hears what happened."""

    def __init__(
        self, bad: set[int] | None = None, batch_size: int = 1024, late_news: bool = False, lanes: int = 1
    ) -> None:
        self.bad = bad or set()
        self.refuses_all = False
        self.names: Callable[[int], str] = lambda bad: ""
        self.before_each: Callable[[int, list[int]], None] = lambda number, sent: None
        self.sent: list[list[int]] = []
        self.landed: list[int] = []
        self.quarantined: list[tuple[int, str]] = []
        self.late_news = late_news
        self.news: list[Callable[[], object]] = []
        self.outbox = Outbox(0)
        self.batches = 1 if lanes == 1 else 5
        self.changing = threading.Lock()  # protects what lanes change
        self.lanes = Lanes(lanes, self.send_in_lane)
        self.sifter = Sifter(self.outbox, batch_size, self.send, self.lanes.send, self.committed, self.blamed)

    def send_in_lane(self, batch: Waiting) -> None:
        self.send(batch.rows)
        with self.changing:
            self.committed(batch)

    def send(self, rows: Rows) -> None:
        sent = sessions(rows)
        self.before_each(len(self.sent), sent)
        self.sent.append(sent)
        if refused := [each for each in sent if each in self.bad or self.refuses_all]:
            raise RowsRefused(f"row {refused[0]} is bad{self.names(refused[0])}", "23514")

    def committed(self, batch: Waiting) -> None:
        self.landed += sessions(batch.rows)
        self.tell(lambda: self.outbox.settle(batch.serials, batch.as_of_stamp))

    def blamed(self, row: Waiting, refusal: RowsRefused) -> None:
        [serial] = row.serials.tolist()

        def move() -> None:
            self.quarantined += [
                (each, refusal.message) for each in sessions(self.outbox.take_out(serial, row.as_of_stamp))
            ]

        self.tell(move)

    def tell(self, news: Callable[[], object]) -> None:
        self.news.append(news)
        if not self.late_news:
            self.hear()

    def hear(self) -> None:
        for each in self.news:
            each()
        self.news.clear()

    def run(self, attempts: int = 1) -> StoreUnavailable | None:
        """Step until nothing is to be done; the error that ended the last attempt, if one did."""
        error: StoreUnavailable | None = None
        for _ in range(attempts):
            error = None
            while not self.sifter.idle():
                try:
                    self.sifter.step(self.batches)
                except StoreUnavailable as failure:
                    error = failure
                    break
            self.hear()
            if error is None:
                break
        return error


def test_good_rows_cost_one_transaction_a_batch() -> None:
    table = Table(batch_size=10)
    table.outbox.add(block(range(35)))
    assert table.run() is None
    assert [len(sent) for sent in table.sent] == [10, 10, 10, 5]
    assert table.landed == list(range(35))


@pytest.mark.parametrize("bad", [0, 1, 511, 512, 2500, 4999])
def test_one_bad_row_among_5000_is_quarantined_with_its_message_wherever_it_stands(bad: int) -> None:
    table = Table({bad})
    table.outbox.add(block(range(5000)))
    assert table.run() is None
    assert sorted(table.landed) == [each for each in range(5000) if each != bad]
    assert table.quarantined == [(bad, f"row {bad} is bad")]
    assert len(table.sent) < 5 + 2 * 10 + 4


def named(session: int) -> str:
    return f"; Failing row contains (1, {uuid.UUID(bytes=ident(session))}, 13)."


@pytest.mark.parametrize(("bad", "most"), [(1, 5 + 1 + 2 + 1), (100, 5 + 4 * 100)])
def test_rows_that_the_database_names_are_found_in_few_transactions(bad: int, most: int) -> None:
    table = Table(set(range(7, 5000, 5000 // bad)[:bad]))
    table.names = named
    table.outbox.add(block(range(5000)))
    assert table.run() is None
    assert {each for each, _ in table.quarantined} == table.bad
    assert len(table.sent) <= most


def test_rows_whose_owner_the_database_names_are_tried_together() -> None:
    table = Table({5, 6})
    table.names = lambda bad: f"; Key (user_id)=({uuid.UUID(bytes=ident(7777))}) is not present."
    table.outbox.add(Rows.join([block(range(5)), block([5, 6], of=app(1, user=7777)), block(range(7, 1000))]))
    assert table.run() is None
    assert {each for each, _ in table.quarantined} == {5, 6}
    assert table.sent[1] == [5, 6]


@settings(max_examples=150, deadline=None)
@given(
    total=st.integers(2, 60),
    data=st.data(),
    batch_size=st.integers(1, 40),
    late_news=st.booleans(),
    lanes=st.integers(1, 3),
    names=st.sampled_from(
        [lambda bad: "", named, lambda bad: named(bad + 1), lambda bad: named(bad) + named(bad // 2)]
    ),
)
def test_whatever_rows_are_bad_exactly_these_are_quarantined_if_one_is_good(
    total: int, data: st.DataObject, batch_size: int, late_news: bool, lanes: int, names: Callable[[int], str]
) -> None:
    bad = data.draw(st.sets(st.integers(0, total - 1), max_size=total - 1))
    table = Table(bad, batch_size, late_news, lanes)
    table.names = names
    split = data.draw(st.integers(0, total))
    table.outbox.add(block(range(split)))
    table.outbox.add(block(range(split, total)))
    assert table.run(attempts=total) is None
    assert sorted(each for each, _ in table.quarantined) == sorted(bad)
    assert set(table.landed) == set(range(total)) - bad
    assert len(table.outbox) == 0
    assert all(message == f"row {each} is bad{names(each)}" for each, message in table.quarantined)


@settings(max_examples=50, deadline=None)
@given(total=st.integers(2, 60), batch_size=st.integers(1, 20), attempts=st.integers(1, 30), lanes=st.integers(1, 3))
def test_where_all_rows_are_bad_it_is_the_table_and_none_is_quarantined(
    total: int, batch_size: int, attempts: int, lanes: int
) -> None:
    table = Table(set(range(total)), batch_size, lanes=lanes)
    table.outbox.add(block(range(total)))
    error = table.run(attempts)
    assert isinstance(error, TableRefuses)
    assert error.sqlstate == "23514"
    assert table.quarantined == []
    assert len(table.outbox) == total
    table.bad = set()
    table.run()
    assert set(table.landed) == set(range(total))
    assert table.quarantined == []


def test_a_row_that_is_alone_and_refused_waits_for_another_to_be_committed() -> None:
    table = Table({1})
    table.outbox.add(block([1]))
    for _ in range(20):
        assert isinstance(table.run(), OnlyRowRefused)
    assert table.sent == [[1]] * 20
    assert table.quarantined == []
    table.outbox.add(block([2]))
    assert table.run() is None
    assert table.landed == [2]
    assert [each for each, _ in table.quarantined] == [1]


def test_a_row_refused_while_the_table_was_wrong_lands_when_it_is_right_again() -> None:
    table = Table()
    table.refuses_all = True
    table.outbox.add(block([1]))
    table.run()
    table.refuses_all = False
    table.outbox.add(block([2]))
    assert table.run() is None
    assert sorted(table.landed) == [1, 2]
    assert table.quarantined == []


@pytest.mark.parametrize("wrong_from", [0, 1, 2, 5, 12, 14])
@pytest.mark.parametrize("wrong_for", [1, 3, 10, 11, 12, 25, 60])
@pytest.mark.parametrize("lanes", [1, 2])
def test_a_table_that_is_wrong_for_a_while_costs_no_good_row(wrong_from: int, wrong_for: int, lanes: int) -> None:
    table = Table({700}, batch_size=256, lanes=lanes)

    def before_each(number: int, sent: list[int]) -> None:
        table.refuses_all = wrong_from <= number < wrong_from + wrong_for

    table.before_each = before_each
    table.outbox.add(block(range(1000)))
    assert table.run(attempts=20) is None
    assert [each for each, _ in table.quarantined] == [700]
    assert set(table.landed) == set(range(1000)) - {700}


def test_where_all_is_refused_an_attempt_ends_after_few_transactions_and_the_next_tries_others() -> None:
    table = Table()
    table.refuses_all = True
    table.outbox.add(block(range(100_000)))
    tried: set[int] = set()
    for _ in range(10):
        before = len(table.sent)
        assert isinstance(table.run(), TableRefuses)
        assert len(table.sent) - before <= PATIENCE + 11 + PROBES
        singles = {sent[0] for sent in table.sent[before:] if len(sent) == 1}
        assert len(singles - tried) >= PROBES
        tried |= singles
    assert table.quarantined == []


def test_new_good_rows_are_found_behind_a_backlog_of_bad_ones() -> None:
    table = Table(set(range(50_000)))
    table.outbox.add(block(range(50_000)))
    assert isinstance(table.run(), TableRefuses)
    table.outbox.add(block(range(60_000, 60_010)))
    before = len(table.sent)
    table.sifter.step()
    assert any(sent[0] >= 60_000 for sent in table.sent[before : before + 1])


def test_the_only_good_row_among_many_bad_ones_is_found_in_the_end() -> None:
    table = Table(set(range(300)) - {137})
    table.outbox.add(block(range(300)))
    assert table.run(attempts=60) is None
    assert len(table.quarantined) == 299
    assert set(table.landed) == {137}


def test_a_bad_row_at_the_very_end_is_told_from_a_bad_table_by_a_row_that_was_just_written() -> None:
    table = Table({9})
    table.outbox.add(block(range(10)))
    assert table.run() is None
    assert table.quarantined == [(9, "row 9 is bad")]
    assert table.landed == list(range(9))


def test_a_row_that_was_written_in_an_earlier_pass_is_no_witness() -> None:
    table = Table({9})
    table.outbox.add(block([1]))
    table.run()
    table.outbox.add(block([9]))
    assert isinstance(table.run(), OnlyRowRefused)
    assert table.sent == [[1], [9]]
    assert table.quarantined == []


@pytest.mark.parametrize("lanes", [1, 2])
def test_no_row_is_sent_again_because_the_outbox_has_not_heard_yet(lanes: int) -> None:
    table = Table(late_news=True, batch_size=10, lanes=lanes)
    table.outbox.add(block(range(20)))
    table.run()
    table.outbox.add(block(range(20, 25)))
    table.news.clear()
    table.run()
    assert sorted(table.landed) == list(range(25))


def test_after_an_outage_the_next_attempt_begins_behind_what_was_committed_without_a_gap() -> None:
    table = Table(late_news=True, batch_size=2, lanes=2)
    third_fails = threading.Event()

    def before_each(number: int, sent: list[int]) -> None:
        if sent == [2, 3] and not third_fails.is_set():
            third_fails.set()
            raise StoreUnavailable("gone", "57P01")

    table.before_each = before_each
    table.outbox.add(block(range(8)))
    with pytest.raises(StoreUnavailable):
        table.sifter.step(table.batches)
    table.sent.clear()
    table.sifter.step()
    assert table.sent == [[2, 3]]


def test_a_row_that_was_merged_while_it_was_written_is_sent_again_as_it_is_now() -> None:
    table = Table(late_news=True)
    table.outbox.add(block([1, 2]))

    def before_each(number: int, sent: list[int]) -> None:
        if number == 0:
            table.outbox.add(block([1], requests=9))

    table.before_each = before_each
    table.run()
    table.run()
    assert table.sent == [[1, 2], [1]]
    assert len(table.outbox) == 0


def test_a_refused_row_that_was_merged_meanwhile_is_tried_as_it_is_now() -> None:
    table = Table({1}, late_news=True)
    table.outbox.add(block([1, 2]))

    def before_each(number: int, sent: list[int]) -> None:
        if sent == [1] and len([each for each in table.sent if each == [1]]) == 1:
            table.outbox.add(block([1], requests=9))
            table.bad = set()

    table.before_each = before_each
    assert table.run(attempts=2) is None
    assert table.quarantined == []
    assert sorted(set(table.landed)) == [1, 2]


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_what_the_database_has_not_taken_for_other_reasons_is_sent_again(lanes: int) -> None:
    table = Table({3}, batch_size=4, lanes=lanes)

    def before_each(number: int, sent: list[int]) -> None:
        if number == 3:
            raise StoreUnavailable("gone", "57P01")

    table.before_each = before_each
    table.outbox.add(block(range(8)))
    error = table.run()
    assert error is not None
    assert error.sqlstate == "57P01"
    table.before_each = lambda number, sent: None
    assert table.run() is None
    assert sorted(set(table.landed)) == [0, 1, 2, 4, 5, 6, 7]
    assert [each for each, _ in table.quarantined] == [3]


def test_rows_that_were_refused_while_the_table_was_wrong_land_together_when_it_is_right_again() -> None:
    table = Table()
    table.refuses_all = True
    table.outbox.add(block(range(300)))
    table.run(attempts=20)
    table.refuses_all = False
    before = len(table.sent)
    assert table.run() is None
    assert sorted(table.landed) == list(range(300))
    assert len(table.sent) - before <= 3


def test_a_suspect_that_turns_out_to_have_been_committed_is_forgotten() -> None:
    table = Table({1}, late_news=True)
    calls = itertools.count()

    def before_each(number: int, sent: list[int]) -> None:
        call = next(calls)
        table.refuses_all = 4 <= call < 7
        if call == 3:  # 2 has been committed, and the outbox has not heard
            raise StoreUnavailable("gone")
        if call == 6:  # 2 has been sent again and refused, and the outbox hears
            table.hear()
            table.outbox.add(block([4]))

    table.before_each = before_each
    table.outbox.add(block([1, 2, 3]))
    with pytest.raises(StoreUnavailable):
        table.sifter.step()
    assert table.run() is None
    assert table.sent == [[1, 2, 3], [1], [2], [2, 3], [2], [3], [4], [1], [3]]
    assert table.landed == [2, 4, 3]
    assert [each for each, _ in table.quarantined] == [1]


def test_a_suspect_that_was_erased_is_suspected_no_longer() -> None:
    table = Table(bad={1}, batch_size=1)
    table.outbox.add(block([1, 2], of=app(1)))
    table.sifter.step()
    assert table.outbox.forget_person(ident(1)) == 2
    assert table.run() is None
    assert table.sifter.idle()
    assert table.sent == [[1]]


def test_a_witness_that_was_erased_is_not_written_again() -> None:
    table = Table(bad={2}, batch_size=1)
    table.outbox.add(block([1], of=app(1)))
    table.outbox.add(block([2], of=app(2)))
    table.sifter.step()
    assert table.landed == [1]
    table.sifter.forget_witness()
    assert isinstance(table.run(), OnlyRowRefused)
    assert table.sent.count([1]) == 1
