"""Which rows still wait for the database, and in which order?

The outbox is part of the daemon's durable state: it changes by `add`, `settle`, `take_out` and `forget_person` alone,
each called by the one thread that applies events, and the same calls give the same outbox. Nothing in it runs by itself
or reads a clock. Others may look: the deliverer peeks while the drain adds.

Invariants:
- At most one row of a key (user, agent, session) waits. A newer one is merged into it where it stands, as the upsert
  would have done it.
- Rows leave in the order of their `serials`; a row that comes in goes behind all others. So whoever has sent all rows
  up to a serial, and none twice, needs to remember nothing but that serial.
- A row that changed after it was peeked is not what was sent. So `settle` and `take_out` are told the stamp as of which
  the row was seen; one that changed since stays, behind all others, as a new row.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from appstatsd.collect.apps import USER, AppKey
from appstatsd.collect.merge import merged
from appstatsd.collect.rows import Rows
from appstatsd.deliver.segment import Int64s, Marks, Places, Segment, SessionIndex
from appstatsd.packed import pack, unpack

_SEGMENT_ROWS: Final = 16_384
"""Segments are not joined to more rows than that, which takes two milliseconds,"""
_SEGMENTS: Final = 32
"""unless there would be many more of them than so many, each of which a new row is looked for in."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Copies of rows that wait."""

    rows: Rows
    serials: Int64s
    """For each row, its place in the order; rising."""
    as_of_stamp: int
    """What `settle` and `take_out` want to know of the moment of the look."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> Waiting:
        return Waiting(self.rows[part], self.serials[part], self.as_of_stamp)

    def take(self, places: Places) -> Waiting:
        """The rows at these places."""
        return Waiting(self.rows.take(places), self.serials[places], self.as_of_stamp)


class Outbox:
    """Rows that wait, as columns in segments; a segment for each block that was added, joined as they grow many."""

    def __init__(self, max_clock_skew_us: int) -> None:
        self.max_clock_skew_us = max_clock_skew_us
        """The rule by which rows of one key are merged; changed with the rules, by the one writer."""
        self._lock = threading.Lock()
        # The lock protects all that follows, from those who look while the one writer changes it.
        self._segments: list[Segment] = []
        self._serial = 0
        self._stamp = 0
        self._settled = 0

    # What the one writer does.

    def add(self, rows: Rows) -> int:
        """Take rows over; they must not be changed afterwards, and no two of them may have one key.

        Where nothing waits this costs next to nothing, whatever the number of rows.

        Returns:
            The stamp since which they owe something: `owes(stamp)` is true for as long as one of them does.
        """
        with self._lock:
            if not len(rows):
                return self._stamp
            self._stamp += 1
            waiting = [segment for segment in self._segments if segment.waiting]
            if waiting:
                rows = self._merge(rows, waiting)
            stamps = np.full(len(rows), self._stamp)
            self._append(rows, stamps, stamps.copy(), rows.cells["made_us"].copy())
            return self._stamp

    def settle(self, serials: Int64s, as_of_stamp: int) -> int:
        """These rows are in the database as they were when the stamp was `as_of_stamp`.

        Returns:
            How many of them waited.
        """
        with self._lock:
            count, _ = self._remove(serials, as_of_stamp)
            self._settled += count
            return count

    def take_out(self, serial: int, as_of_stamp: int) -> Rows:
        """Give the row away as it was when the stamp was `as_of_stamp`; no row where it changed since or waits not."""
        with self._lock:
            found = [(segment, segment.find(np.array([serial]))) for segment in self._segments]
            rows = self._copies(found).rows
            _, changed = self._remove(np.array([serial]), as_of_stamp)
            return Rows.empty() if changed else rows

    def forget_person(self, user_id: bytes) -> int:
        """Erase all rows of this person; how many there were. Nothing is owed of them any more."""
        with self._lock:
            count, _ = self._remove(self._serials_of(user_id), self._stamp)
            return count

    # What others see.

    def count_person(self, user_id: bytes) -> int:
        """How many rows of this person wait."""
        with self._lock:
            return len(self._serials_of(user_id))

    def peek(self, limit: int, after_serial: int = 0, without: Collection[int] = ()) -> Waiting:
        """The first rows behind a serial, without some."""
        with self._lock:
            chosen: list[tuple[Segment, Places]] = []
            for segment in self._segments:
                if limit <= 0:
                    break
                places = _behind(segment, after_serial, without, limit)
                chosen.append((segment, places))
                limit -= len(places)
            return self._copies(chosen)

    def pick(self, serials: Collection[int]) -> Waiting:
        """Those of these rows that wait."""
        with self._lock:
            wanted = _sorted(serials)
            return self._copies([(segment, segment.find(wanted)) for segment in self._segments])

    def sample(self, count: int, after_serial: int = 0, without: Collection[int] = ()) -> Waiting:
        """At most `count` rows behind a serial, without some, evenly spread; the last one is among them."""
        with self._lock:
            chosen = [(segment, _behind(segment, after_serial, without)) for segment in self._segments]
            total = sum(len(places) for _, places in chosen)
            spread = np.unique(np.linspace(total - 1, 0, min(count, total)).astype(np.intp))
            taken = []
            for segment, places in chosen:
                inside = (spread >= 0) & (spread < len(places))
                taken.append((segment, places[spread[inside]]))
                spread = spread - len(places)
            return self._copies(taken)

    def owes(self, stamp: int) -> bool:
        """Whether a row waits with something that was added at this stamp or before."""
        with self._lock:
            return any(segment.owes(stamp) for segment in self._segments)

    def __len__(self) -> int:
        with self._lock:
            return sum(segment.waiting for segment in self._segments)

    @property
    def last_serial(self) -> int:
        """The highest serial that was ever given; 0: none."""
        with self._lock:
            return self._serial

    @property
    def settled(self) -> int:
        """How many rows were settled since this outbox was made or read back."""
        with self._lock:
            return self._settled

    @property
    def oldest_owing_us(self) -> int | None:
        """`made_us` of the row that has been waiting longest, as it first came; None where nothing waits.

        That it was merged since makes it no younger: the database has nothing of it.
        """
        with self._lock:
            oldest = [int(segment.marks.owing_us[segment.waits].min()) for segment in self._segments if segment.waiting]
            return min(oldest, default=None)

    # The snapshot.

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it, as arrays that nobody changes."""
        with self._lock:
            whole = Segment.join(self._segments)
            distinct: dict[AppKey, int] = {}
            app = np.array([distinct.setdefault(key, len(distinct)) for key in whole.rows.apps], np.int32)
            apps, app_ends = pack(list(distinct))
            return {
                "cells": whole.rows.cells.copy(),  # which may be those that merges change
                "app": app,
                "apps": apps,
                "app_ends": app_ends,
                "serials": whole.marks.serials,
                "stamps": whole.marks.stamps,
                "owing": whole.marks.owing,
                "owing_us": whole.marks.owing_us,
                "last": np.array([self._serial, self._stamp]),
            }

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[Any]], max_clock_skew_us: int) -> Outbox:
        """The outbox that `to_arrays` was called on; equal apps share one key."""
        outbox = cls(max_clock_skew_us)
        distinct = [AppKey(key) for key in unpack(arrays["apps"], arrays["app_ends"])]
        rows = Rows([distinct[place] for place in arrays["app"].tolist()], _column(arrays["cells"]))
        marks = Marks(*(_column(arrays[name]) for name in ("serials", "stamps", "owing", "owing_us")))
        if len(rows):
            outbox._segments.append(Segment(rows, marks))
        outbox._serial, outbox._stamp = arrays["last"].tolist()
        return outbox

    # Below, the lock is held.

    def _merge(self, rows: Rows, waiting: list[Segment]) -> Rows:
        """Merge what has the key of a row that waits; the rest is returned."""
        new = np.ones(len(rows), np.bool_)
        index = SessionIndex.of(rows.cells)
        for segment in waiting:
            theirs, here = segment.same_keys(rows, index)
            if len(theirs):
                cells = merged(segment.rows.cells[here], rows.cells[theirs], self.max_clock_skew_us)
                segment.merge(here, cells, self._stamp)
                new[theirs] = False
        return rows if new.all() else rows.take(np.flatnonzero(new))

    def _append(self, rows: Rows, stamps: Int64s, owing: Int64s, owing_us: Int64s) -> None:
        """A new segment; it is joined with those before it while they are not much larger.

        So there are few segments to look into, a row is copied a few times in its life, and nobody waits for long while
        very many are joined.
        """
        if not len(rows):
            return
        serials = np.arange(self._serial + 1, self._serial + 1 + len(rows))
        self._serial += len(rows)
        segments = [segment for segment in self._segments if segment.waiting]
        segments.append(Segment(rows, Marks(serials, stamps, owing, owing_us)))
        first = len(segments) - 1
        size = segments[first].waiting
        most = max(_SEGMENT_ROWS, sum(segment.waiting for segment in segments) // _SEGMENTS)
        while first and segments[first - 1].waiting <= min(2 * size, most - size):
            first -= 1
            size += segments[first].waiting
        if first < len(segments) - 1:
            segments[first:] = [Segment.join(segments[first:])]
        self._segments = segments

    def _remove(self, serials: Int64s, as_of_stamp: int) -> tuple[int, int]:
        """Take rows out; those that changed since come back behind all others, owing what came since.

        Returns:
            How many of them waited, and how many of these had changed.
        """
        serials = np.sort(serials)
        count = 0
        changed: list[Rows] = []
        stamps: list[Int64s] = []
        for segment in self._segments:
            places = segment.find(serials)
            if not len(places):
                continue
            count += len(places)
            later = places[segment.marks.stamps[places] > as_of_stamp]
            changed.append(segment.rows.take(later))
            stamps.append(segment.marks.stamps[later])
            segment.drop(places)
        if not count:
            return 0, 0
        self._segments = [
            Segment.join([segment]) if 2 * segment.waiting < len(segment.rows) else segment
            for segment in self._segments
            if segment.waiting
        ]
        again = Rows.join(changed)
        owing = np.full(len(again), as_of_stamp + 1)
        self._append(again, np.concatenate(stamps), owing, again.cells["made_us"].copy())
        return count, len(again)

    def _serials_of(self, user_id: bytes) -> Int64s:
        found = [np.empty(0, np.int64)]
        for segment in self._segments:
            places, apps = segment.places(), segment.rows.apps
            theirs = [place for place in places.tolist() if apps[place][USER] == user_id]
            found.append(segment.marks.serials[np.array(theirs, np.intp)])
        return np.concatenate(found)

    def _copies(self, chosen: list[tuple[Segment, Places]]) -> Waiting:
        rows = Rows.join([segment.rows.take(places) for segment, places in chosen])
        serials = [np.empty(0, np.int64), *(segment.marks.serials[places] for segment, places in chosen)]
        return Waiting(rows, np.concatenate(serials), self._stamp)


def _behind(segment: Segment, serial: int, without: Collection[int], limit: int | None = None) -> Places:
    """The places of rows that wait behind a serial, without some; the first ones where there is a limit."""
    begin = int(np.searchsorted(segment.marks.serials, serial, "right"))
    found: list[Places] = [np.empty(0, np.intp)]
    unwanted = _sorted(without)
    # With a limit, in strides, so that a look at a few rows of a million costs a few rows.
    stride = len(segment.rows) if limit is None else 4 * limit
    missing = len(segment.rows) if limit is None else limit
    while missing > 0 and begin < len(segment.rows):
        places = begin + np.flatnonzero(segment.waits[begin : begin + stride])
        if len(unwanted):
            places = places[~np.isin(segment.marks.serials[places], unwanted)]
        found.append(places[:missing])
        missing -= len(places)
        begin += stride
    return np.concatenate(found)


def _sorted(serials: Collection[int]) -> Int64s:
    return np.sort(np.fromiter(serials, np.int64, len(serials)))


def _column(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array of one's own that may be changed."""
    return np.ascontiguousarray(array).copy()
