"""Groups are found by window and app, made in the order of their sessions, and leave nothing when they go."""

from __future__ import annotations

import numpy as np
from appstatsd.collect.apps import AppKey, app_key
from appstatsd.collect.groups import Groups
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

APPS = [app_key(bytes(15) + bytes([number]), bytes(16), bytes(16), 1, "8080") for number in range(1, 7)]
WINDOWS = [10, 20, 30]
STARTS = [0, 9, 10, 15, 25, 59]

Key = tuple[int, int, AppKey]
"""The length of the window, when it starts, and the app."""


class AgainstADictionary(RuleBasedStateMachine):
    """The groups held, in the order in which they were made, by the key that a dictionary would have."""

    @initialize(window=st.sampled_from(WINDOWS))
    def begin(self, window: int) -> None:
        self.window = window
        self.groups = Groups(window)
        self.known: dict[Key, int] = {}

    @rule(
        named=st.lists(st.sampled_from(APPS), min_size=1, max_size=9),
        told=st.lists(st.tuples(st.integers(0, 8), st.sampled_from(STARTS)), min_size=1, max_size=60),
    )
    def report(self, named: list[AppKey], told: list[tuple[int, int]]) -> None:
        app = np.array([place % len(named) for place, _ in told])
        starts = np.array([start for _, start in told])
        found = self.groups.find_or_add(named, app, starts).tolist()
        for group, place, start in zip(found, app.tolist(), starts.tolist(), strict=True):
            key = self.window, start // self.window * self.window, named[place]
            assert self.known.setdefault(key, group) == group
        assert len(set(self.known.values())) == len(self.known)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        gone = data.draw(st.sets(st.sampled_from(list(self.known)), min_size=1))
        self.groups.forget(np.array([self.known.pop(key) for key in self.known.keys() & gone]))

    @rule(window=st.sampled_from(WINDOWS))
    def change_window(self, window: int) -> None:
        self.window = window
        self.groups.change_window(window)

    @rule()
    def save_and_load(self) -> None:
        held = np.flatnonzero(self.groups.held_row[: self.groups.used])
        arrays = self.groups.to_arrays("groups", held)
        self.groups = Groups(self.window)
        self.groups.from_arrays("groups", arrays)
        self.known = {key: int(np.searchsorted(held, group)) for key, group in self.known.items()}

    @invariant()
    def what_is_held_is_what_was_told(self) -> None:
        if not hasattr(self, "known"):
            return
        groups, numbers = self.groups, np.array(list(self.known.values()), np.int64)
        assert groups.held == len(self.known)
        assert groups.window_us[numbers].tolist() == [window for window, _, _ in self.known]
        assert groups.window_start_us[numbers].tolist() == [start for _, start, _ in self.known]
        assert groups.keys_of(numbers) == [app for _, _, app in self.known]
        assert np.array_equal(np.argsort(groups.order[numbers]), np.arange(len(numbers)))
        assert {key for key in groups.apps.keys if any(key)} == {app for _, _, app in self.known}
        assert (groups.apps.find(APPS) >= 0).tolist() == [app in groups.apps.keys for app in APPS]


TestAgainstADictionary = AgainstADictionary.TestCase
TestAgainstADictionary.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)


def test_thousands_at_once_are_made_found_and_forgotten() -> None:
    groups, count = Groups(60), 5_000
    apps = [AppKey(number.to_bytes(49, "big")) for number in range(1, count + 1)]
    places, starts = np.arange(count), np.arange(count) % 180
    made = groups.find_or_add(apps, places, starts)
    assert np.array_equal(groups.find_or_add(apps, places[::-1], starts[::-1]), made[::-1])
    groups.forget(made[::2])
    assert groups.held == count // 2
    assert np.array_equal(groups.apps.find(apps) >= 0, places % 2 == 1)
    assert np.array_equal(groups.find_or_add(apps, places[1::2], starts[1::2]), made[1::2])
    groups.find_or_add(apps, places, starts)
    assert groups.held == count
    assert len(groups.apps.keys) == count, "numbers of apps that went are given to others"


def test_a_table_without_groups_that_was_saved_and_loaded_takes_new_ones() -> None:
    groups = Groups(60)
    groups.from_arrays("groups", Groups(60).to_arrays("groups", np.arange(0)))
    assert len(set(groups.find_or_add(APPS, np.arange(60) % 6, np.arange(60) // 6 * 60).tolist())) == 60


def test_a_snapshot_has_window_and_app_as_columns_of_their_own() -> None:
    groups = Groups(60)
    groups.find_or_add(APPS, np.array([2, 1]), np.array([125, 61]))
    arrays = groups.to_arrays("groups", np.arange(2))
    assert {name: (array.dtype.str, len(array)) for name, array in arrays.items()} == {
        "groups.app": ("<i4", 2),
        "groups.window_start_us": ("<i8", 2),
        "groups.window_us": ("<i8", 2),
        "groups.requests": ("<i8", 2),
        "groups.sessions": ("<i8", 2),
        "groups.first_session_id": ("|V16", 2),
        "groups.unsettled": ("<i4", 2),
        "groups.pinned": ("<i4", 2),
        "groups.settled_us": ("<i8", 2),
        "groups.order": ("<i8", 2),
        "groups.held_row": ("|b1", 2),
        "groups.next_order": ("<i8", 1),
        "groups.apps.keys": ("|u1", 2 * len(APPS[0])),
        "groups.apps.ends": ("<i8", 2),
    }
    assert arrays["groups.window_start_us"].tolist() == [120, 60]
