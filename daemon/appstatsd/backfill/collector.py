"""Which rows follow from the requests of a whole file?

Those that the daemon's collector would make of them if it forgot nothing before the file's end (a test compares both); but
since all of them are over, and none is told of twice, what is to be known of short ones is their number. Invariant: what
is held grows with the rows, not with the lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from appstatsd.backfill.lines import Parsed
from appstatsd.collect.apps import AppKey
from appstatsd.collect.rows import CELLS, MAX_REQUESTS, EndSource, Rows
from appstatsd.collect.rules import Rules
from appstatsd.collect.validate import EARLIEST_START_US

_WINDOW_BITS: Final = 32
"""Enough for the number of a window since the Unix epoch."""
_WINDOW_MASK: Final = (1 << _WINDOW_BITS) - 1


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of some lines' requests."""

    requests: int
    refused: int
    """Those whose times cannot be."""
    long: list[int]
    """Which of the requests lasted for longer than a window, and so have rows of their own, in the order of the rows."""


class FileCollector:
    """Adds up the requests of one file."""

    def __init__(self, rules: Rules, wall_us: int) -> None:
        """`wall_us`: the clock, in microseconds since the Unix epoch."""
        self._rules = rules
        self._latest_us = wall_us + rules.max_clock_skew_us
        self._groups: dict[int, int] = {}
        self._own: list[tuple[int, int, int]] = []
        self._last_us = 0
        self._apps: Sequence[AppKey] = ()

    def take(self, parsed: Parsed) -> Taken:
        """Add requests. The apps of all calls are one list, which may grow."""
        self._apps = parsed.apps
        window_us = self._rules.window_us
        app = np.array(parsed.app, np.int64)
        started_us = np.array(parsed.started_us, np.int64)
        ended_us = np.array(parsed.ended_us, np.int64)
        lasted_us = ended_us - started_us
        can_be = (started_us >= EARLIEST_START_US) & (ended_us <= self._latest_us)
        can_be &= (lasted_us >= 0) & (lasted_us <= self._rules.max_session_age_us)
        short = can_be & (lasted_us <= window_us)
        packed = app[short] << _WINDOW_BITS | started_us[short] // window_us
        groups = self._groups
        for group, count in zip(*(each.tolist() for each in np.unique(packed, return_counts=True)), strict=True):
            groups[group] = groups.get(group, 0) + count
        long = np.flatnonzero(can_be & ~short)
        for place in long.tolist():
            self._own.append((parsed.app[place], parsed.started_us[place], parsed.ended_us[place]))
        taken = int(np.count_nonzero(can_be))
        if taken:
            self._last_us = max(self._last_us, int(ended_us[can_be].max()))
        return Taken(taken, len(app) - taken, long.tolist())

    def rolled_up(self) -> Rows:
        """The rolled-up rows; their ids are not filled in."""
        groups = np.array(list(self._groups), np.int64)
        counts = np.array(list(self._groups.values()), np.int64)
        cells = self._cells(len(groups))
        cells["started_us"] = (groups & _WINDOW_MASK) * self._rules.window_us
        cells["ended_us"] = cells["started_us"] + self._rules.window_us
        cells["requests"] = cells["sessions"] = np.minimum(counts, MAX_REQUESTS)
        return Rows([self._apps[app] for app in (groups >> _WINDOW_BITS).tolist()], cells)

    def own(self, session_ids: npt.NDArray[np.void]) -> Rows:
        """The rows of long requests; their ids are given in the order in which `take` told of them."""
        cells = self._cells(len(self._own))
        cells["session_id"] = session_ids
        cells["started_us"] = [started_us for _, started_us, _ in self._own]
        cells["ended_us"] = [ended_us for *_, ended_us in self._own]
        cells["requests"] = cells["sessions"] = 1
        return Rows([self._apps[app] for app, *_ in self._own], cells)

    def _cells(self, rows: int) -> npt.NDArray[np.void]:
        cells = np.zeros(rows, CELLS)
        cells["end_source"] = EndSource.REPORTED
        # The same for the same file, and never in the future: no workspace counts as used later than its last request.
        cells["made_us"] = self._last_us
        return cells
