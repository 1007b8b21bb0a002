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
    """The rolled-up row's session_id, once there is one."""
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
        wanted, inverse = np.unique(app, return_inverse=True)
        known = self.apps.numbers
        local = [keys[place] for place in wanted.tolist()]
        windows = started_us // self._window_us
        # Apps that no group holds yet have no number; each such app gets its groups by the slow way.
        numbers = np.array([known.get(key, -1) for key in local], np.int64)[inverse]
        packed = (windows << _APP_BITS | numbers).tolist()
        lookup = self._index.get
        found = np.array([lookup(key, -1) if key >= 0 else -1 for key in packed], np.int64)
        for place in np.flatnonzero(found < 0).tolist():
            key = local[int(inverse[place])]
            window = int(windows[place])
            number = known.get(key)
            group = None if number is None else lookup(window << _APP_BITS | number)
            found[place] = self._add(key, window) if group is None else group
        return found

    def _add(self, key: AppKey, window: int) -> int:
        group = int(self.allot(1)[0])
        number = self.apps.hold(key)
        self._index[window << _APP_BITS | number] = group
        self.app[group] = number
        self.window_start_us[group] = window * self._window_us
        self.window_us[group] = self._window_us
        self.settled_us[group] = 0
        self.requests[group] = self.sessions[group] = 0
        self.unsettled[group] = self.pinned[group] = 0
        self.held_row[group] = True
        self.order[group] = self._next_order
        self._next_order += 1
        return group

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
