"""What is known of each session?

A session is a row number: an index leads from its session_id to the row, all else is columns. Invariant: the index holds
exactly the rows in use, a session has an end or is live (`ended_us` is 0), and a settled one has an end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from appstatsd.collect.columns import Columns, Ints, Mask
from appstatsd.collect.index import Index, words_of

SETTLED: Final = 1
"""It has an end and is in a row."""
OWN: Final = 2
"""It has been written as a row of its own, and stays one."""
INFERRED: Final = 4
"""Its end is inferred; the next report of it takes its place."""
TOUCHED: Final = 8
"""It changed since the last flush, and is in the list of those that did."""
WAITING: Final = 16
"""It is live and young, and in the calendar of when it will be long."""
QUEUED: Final = 32
"""A flush that is under way has yet to look at it."""


class Sessions(Columns):
    """All sessions held, by row number."""

    DTYPES: ClassVar[Mapping[str, str]] = {
        "session_id": "V16",
        "group": "i4",
        "client": "i4",
        "started_us": "i8",
        "ended_us": "i8",
        "requests": "i4",
        "counted": "i4",
        "order": "i8",
        "last_wall_us": "i8",
        "last_report_us": "i8",
        "flags": "u1",
        "held_row": "?",
    }
    session_id: npt.NDArray[np.void]
    group: npt.NDArray[np.int32]
    client: npt.NDArray[np.int32]
    """Number of the client whose report of it was accepted last; -1 once that is forgotten."""
    started_us: Ints
    ended_us: Ints
    requests: npt.NDArray[np.int32]
    counted: npt.NDArray[np.int32]
    """How many of its requests are in its group's rolled-up row."""
    order: Ints
    """Rises in the order in which sessions were first accepted."""
    last_wall_us: Ints
    """The daemon's clock at its last accepted report."""
    last_report_us: Ints
    """The same on the clock of `State.patience_us`."""
    flags: npt.NDArray[np.uint8]
    held_row: Mask
    """Whether the row is in use."""

    PERSISTENT: ClassVar[int] = SETTLED | OWN | INFERRED | QUEUED
    """The flags that are not made anew from others."""

    def __init__(self) -> None:
        super().__init__()
        self._index = Index()
        self._next_order = 0

    def find_or_add(self, session_ids: npt.NDArray[np.void]) -> tuple[Ints, Mask]:
        """The row of each session_id, and whether it is new: the first place of an unknown id is.

        A new row has its id and its order; everything else of it is for the caller to fill in.
        """
        count = len(session_ids)
        candidates = self.allot(count)
        # One pass: an id that is known keeps its row, and the candidate goes back.
        rows = self._index.find_or_add(words_of(session_ids), candidates, words_of(self.session_id))
        new = rows == candidates
        added = int(np.count_nonzero(new))
        if added < count:
            self.give_back(candidates[~new][::-1])
        if added:
            fresh = rows[new]
            self.held_row[fresh] = True
            self.order[fresh] = np.arange(self._next_order, self._next_order + added)
            self._next_order += added
        return rows, new

    def find(self, session_id: bytes) -> int | None:
        """The row of one session; None: it is not known."""
        return self._index.find(session_id, words_of(self.session_id))

    def forget(self, rows: Ints) -> None:
        """These sessions are not known any more."""
        self._index.remove(rows, words_of(self.session_id))
        self.held_row[rows] = False
        self.flags[rows] = 0
        self.give_back(rows)

    def live(self) -> Mask:
        """Which of the first `used` rows are live sessions."""
        live: Mask = self.held_row[: self.used] & (self.ended_us[: self.used] == 0)
        return live

    def to_arrays(self, prefix: str, rows: Ints) -> dict[str, npt.NDArray[Any]]:
        """See `Columns.to_arrays`."""
        arrays = super().to_arrays(prefix, rows)
        arrays[f"{prefix}.next_order"] = np.array([self._next_order])
        return arrays

    def from_arrays(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """See `Columns.from_arrays`."""
        super().from_arrays(prefix, arrays)
        self._next_order = int(arrays[f"{prefix}.next_order"][0])
        rows = np.flatnonzero(self.held_row)
        self._index.rebuild(rows, words_of(self.session_id))
