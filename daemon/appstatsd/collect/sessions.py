"""What is known of each session?

A session is a row number: an index leads from its session_id to the row, all else is columns. Invariant: the index holds
exactly the rows in use, a session has an end or is live (`ended_us` is 0), and a settled one has an end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from appstatsd.collect.columns import Ints, Mask
from appstatsd.collect.index import words_of
from appstatsd.collect.keyed import Keyed

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


class Sessions(Keyed):
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
    ID: ClassVar[str] = "session_id"
    session_id: npt.NDArray[np.void]
    group: npt.NDArray[np.int32]
    client: npt.NDArray[np.int32]
    """Number of the client whose report of it was accepted last; -1 once that is forgotten."""
    started_us: Ints
    ended_us: Ints
    requests: npt.NDArray[np.int32]
    counted: npt.NDArray[np.int32]
    """How many of its requests are in its group's rolled-up row."""
    last_wall_us: Ints
    """The daemon's clock at its last accepted report."""
    last_report_us: Ints
    """The same on the clock of `State.patience_us`."""
    flags: npt.NDArray[np.uint8]

    PERSISTENT: ClassVar[int] = SETTLED | OWN | INFERRED | QUEUED
    """The flags that are not made anew from others."""

    def find_or_add(self, session_ids: npt.NDArray[np.void]) -> tuple[Ints, Mask]:
        """The row of each session_id, and whether it is new: the first place of an unknown id is.

        A new row has its id and its order, in which sessions were first accepted; else the caller fills it in.
        """
        return self._find_or_make(words_of(session_ids))

    def find(self, session_id: bytes) -> int | None:
        """The row of one session; None: it is not known."""
        row = int(self._index.find(words_of(np.frombuffer(session_id, "V16")), self._words)[0])
        return None if row < 0 else row

    def forget(self, rows: Ints) -> None:
        """These sessions are not known any more."""
        self._index.remove(rows, self._words)
        self.held_row[rows] = False
        self.flags[rows] = 0
        self.give_back(rows)

    def live(self) -> Mask:
        """Which of the first `used` rows are live sessions."""
        live: Mask = self.held_row[: self.used] & (self.ended_us[: self.used] == 0)
        return live

    def from_arrays(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """See `Columns.from_arrays`."""
        super().from_arrays(prefix, arrays)
        self._index.rebuild(np.flatnonzero(self.held_row), self._words)
