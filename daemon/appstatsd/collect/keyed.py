"""How are the rows of a table found by what they are of?

An index leads from the id of what a row is of, 16 bytes in a column of the table, to the row. Invariant: `held_row` says
which rows are in use, no two rows in the index have one id, and `order` rises in the order in which rows were made, which
their numbers do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from appstatsd.collect.columns import Columns, Ints, Mask
from appstatsd.collect.index import Index, Words, words_of


class Keyed(Columns):
    """A table with a column of ids, which a subclass names in `ID`, and the columns `order` and `held_row`."""

    ID: ClassVar[str]
    order: Ints
    held_row: Mask

    def __init__(self) -> None:
        super().__init__()
        self._index = Index()
        self._next_order = 0

    @property
    def _words(self) -> Words:
        """The ids of all rows."""
        return words_of(getattr(self, self.ID))

    def _find_or_make(self, wanted: Words) -> tuple[Ints, Mask]:
        """The row of each id, and whether it is new: the first place of an unknown id is.

        A new row has its id and its order; everything else of it is for the caller to fill in.
        """
        count = len(wanted)
        candidates = self.allot(count)
        # One pass: an id that is known keeps its row, and the candidate goes back.
        rows = self._index.find_or_add(wanted, candidates, self._words)
        new = rows == candidates
        made = int(np.count_nonzero(new))
        if made < count:
            self.give_back(candidates[~new][::-1])
        if made:
            fresh = rows[new]
            self.held_row[fresh] = True
            self.order[fresh] = np.arange(self._next_order, self._next_order + made)
            self._next_order += made
        return rows, new

    def to_arrays(self, prefix: str, rows: Ints) -> dict[str, npt.NDArray[Any]]:
        """See `Columns.to_arrays`."""
        arrays = super().to_arrays(prefix, rows)
        arrays[f"{prefix}.next_order"] = np.array([self._next_order])
        return arrays

    def from_arrays(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """See `Columns.from_arrays`."""
        super().from_arrays(prefix, arrays)
        self._next_order = int(arrays[f"{prefix}.next_order"][0])
