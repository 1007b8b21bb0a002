"""Which row has this session_id?

A hash table over arrays: open addressing with linear probes, many ids at once, and no object for each id. A dictionary of
a million ids takes 100 bytes and several cache misses for each; this takes 8 to 16 bytes, and the misses of a drain
overlap. Invariant: every row that was added and not removed is in exactly one place, on the way of probes from the place
that its id hashes to, with no empty place before it.
"""

from __future__ import annotations

import random
from typing import Final

import numpy as np
import numpy.typing as npt

from appstatsd.collect.columns import Ints, Mask

Words = npt.NDArray[np.uint64]
"""Session ids as two numbers each; shape (ids, 2)."""

_EMPTY: Final = -1
_REMOVED: Final = -2
_FIRST_BITS: Final = 12
_FEW: Final = 96
"""Up to so many ids are looked up one by one: below that the fixed cost of array calls is more."""
_WORD: Final = (1 << 64) - 1


def words_of(session_ids: npt.NDArray[np.void]) -> Words:
    """The ids, of dtype V16, as numbers; a view."""
    return session_ids.view(np.uint64).reshape(-1, 2)


class Index:
    """Rows by session_id; the ids themselves are with the rows, and are given with each call."""

    def __init__(self) -> None:
        # Random, so that nobody can choose ids that share a place; what is found does not depend on them. Multiply and
        # shift, see Dietzfelbinger et al., "A reliable randomized algorithm for the closest-pair problem" (1997).
        chosen = random.SystemRandom()
        self._factors = chosen.getrandbits(64) | 1, chosen.getrandbits(64) | 1
        self._clear(_FIRST_BITS)

    def _clear(self, bits: int) -> None:
        self._shift = 64 - bits
        self._mask = (1 << bits) - 1
        self._table = np.full(1 << bits, _EMPTY, np.int32)
        self._taken = 0
        """Places that are not empty, those of removed rows included."""

    def find(self, session_id: bytes, words: Words) -> int | None:
        """The row of one id; None: there is none. `words` are the ids of all rows."""
        first, second = np.frombuffer(session_id, np.uint64).tolist()
        row = self._probe(first, second, self._table.data, words.data)[1]
        return None if row == _EMPTY else row

    def find_or_add(self, wanted: Words, candidates: Ints, words: Words) -> Ints:
        """The row of each id; one that is not known gets its candidate, at its first place.

        `words` are the ids of all rows; those of the candidates that were taken are set here.
        """
        count = len(wanted)
        if (self._taken + count) * 2 > len(self._table):
            self.rebuild(self._table[self._table >= 0].astype(np.int64), words, room=count)
        if count <= _FEW:
            return self._find_or_add_few(wanted, candidates, words)
        rows: Ints = np.empty(count, np.int64)
        places = self._places(wanted)
        asking = np.arange(count)  # who has no answer yet
        while len(asking):
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
            held = words.take(found, axis=0, mode="clip")
            same: Mask = (held[:, 0] == wanted[:, 0]) & (held[:, 1] == wanted[:, 1])
            same &= found >= 0
            rows[asking] = found
            others = np.flatnonzero(~same)
            asking, wanted, candidates = asking[others], wanted[others], candidates[others]
            places = (places[others] + 1) & self._mask
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
        first, second = (np.uint64(factor) for factor in self._factors)
        mixed = wanted[:, 0] * first + wanted[:, 1] * second
        places: Ints = (mixed >> np.uint64(self._shift)).view(np.int64)
        return places

    def _probe(self, first: int, second: int, table: memoryview, words: memoryview) -> tuple[int, int]:
        """The place where the id is, or where it belongs, and the row there or `_EMPTY`."""
        place = ((first * self._factors[0] + second * self._factors[1]) & _WORD) >> self._shift
        while True:
            row = table[place]
            if row == _EMPTY or (row >= 0 and words[row, 0] == first and words[row, 1] == second):
                return place, row
            place = (place + 1) & self._mask

    def _find_or_add_few(self, wanted: Words, candidates: Ints, words: Words) -> Ints:
        rows = candidates.tolist()
        # Items of a memoryview are plain numbers, at half the cost of an array's.
        table, held = self._table.data, words.data
        for number, (first, second) in enumerate(wanted.tolist()):
            place, row = self._probe(first, second, table, held)
            if row >= 0:
                rows[number] = row
            else:
                row = table[place] = rows[number]
                held[row, 0], held[row, 1] = first, second
                self._taken += 1
        return np.array(rows, np.int64)
