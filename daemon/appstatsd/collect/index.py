"""Which row has this id?

An id is 16 bytes, taken as two numbers: a session's is its session_id, a group's is its window and its app. A hash table
over arrays: open addressing with linear probes, many ids at once, and no object for each id. A dictionary of a million
ids takes 100 bytes and several cache misses for each; this takes 8 to 16 bytes, and the misses of a drain overlap.
Invariant: every row that was added and not removed is in exactly one place, on the way of probes from the place that its
id hashes to, with no empty place before it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from appstatsd.collect.columns import Ints, Mask

Words = npt.NDArray[np.uint64]
"""Ids as two numbers each; shape (ids, 2)."""

_EMPTY: Final = -1
_REMOVED: Final = -2
_FIRST_BITS: Final = 12
_FEW: Final = 32
"""Once no more ids than that are without an answer, they get it one by one: a round of array calls costs as much."""
_WORD: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15
"""The golden section of 2^64: multiples of it lie far from one another, so numbers in sequence, as apps have, do not
share places. See Knuth, "The Art of Computer Programming", volume 3, section 6.4."""


def words_of(ids: npt.NDArray[np.void]) -> Words:
    """The ids, of dtype V16, as numbers; a view."""
    return ids.view(np.uint64).reshape(-1, 2)


class Index:
    """Rows by their ids; the ids themselves are with the rows, and are given with each call."""

    def __init__(self) -> None:
        # Random, so that nobody can choose ids that share a place; what is found does not depend on them.
        chosen = random.SystemRandom()
        self._factor, self._addend = chosen.getrandbits(64) | 1, chosen.getrandbits(64)
        self._clear(_FIRST_BITS)

    def _clear(self, bits: int) -> None:
        self._shift = 64 - bits
        self._mask = (1 << bits) - 1
        self._table = np.full(1 << bits, _EMPTY, np.int32)
        self._taken = 0
        """Places that are not empty, those of removed rows included."""

    def find(self, wanted: Words, words: Words) -> Ints:
        """The row of each id; -1: there is none. `words` are the ids of all rows."""
        rows: Ints = np.empty(len(wanted), np.int64)
        asking = np.arange(len(wanted))  # who has no answer yet
        places = self._places(wanted) if len(wanted) > _FEW else asking
        while len(asking) > _FEW:
            found = self._table.take(places)
            rows[asking] = found
            others = np.flatnonzero(~_are_of(found, wanted, words) & (found != _EMPTY))
            asking, wanted = asking[others], wanted[others]
            places = (places[others] + 1) & self._mask
        rows[asking] = [row for _, row in self._singly(wanted.tolist(), words)]
        return rows

    def find_or_add(self, wanted: Words, candidates: Ints, words: Words) -> Ints:
        """The row of each id; one that is not known gets its candidate, at its first place.

        `words` are the ids of all rows; those of the candidates that were taken are set here.
        """
        count = len(wanted)
        if (self._taken + count) * 2 > len(self._table):
            self.rebuild(self._table[self._table >= 0].astype(np.int64), words, room=count)
        rows: Ints = np.empty(count, np.int64)
        asking = np.arange(count)
        places = self._places(wanted) if count > _FEW else asking
        while len(asking) > _FEW:
            found = self._table.take(places)
            empty = np.flatnonzero(found == _EMPTY)
            if len(empty):
                here = places[empty]
                # Of several ids that want one place the first in order gets it: the last write stays.
                self._table[here[::-1]] = candidates[empty[::-1]]
                got = self._table.take(here)
                won = got == candidates[empty]
                self._taken += int(np.count_nonzero(won))
                winners = empty[won]
                words[candidates[winners]] = wanted[winners]
                found[empty] = got
            rows[asking] = found
            others = np.flatnonzero(~_are_of(found, wanted, words))
            asking, wanted, candidates = asking[others], wanted[others], candidates[others]
            places = (places[others] + 1) & self._mask
        rows[asking] = self._find_or_add_singly(wanted.tolist(), candidates.tolist(), words)
        return rows

    def remove(self, rows: Ints, words: Words) -> None:
        """These rows are not to be found any more; their ids are still in `words`."""
        places = self._places(words.take(rows, axis=0))
        while len(rows):
            here = self._table.take(places) == rows
            self._table[places[here]] = _REMOVED
            rows = rows[~here]
            places = (places[~here] + 1) & self._mask

    def rebuild(self, rows: Ints, words: Words, room: int = 0) -> None:
        """Hold exactly these rows, whose ids are all different, with room for as many more."""
        self._clear(max(_FIRST_BITS, (3 * (len(rows) + room)).bit_length()))
        self._taken = len(rows)
        places = self._places(words.take(rows, axis=0))
        while len(rows):
            empty = np.flatnonzero(self._table.take(places) == _EMPTY)
            self._table[places[empty]] = rows[empty]
            left = self._table.take(places) != rows
            rows = rows[left]
            places = (places[left] + 1) & self._mask

    def _places(self, wanted: Words) -> Ints:
        """Where the search for each id begins."""
        mixed = wanted[:, 0] * np.uint64(self._factor)
        mixed += wanted[:, 1]
        mixed += np.uint64(self._addend)
        mixed ^= mixed >> np.uint64(32)
        mixed *= np.uint64(_GOLDEN)
        places: Ints = (mixed >> np.uint64(self._shift)).view(np.int64)
        return places

    def _singly(self, wanted: list[list[int]], words: Words) -> Iterator[tuple[int, int]]:
        """For each id, when its turn comes, the place where it is or belongs, and the row there or `_EMPTY`."""
        # Items of a memoryview are plain numbers, at half the cost of an array's.
        table, held = self._table.data, words.data
        factor, addend = self._factor, self._addend
        for first, second in wanted:
            mixed = (first * factor + second + addend) & _WORD
            place = ((mixed ^ mixed >> 32) * _GOLDEN & _WORD) >> self._shift
            while (row := table[place]) != _EMPTY and not (
                row >= 0 and held[row, 0] == first and held[row, 1] == second
            ):
                place = (place + 1) & self._mask
            yield place, row

    def _find_or_add_singly(self, wanted: list[list[int]], candidates: list[int], words: Words) -> list[int]:
        rows = []
        table, held = self._table.data, words.data
        for candidate, (first, second), (place, row) in zip(
            candidates, wanted, self._singly(wanted, words), strict=True
        ):
            if row == _EMPTY:
                table[place] = candidate
                held[candidate, 0], held[candidate, 1] = first, second
                self._taken += 1
            rows.append(candidate if row == _EMPTY else row)
        return rows


def _are_of(rows: npt.NDArray[np.int32], wanted: Words, words: Words) -> Mask:
    """Which of these are rows, and of the ids that are wanted there."""
    held = words.take(rows, axis=0, mode="clip")
    same: Mask = (held[:, 0] == wanted[:, 0]) & (held[:, 1] == wanted[:, 1])
    same &= rows >= 0
    return same
