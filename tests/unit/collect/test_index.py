"""The index finds what a dictionary would find, however many ids come at once, and however they collide."""

from __future__ import annotations

import numpy as np
import pytest
from appstatsd.collect import index
from appstatsd.collect.index import Index, words_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

IDS = [bytes([number]) + bytes(14) + bytes([number % 5]) for number in range(40)]


class AgainstADictionary(RuleBasedStateMachine):
    """Rows are given out like those of a table: the lowest free ones first."""

    @initialize(few=st.sampled_from([0, 96]), collide=st.booleans())
    def begin(self, few: int, collide: bool) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(index, "_FEW", few)
        self.patch.setattr(index, "_FIRST_BITS", 3)
        self.index = Index()
        if collide:
            self.index._factor, self.index._addend = 0, 0
        self.words = np.zeros((200, 2), np.uint64)
        self.known: dict[bytes, int] = {}

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self.patch.undo()

    @rule(ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=60))
    def find_or_add(self, ids: list[bytes]) -> None:
        free = sorted(set(range(len(self.words))) - set(self.known.values()))
        candidates = free[: len(ids)]
        wanted = words_of(np.frombuffer(b"".join(ids), "V16"))
        found = self.index.find_or_add(wanted, np.array(candidates), self.words)
        assert found.tolist() == [self.known.setdefault(each, row) for each, row in zip(ids, candidates, strict=True)]

    @rule(ids=st.sets(st.sampled_from(IDS), min_size=1))
    def remove(self, ids: set[bytes]) -> None:
        gone = sorted(ids & self.known.keys())
        self.index.remove(np.array([self.known.pop(each) for each in gone], np.int64), self.words)

    @rule()
    def rebuild(self) -> None:
        self.index.rebuild(np.array(list(self.known.values()), np.int64), self.words)

    @invariant()
    def finds_what_is_known(self) -> None:
        if hasattr(self, "known"):
            found = self.index.find(words_of(np.frombuffer(b"".join(IDS), "V16")), self.words)
            assert found.tolist() == [self.known.get(each, -1) for each in IDS]


TestAgainstADictionary = AgainstADictionary.TestCase
TestAgainstADictionary.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


@given(st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_thousands_at_once_are_found_again_and_those_removed_are_not(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = 5000
    ids = random.integers(0, 2**63, (count, 2), dtype=np.uint64)
    ids[:, int(random.integers(2))] = 7  # ids that differ in one half alone
    words, rows, found = np.zeros((count, 2), np.uint64), np.arange(count), Index()
    assert np.array_equal(found.find_or_add(ids, rows, words), rows)
    assert np.array_equal(words, ids)
    assert np.array_equal(found.find_or_add(ids[::-1], rows, words), rows[::-1])
    found.remove(rows[::2], words)
    assert np.array_equal(found.find(ids, words), np.where(rows % 2, rows, -1))


def test_places_of_what_was_removed_are_used_again_after_a_while() -> None:
    random = np.random.default_rng(1)
    words, found = np.zeros((500, 2), np.uint64), Index()
    rows = np.arange(500)
    for _ in range(100):
        found.find_or_add(random.integers(0, 2**63, (500, 2), dtype=np.uint64), rows, words)
        found.remove(rows, words)
    assert len(found._table) == 1 << index._FIRST_BITS


@pytest.mark.parametrize("seed", range(5))
def test_numbers_in_sequence_share_fewer_places_than_random_ones(seed: int) -> None:
    random, found, count, windows = np.random.default_rng(seed), Index(), 1_000, 50
    found._factor, found._addend = random.integers(0, 2**63, 2).tolist()
    words = np.zeros((windows, count, 2), np.uint64)
    words[:, :, 0] = 1_700_000_000_000_000 + 60_000_000 * np.arange(windows)[:, np.newaxis]
    words[:, :, 1] = np.arange(count)
    taken = [len(np.unique(found._places(each))) for each in words]
    assert np.mean(taken) > 0.95 * count  # at random it would be 0.89
