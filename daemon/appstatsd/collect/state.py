"""What does the collector hold between two calls?

Sessions, groups and clients, and five lists that say where a flush has to look, so that it looks nowhere else. The lists
can be made anew from the tables: a snapshot leaves them out. Invariant: an unsettled session is in `touched`, `young`,
`long` or `queue`; a group that only time keeps is in `idle_groups`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import numpy as np
import numpy.typing as npt

from appstatsd.collect.clients import Client, Clients
from appstatsd.collect.columns import Ints, tally
from appstatsd.collect.due import Due
from appstatsd.collect.groups import Groups
from appstatsd.collect.rules import Rules
from appstatsd.collect.sessions import INFERRED, QUEUED, SETTLED, TOUCHED, Sessions


class State:
    """The collector's tables and lists."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.sessions = Sessions()
        self.groups = Groups(rules.window_us)
        self.clients = Clients()
        self.touched: list[Ints] = []
        """Sessions that changed since the last flush."""
        self.young = Due()
        """Live sessions by the time at which they will be long."""
        self.long: list[Ints] = []
        """Sessions that the last flush found live and long, for the next to look at."""
        self.queue: Ints = np.empty(0, np.int64)
        """Sessions that a flush under way has yet to look at, in the order of their acceptance."""
        self.idle_groups = Due()
        """Groups that only time keeps, by the time at which they can go."""
        self.last_now_us = 0
        """The now of the last flush."""
        self.held_since_us: int | None = None
        """Since when, on the monotonic clock, no grace and no time-out runs; None: they run."""
        self.held_us = 0
        """For how long they have been held before that, since the process began."""
        self.abandoned = 0
        """Sessions whose end was inferred, since the start."""

    def patience_us(self, mono_us: int) -> int:
        """The monotonic clock without the time in which no grace and no time-out ran: what they are measured on."""
        return (mono_us if self.held_since_us is None else self.held_since_us) - self.held_us

    def client(self, client_id: str, wall_us: int, mono_us: int) -> Client:
        """The client of this name; a new one is away since now."""
        return self.clients.get_or_add(client_id, wall_us, mono_us, self.patience_us(mono_us))

    def has_time_outs(self) -> bool:
        """Whether there may be sessions that end for want of reports though their clients are there."""
        return bool(self.rules.session_timeout_us or self.clients.tells_log.any())

    def time_outs_us(self, clients: npt.NDArray[np.int32]) -> Ints:
        """For sessions of these clients, by number: how long each may go without a report; 0: for ever."""
        return np.where(self.clients.tells_log[clients], self.rules.log_timeout_us, self.rules.session_timeout_us)

    def touch(self, rows: Ints) -> None:
        """The next flush has to look at these sessions."""
        flags = self.sessions.flags
        rows = rows[flags[rows] & TOUCHED == 0]
        if len(rows):
            flags[rows] |= TOUCHED
            self.touched.append(rows)

    def infer_ends(self, rows: Ints, ended_us: Ints | int) -> None:
        """These live sessions ended, as far as the daemon can tell, at these times, though not before their start."""
        if not len(rows):
            return
        sessions = self.sessions
        sessions.ended_us[rows] = np.maximum(ended_us, sessions.started_us[rows])
        sessions.flags[rows] |= INFERRED
        self.abandoned += len(rows)
        self.touch(rows)

    def revive(self, rows: Ints) -> None:
        """A report of these sessions takes the place of their inferred end; no row is named twice."""
        sessions, groups = self.sessions, self.groups
        settled = rows[sessions.flags[rows] & SETTLED != 0]
        tally(groups.unsettled, sessions.group[settled])
        pinning = settled[sessions.client[settled] >= 0]
        tally(groups.pinned, sessions.group[pinning], -1)
        sessions.ended_us[rows] = 0
        sessions.flags[rows] &= ~np.uint8(INFERRED | SETTLED)
        self.touch(rows)

    def list_idle(self, groups: Ints) -> None:
        """Put those of the groups that only time keeps where a flush will find them when their time has come."""
        table = self.groups
        idle = groups[(table.unsettled[groups] == 0) & (table.pinned[groups] == 0)]
        if len(idle):
            self.idle_groups.add(table.kept_until_us(idle, self.rules.client_grace_us), idle)

    def rebuild_lists(self) -> None:
        """Make the lists anew, from the tables: after a snapshot was loaded, or when other rules are in force."""
        sessions = self.sessions
        flags = sessions.flags[: sessions.used]
        unsettled, changed = flags & (SETTLED | QUEUED) == 0, flags & TOUCHED != 0
        touched = np.flatnonzero(sessions.held_row[: sessions.used] & (unsettled | changed))
        self.young, self.long, self.idle_groups = Due(), [], Due()
        self.touched = []
        queue = np.flatnonzero(flags & QUEUED)
        self.queue = queue[np.argsort(sessions.order[queue])]
        flags &= np.uint8(sessions.PERSISTENT)
        self.touch(touched)
        self.list_idle(self.groups.idle())

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All but the lists, for a snapshot: copies that nobody changes, of what is held and no more."""
        sessions = np.flatnonzero(self.sessions.held_row[: self.sessions.used])
        groups = np.flatnonzero(self.groups.held_row[: self.groups.used])
        scalars = [
            self.last_now_us,
            -1 if self.held_since_us is None else self.held_since_us,
            self.held_us,
            self.abandoned,
        ]
        return {
            "rules": np.array(astuple(self.rules), np.int64),
            "scalars": np.array(scalars, np.int64),
            **self.sessions.to_arrays("sessions", sessions),
            # A session's group by its place among those that are held.
            "sessions.group": np.searchsorted(groups, self.sessions.group[sessions]).astype(np.int32),
            **self.groups.to_arrays("groups", groups),
            **self.clients.to_arrays("clients"),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> State:
        """The state that `to_arrays` was called on."""
        state = cls(Rules(*arrays["rules"].tolist()))
        state.last_now_us, held_since_us, state.held_us, state.abandoned = arrays["scalars"].tolist()
        state.held_since_us = None if held_since_us < 0 else held_since_us
        state.sessions.from_arrays("sessions", arrays)
        state.groups.from_arrays("groups", arrays)
        state.clients.from_arrays("clients", arrays)
        state.rebuild_lists()
        return state
