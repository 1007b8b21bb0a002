"""What is held of one person, and how is it erased?

A person is a user_id, which is part of a group's app: so groups are of one person each, and go with their sessions.
Invariant: after `forget` neither the tables nor the lists nor a snapshot hold anything that names the person; everything
else stands as if the person had never been reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from appstatsd.collect.apps import USER
from appstatsd.collect.columns import Ints
from appstatsd.collect.state import State


@dataclass(frozen=True, slots=True)
class Person:
    """How much is held of one person."""

    live_sessions: int
    """Sessions without an end."""
    ended_sessions: int
    """Sessions that have an end and wait for a flush, or are remembered after it."""
    groups: int


def look(state: State, user_id: bytes) -> Person:
    """How much is held of this person; changes nothing."""
    return _count(state, *_find(state, user_id))


def forget(state: State, user_id: bytes) -> Person:
    """Erase this person; how much there was. A later report of one of the sessions begins it anew."""
    rows, groups = _find(state, user_id)
    found = _count(state, rows, groups)
    if len(groups):
        state.sessions.forget(rows)
        state.groups.forget(groups)
        # Rows that are free again must not stand in a list under their old meaning.
        state.rebuild_lists()
    return found


def _count(state: State, rows: Ints, groups: Ints) -> Person:
    live = int(np.count_nonzero(state.sessions.ended_us[rows] == 0))
    return Person(live, len(rows) - live, len(groups))


def _find(state: State, user_id: bytes) -> tuple[Ints, Ints]:
    """The rows of the person's sessions, and the person's groups."""
    sessions, groups = state.sessions, state.groups
    theirs = np.array([key[USER] == user_id for key in groups.apps.keys], np.bool_)
    if not theirs.any():
        return np.empty(0, np.int64), np.empty(0, np.int64)
    of_person = groups.held_row[: groups.used] & theirs[groups.app[: groups.used]]
    rows = np.flatnonzero(sessions.held_row[: sessions.used] & of_person[sessions.group[: sessions.used]])
    return rows, np.flatnonzero(of_person)
