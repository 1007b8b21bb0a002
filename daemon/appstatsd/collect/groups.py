"""Which sessions share a rolled-up row, and what stands in it?

A group is an app and a window: the floored start of its sessions, and the length that the window had when the group was
made, which it keeps. Invariant: `unsettled` and `pinned` count the sessions that keep the group from going.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from appstatsd.collect.apps import AppKey, Apps
from appstatsd.collect.columns import Columns, Ints, Mask

_APP_BITS = 32
_NO_SESSION = np.zeros((), "V16")


class Groups(Columns):
    """All groups held, by number."""

    DTYPES: ClassVar[Mapping[str, str]] = {
        "app": "i4",
        "window_start_us": "i8",
        "window_us": "i8",
        "requests": "i8",
        "sessions": "i8",
        "first_session_id": "V16",
        "unsettled": "i4",
        "pinned": "i4",
        "settled_us": "i8",
        "order": "i8",
        "held_row": "?",
    }
    app: npt.NDArray[np.int32]
    window_start_us: Ints
    window_us: Ints
    requests: Ints
    """The true sum of its rolled-up sessions, which may be more than the table's column holds."""
    sessions: Ints
    """How many sessions are rolled up; 0: there is no rolled-up row yet."""
    first_session_id: npt.NDArray[np.void]
    """The rolled-up row's session_id, once there is one; else nil."""
    unsettled: npt.NDArray[np.int32]
    pinned: npt.NDArray[np.int32]
    """Settled sessions with an inferred end whose client is still remembered."""
    settled_us: Ints
    """The latest now of a flush that settled one of its sessions; 0: none has."""
    order: Ints
    """Rises in the order in which groups were made."""
    held_row: Mask

    def __init__(self, window_us: int) -> None:
        super().__init__()
        self.apps = Apps()
        self._window_us = window_us
        self._next_order = 0
        # Groups of the window in force, by the window's number and the app's; a Python int is the cheapest key.
        self._index: dict[int, int] = {}

    def find_or_add(self, keys: Sequence[AppKey], app: Ints, started_us: Ints) -> Ints:
        """For each session its group; `app` leads from a session to its place in `keys`."""
        windows = started_us // self._window_us
        earliest = int(windows.min())
        span = int(windows.max()) - earliest + 1
        pairs, firsts, inverse = _distinct(app * span + (windows - earliest), len(keys) * span)
        known, lookup = self.apps.numbers.get, self._index.get
        pair_keys = [keys[place] for place in (pairs // span).tolist()]
        pair_windows = (pairs % span + earliest).tolist()
        found = np.array(
            [
                -1 if (number := known(key)) is None else lookup(window << _APP_BITS | number, -1)
                for key, window in zip(pair_keys, pair_windows, strict=True)
            ],
            np.int64,
        )
        missing = np.flatnonzero(found < 0)
        if len(missing):
            missing = missing[np.argsort(firsts[missing])]  # groups are made in the order of their sessions
            wanted = [(pair_keys[pair], pair_windows[pair]) for pair in missing.tolist()]
            made = dict.fromkeys(wanted)  # an app may have several places
            added = dict(zip(made, self._add(list(made)).tolist(), strict=True))
            found[missing] = [added[pair] for pair in wanted]
        return found[inverse]

    def _add(self, pairs: list[tuple[AppKey, int]]) -> Ints:
        """New groups of these apps and windows, which have none yet."""
        groups = self.allot(len(pairs))
        numbers = [self.apps.hold(key) for key, _ in pairs]
        windows = [window for _, window in pairs]
        keys = [window << _APP_BITS | number for number, window in zip(numbers, windows, strict=True)]
        self._index.update(zip(keys, groups.tolist(), strict=True))
        self.app[groups] = numbers
        self.window_start_us[groups] = np.array(windows, np.int64) * self._window_us
        self.window_us[groups] = self._window_us
        self.settled_us[groups] = 0
        self.requests[groups] = self.sessions[groups] = 0
        self.first_session_id[groups] = _NO_SESSION  # and not that of a group that had this number before
        self.unsettled[groups] = self.pinned[groups] = 0
        self.held_row[groups] = True
        self.order[groups] = np.arange(self._next_order, self._next_order + len(pairs))
        self._next_order += len(pairs)
        return groups

    def forget(self, groups: Ints) -> None:
        """These groups are gone; a new session begins new ones."""
        for group in groups.tolist():
            number = int(self.app[group])
            window = int(self.window_start_us[group]) // int(self.window_us[group])
            if self.window_us[group] == self._window_us:
                del self._index[window << _APP_BITS | number]
            self.apps.release(number)
        self.held_row[groups] = False
        self.give_back(groups)

    def kept_until_us(self, groups: Ints, client_grace_us: int) -> Ints:
        """The latest now at which a flush keeps each group, though nothing but time does."""
        window_us = self.window_us[groups]
        over_us = self.window_start_us[groups] + 2 * window_us
        kept_us: Ints = np.maximum(over_us, self.settled_us[groups] + client_grace_us + 2 * window_us)
        return kept_us

    def idle(self) -> Ints:
        """The groups that only time keeps."""
        used = self.used
        return np.flatnonzero(self.held_row[:used] & (self.unsettled[:used] == 0) & (self.pinned[:used] == 0))

    def change_window(self, window_us: int) -> None:
        """From now on new groups have this window; those that there are keep theirs."""
        self._window_us = window_us
        self._index = {
            int(self.window_start_us[group]) // window_us << _APP_BITS | int(self.app[group]): group
            for group in np.flatnonzero(
                self.held_row[: self.used] & (self.window_us[: self.used] == window_us)
            ).tolist()
        }

    def keys_of(self, groups: Ints) -> list[AppKey]:
        """For each group, its app."""
        keys = self.apps.keys
        return [keys[number] for number in self.app[groups].tolist()]

    def to_arrays(self, prefix: str, rows: Ints) -> dict[str, npt.NDArray[Any]]:
        """See `Columns.to_arrays`."""
        arrays = super().to_arrays(prefix, rows)
        arrays[f"{prefix}.next_order"] = np.array([self._next_order])
        arrays.update(self.apps.to_arrays(f"{prefix}.apps"))
        return arrays

    def from_arrays(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """See `Columns.from_arrays`."""
        super().from_arrays(prefix, arrays)
        self._next_order = int(arrays[f"{prefix}.next_order"][0])
        held = self.app[np.flatnonzero(self.held_row)]
        self.apps.from_arrays(f"{prefix}.apps", arrays, held)
        self.change_window(self._window_us)


def _distinct(values: Ints, limit: int) -> tuple[Ints, Ints, Ints]:
    """The values that occur, the first place of each, and for each place which of them it has; all are below `limit`."""
    count = len(values)
    if limit > 8 * count + 1024:
        distinct, firsts, inverse = np.unique(values, return_index=True, return_inverse=True)
        return distinct, firsts, inverse
    # A table is cheaper than sorting where it stays small.
    first_place = np.full(limit, -1)
    first_place[values[::-1]] = np.arange(count - 1, -1, -1)  # of several places the last one written stays
    distinct = np.flatnonzero(first_place >= 0)
    firsts = first_place[distinct]
    first_place[distinct] = np.arange(len(distinct))
    return distinct, firsts, first_place[values]
