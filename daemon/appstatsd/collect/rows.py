"""What leaves the collector: rows of `workspace_app_stats`, as columns.

Invariant: `apps` and `cells` have one entry for each row, in the order in which the rows were made. A row is absolute,
never a difference, so that writing it twice is the same as writing it once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from appstatsd.collect.apps import AppKey

MAX_REQUESTS: Final = 2**31 - 1
"""The largest count that the table's integer column holds; larger ones count as this."""


class EndSource(IntEnum):
    """Where a row's `session_ended_at` comes from."""

    LIVE = 0
    """The session goes on; the end is the moment of the flush."""
    REPORTED = 1
    """The client said so, or the row is rolled up."""
    INFERRED = 2
    """Nobody reports the session any more."""


CELLS: Final = np.dtype(
    [
        ("session_id", "V16"),
        ("started_us", "<i8"),
        ("ended_us", "<i8"),
        ("requests", "<i4"),
        ("sessions", "<i4"),
        ("end_source", "u1"),
        ("made_us", "<i8"),
    ]
)
"""The numbers of one row: times in microseconds since the Unix epoch, UTC. `made_us` is the `now` of the flush that
made the row (`updated_at` in the table), `end_source` an `EndSource`."""

Cells = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows on their way to the database."""

    apps: list[AppKey]
    """For each row, its user, workspace, agent, access method and slug; shared between rows of one app."""
    cells: Cells
    """For each row, the rest of it; one-dimensional, of dtype `CELLS`."""

    def __len__(self) -> int:
        return len(self.apps)

    def __getitem__(self, part: slice) -> Rows:
        return Rows(self.apps[part], self.cells[part])

    def take(self, places: npt.NDArray[np.intp]) -> Rows:
        """The rows at these places, in the order of the places."""
        apps = self.apps
        return Rows([apps[place] for place in places.tolist()], self.cells[places])

    def batches(self, size: int) -> Iterator[Rows]:
        """Cut into pieces of at most `size` rows, in order."""
        for begin in range(0, len(self), size):
            yield self[begin : begin + size]

    @staticmethod
    def empty() -> Rows:
        """No rows."""
        return Rows([], np.empty(0, CELLS))

    @staticmethod
    def join(parts: Sequence[Rows]) -> Rows:
        """One after another."""
        if len(parts) == 1:
            return parts[0]
        apps: list[AppKey] = []
        for part in parts:
            apps += part.apps
        cells: np.ndarray[Any, np.dtype[np.void]] = np.concatenate(
            [np.empty(0, CELLS), *(part.cells for part in parts)]
        )
        return Rows(apps, cells)


class Reporter(Protocol):
    """Takes rows to where they are kept."""

    def report(self, rows: Rows) -> None:
        """Commit all rows, in one transaction, or none.

        No key (user, agent, session) stands in `rows` twice.

        Raises:
            RowsRefused: the content of at least one row is why; smaller parts of `rows` may succeed.
            StoreUnavailable: anything else; the same rows may succeed later.
        """
