"""A stretch of the outbox: which of its rows still wait, and which of them has a given key?

Invariant: all columns are of one length, serials rise, and the rows that wait have different keys. Apart from merges in
place, a segment only ever loses rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from operator import eq

import numpy as np
import numpy.typing as npt

from appstatsd.collect.apps import AGENT, USER, AppKey
from appstatsd.collect.rows import Cells, Rows

Places = npt.NDArray[np.intp]
Int64s = npt.NDArray[np.int64]
_Index = tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]

_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(slots=True)
class Marks:
    """What the outbox knows of each row beside its content."""

    serials: Int64s
    """Place in the order of the outbox; rising."""
    stamps: Int64s
    """The outbox's stamp when the row last changed."""
    owing: Int64s
    """The stamp since which the row owes something to the database; a merge leaves it as it is."""
    owing_us: Int64s
    """`made_us` of the row that came with that stamp."""

    def take(self, places: Places) -> Marks:
        """The marks at these places."""
        return Marks(*(getattr(self, each.name)[places] for each in fields(self)))

    @staticmethod
    def join(parts: Sequence[Marks]) -> Marks:
        """One after another."""
        none = np.empty(0, np.int64)
        return Marks(*(np.concatenate([none, *(getattr(part, each.name) for part in parts)]) for each in fields(Marks)))


@dataclass(slots=True)
class Segment:
    """Rows and their marks."""

    rows: Rows
    marks: Marks
    waits: npt.NDArray[np.bool_] = field(init=False)
    """Whether the row is still there for the outbox."""
    waiting: int = field(init=False)
    """How many are."""
    _index: _Index | None = field(init=False, default=None)
    """Digests of the session ids, sorted, and the place of each: 12 bytes a row, made when a key is first looked for.
    A dictionary of keys takes thirteen times that."""

    def __post_init__(self) -> None:
        self.waits = np.ones(len(self.rows), np.bool_)
        self.waiting = len(self.rows)

    def places(self) -> Places:
        """Where the rows that wait are."""
        return np.flatnonzero(self.waits)

    def find(self, serials: Int64s) -> Places:
        """Where those of these serials are that wait here. The serials rise."""
        own = self.marks.serials
        at = np.searchsorted(own, serials)
        inside = at < len(own)
        at, serials = at[inside], serials[inside]
        places: Places = at[(own[at] == serials) & self.waits[at]]
        return places

    def drop(self, places: Places) -> None:
        """These rows wait no longer; the places are all different."""
        self.waits[places] = False
        self.waiting -= len(places)

    def merge(self, places: Places, cells: Cells, stamp: int) -> None:
        """Put these cells in the place of those that are there."""
        self.rows.cells[places] = cells
        self.marks.stamps[places] = stamp

    def owes(self, stamp: int) -> bool:
        """Whether a row that waits owes something since this stamp or before."""
        if not self.waiting:
            return False
        first = int(np.argmax(self.waits))
        if self.marks.owing[first] <= stamp:  # nearly always decides: rows leave in order
            return True
        return bool(np.any(self.marks.owing[self.waits] <= stamp))

    def same_keys(self, rows: Rows, digests: npt.NDArray[np.uint64]) -> tuple[Places, Places]:
        """Which of these rows have the key of a row that waits here: their places, and the places here."""
        if self._index is None:
            own = session_digests(self.rows.cells)
            order = np.argsort(own)
            self._index = own[order], order.astype(np.int32)
        known, places = self._index
        # A sorted search walks through memory where an unsorted one jumps; what follows goes in the order of the rows,
        # in which the same sessions came the last time.
        order = np.argsort(digests)
        at = np.empty(len(rows), np.intp)
        at[order] = np.searchsorted(known, digests[order])
        theirs = np.arange(len(rows))
        their_ids, own_ids = rows.cells["session_id"], self.rows.cells["session_id"]
        found = [(np.empty(0, np.intp), np.empty(0, np.intp))]
        while True:  # twice, unless different sessions share a digest
            candidates = at < len(known)
            candidates[candidates] = known[at[candidates]] == digests[theirs[candidates]]
            theirs, at = theirs[candidates], at[candidates]
            if not len(theirs):
                break
            here = places[at].astype(np.intp)
            same = self.waits[here] & (their_ids[theirs] == own_ids[here])
            same[same] = _same_owner(rows.apps, theirs[same], self.rows.apps, here[same])
            found.append((theirs[same], here[same]))
            theirs, at = theirs[~same], at[~same] + 1
        return np.concatenate([each for each, _ in found]), np.concatenate([each for _, each in found])

    @staticmethod
    def join(parts: Sequence[Segment]) -> Segment:
        """The rows that wait in these, in their order."""
        places = [part.places() for part in parts]
        return Segment(
            Rows.join([part.rows.take(here) for part, here in zip(parts, places, strict=True)]),
            Marks.join([part.marks.take(here) for part, here in zip(parts, places, strict=True)]),
        )


def session_digests(cells: Cells) -> npt.NDArray[np.uint64]:
    """A number for each session id; equal ids have equal ones."""
    halves = np.ascontiguousarray(cells["session_id"]).view(np.uint64).reshape(-1, 2)
    digests: npt.NDArray[np.uint64] = halves[:, 0] * _ODD ^ halves[:, 1]
    return digests


def _same_owner(
    some: list[AppKey], some_places: Places, others: list[AppKey], other_places: Places
) -> npt.NDArray[np.bool_]:
    """Pair by pair, whether user and agent are the same, which is what a key has beside the session."""
    these = [some[place] for place in some_places.tolist()]
    those = [others[place] for place in other_places.tolist()]
    same = np.fromiter(map(eq, these, those), np.bool_, len(these))  # nearly always the very same object
    for place in np.flatnonzero(~same).tolist():
        a, b = these[place], those[place]
        same[place] = a[USER] == b[USER] and a[AGENT] == b[AGENT]
    return same
