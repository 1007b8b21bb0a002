"""Which sessions share a rolled-up row, and what stands in it?

A group is an app and a window: the floored start of its sessions, and the length that the window had when the group was
made, which it keeps. Invariant: `unsettled` and `pinned` count the sessions that keep the group from going, and the index
holds exactly the groups whose window has the length in force.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from appstatsd.collect.apps import AppKey, Apps
from appstatsd.collect.columns import Ints
from appstatsd.collect.index import Words
from appstatsd.collect.keyed import Keyed

_NO_SESSION = np.zeros((), "V16")


class Groups(Keyed):
    """All groups held, by number."""

    DTYPES: ClassVar[Mapping[str, str]] = {
        "start_and_app": "V16",
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
    ID: ClassVar[str] = "start_and_app"
    start_and_app: npt.NDArray[np.void]
    """Two numbers: when its window starts, in microseconds, and its app's."""
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

    def __init__(self, window_us: int) -> None:
        super().__init__()
        self.apps = Apps()
        self._window_us = window_us

    @property
    def window_start_us(self) -> Ints:
        """A view that is good until groups are added."""
        return self._words.view(np.int64)[:, 0]

    @property
    def app(self) -> Ints:
        """Numbers in `apps`; a view that is good until groups are added."""
        return self._words.view(np.int64)[:, 1]

    def find_or_add(self, keys: Sequence[AppKey], app: Ints, started_us: Ints) -> Ints:
        """For each session its group; `app` leads from a session to its place in `keys`."""
        wanted = np.empty((len(app), 2), np.int64)
        wanted[:, 0] = started_us // self._window_us * self._window_us
        wanted[:, 1] = self.apps.find(keys)[app]
        found = self._index.find(wanted.view(np.uint64), self._words)
        missing = np.flatnonzero(found < 0)
        if len(missing):
            wanted[missing, 1] = self.apps.find_or_add([keys[place] for place in app[missing].tolist()])
            found[missing] = self._add(wanted[missing].view(np.uint64))
        return found

    def _add(self, wanted: Words) -> Ints:
        """New groups of these windows and apps; one for those that are the same, as an app may have several places."""
        found, new = self._find_or_make(wanted)
        groups = found[new]
        self.apps.hold(self.app[groups])
        self.window_us[groups] = self._window_us
        self.settled_us[groups] = 0
        self.requests[groups] = self.sessions[groups] = 0
        self.first_session_id[groups] = _NO_SESSION  # and not that of a group that had this number before
        self.unsettled[groups] = self.pinned[groups] = 0
        return found

    def forget(self, groups: Ints) -> None:
        """These groups are gone; a new session begins new ones."""
        self._index.remove(groups[self.window_us[groups] == self._window_us], self._words)
        self.apps.release(self.app[groups])
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
        in_force = self.held_row[: self.used] & (self.window_us[: self.used] == window_us)
        self._index.rebuild(np.flatnonzero(in_force), self._words)

    def keys_of(self, groups: Ints) -> list[AppKey]:
        """For each group, its app."""
        keys = self.apps.keys
        return [keys[number] for number in self.app[groups].tolist()]

    def to_arrays(self, prefix: str, rows: Ints) -> dict[str, npt.NDArray[Any]]:
        """See `Columns.to_arrays`."""
        arrays = super().to_arrays(prefix, rows)
        words = arrays.pop(f"{prefix}.{self.ID}").view(np.int64).reshape(-1, 2)
        arrays[f"{prefix}.window_start_us"], arrays[f"{prefix}.app"] = words[:, 0].copy(), words[:, 1].astype(np.int32)
        arrays.update(self.apps.to_arrays(f"{prefix}.apps"))
        return arrays

    def from_arrays(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """See `Columns.from_arrays`."""
        words = np.stack([arrays[f"{prefix}.window_start_us"], arrays[f"{prefix}.app"]], axis=1, dtype=np.int64)
        super().from_arrays(prefix, {**arrays, f"{prefix}.{self.ID}": words.view("V16")[:, 0]})
        self.apps.from_arrays(f"{prefix}.apps", arrays, self.app[self.held_row])
        self.change_window(self._window_us)
