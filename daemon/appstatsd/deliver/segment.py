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


@dataclass(frozen=True, slots=True)
class SessionIndex:
    """Which row has a given session: 12 bytes a row, where a dictionary of keys takes thirteen times that."""

    digests: npt.NDArray[np.uint64]
    """Of the session ids, sorted; equal ids have equal ones."""
    places: npt.NDArray[np.int32]
    """The row that each is of."""

    @staticmethod
    def of(cells: Cells) -> SessionIndex:
        """The index of these rows."""
        digests = _digests(cells)
        order = np.argsort(digests)
        return SessionIndex(digests[order], order.astype(np.int32))


@dataclass(slots=True)
class Segment:
    """Rows and their marks."""

    rows: Rows
    marks: Marks
    waits: npt.NDArray[np.bool_] = field(init=False)
    """Whether the row is still there for the outbox."""
    waiting: int = field(init=False)
    """How many are."""
    _index: SessionIndex | None = field(init=False, default=None)
    """Made when a key is first looked for."""

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

    def same_keys(self, rows: Rows, index: SessionIndex) -> tuple[Places, Places]:
        """Which of these rows have the key of a row that waits here: their places, and the places here."""
        if self._index is None:
            self._index = SessionIndex.of(self.rows.cells)
        known, digests, theirs = self._index.digests, index.digests, index.places
        at = np.searchsorted(known, digests)  # both are sorted, so it walks through memory and does not jump
        their_ids, own_ids = rows.cells["session_id"], self.rows.cells["session_id"]
        found = [(np.empty(0, np.intp), np.empty(0, np.intp))]
        while True:  # twice, unless different sessions share a digest
            candidates = at < len(known)
            candidates[candidates] = known[at[candidates]] == digests[candidates]
            digests, theirs, at = digests[candidates], theirs[candidates], at[candidates]
            if not len(theirs):
                break
            here = self._index.places[at].astype(np.intp)
            same = self.waits[here] & (their_ids[theirs] == own_ids[here])
            same[same] = _same_owner(rows.apps, theirs[same], self.rows.apps, here[same])
            found.append((theirs[same].astype(np.intp), here[same]))
            digests, theirs, at = digests[~same], theirs[~same], at[~same] + 1
        return np.concatenate([each for each, _ in found]), np.concatenate([each for _, each in found])

    @staticmethod
    def join(parts: Sequence[Segment]) -> Segment:
        """The rows that wait in these, in their order."""
        left = [part._left() for part in parts]
        return Segment(Rows.join([rows for rows, _ in left]), Marks.join([marks for _, marks in left]))

    def _left(self) -> tuple[Rows, Marks]:
        if self.waiting == len(self.rows):
            return self.rows, self.marks
        places = self.places()
        return self.rows.take(places), self.marks.take(places)


def _digests(cells: Cells) -> npt.NDArray[np.uint64]:
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
