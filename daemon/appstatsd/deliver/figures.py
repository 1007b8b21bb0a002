"""How is the way to the database doing? Counted by the deliverer, read by status and metrics."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from appstatsd.collect.rows import Rows
from appstatsd.deliver.refusal import OnlyRowRefused, TableRefuses
from appstatsd.errors import RowsRefused, StoreUnavailable

LATE_US: Final = 3_600_000_000
"""A row is late when what it tells of ended more than this before it was written."""


class DatabaseState(StrEnum):
    """What the last attempt showed."""

    UNKNOWN = "unknown"
    """Nothing has been tried yet."""
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts since the start, and how things stand."""

    database_state: DatabaseState
    last_error: str
    """Why rows cannot be written, and what to do; empty once some could be."""
    last_success_us: int
    """When rows were committed last: microseconds since the Unix epoch; 0: never."""
    rows_written: int
    rows_written_late: int
    errors: Mapping[str, int]
    """Errors by the first two characters of their SQLSTATE; `none` where there was none."""


class Tally:
    """Counts; written by the deliverer's thread, read by any."""

    def __init__(self, on_state: Callable[[DatabaseState], None]) -> None:
        """`on_state` is told of each change of the database's state, from the thread that found it."""
        self._on_state = on_state
        self._lock = threading.Lock()
        # The lock protects all that follows.
        self._state = DatabaseState.UNKNOWN
        self._last_error = ""
        self._last_success_us = 0
        self._written = 0
        self._late = 0
        self._errors: Counter[str] = Counter()

    def committed(self, rows: Rows, now_us: int) -> None:
        """The database took these rows."""
        late = int(np.count_nonzero(rows.cells["ended_us"] < now_us - LATE_US))
        self._set_state(DatabaseState.UP)
        with self._lock:
            self._last_error = ""
            self._last_success_us = now_us
            self._written += len(rows)
            self._late += late

    def refused(self, refusal: RowsRefused) -> None:
        """The database refused the content of rows; whether it takes others shows later."""
        with self._lock:
            self._errors[_sqlstate_class(refusal.sqlstate)] += 1

    def failed(self, error: StoreUnavailable) -> None:
        """An attempt came to nothing."""
        self._set_state(DatabaseState.UP if isinstance(error, OnlyRowRefused) else DatabaseState.DOWN)
        with self._lock:
            self._last_error = str(error)
            if not isinstance(error, OnlyRowRefused | TableRefuses):  # those follow from refusals, counted before
                self._errors[_sqlstate_class(error.sqlstate)] += 1

    def probed(self, error: StoreUnavailable | None) -> None:
        """Somebody asked whether rows could be written, while there were none."""
        self._set_state(DatabaseState.UP if error is None else DatabaseState.DOWN)
        with self._lock:
            self._last_error = "" if error is None else str(error)

    def _set_state(self, state: DatabaseState) -> None:
        with self._lock:
            changed = state is not self._state
            self._state = state
        if changed:
            self._on_state(state)

    def figures(self) -> Figures:
        """How things stand."""
        with self._lock:
            return Figures(
                self._state,
                self._last_error,
                self._last_success_us,
                self._written,
                self._late,
                dict(self._errors),
            )


def _sqlstate_class(sqlstate: str | None) -> str:
    return sqlstate[:2] if sqlstate else "none"
