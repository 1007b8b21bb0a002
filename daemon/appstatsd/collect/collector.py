"""What do all reports together say, and which rows follow from it?

The collector is a state machine: it changes by the calls below alone, each with the clock readings of its moment, and
gives the same rows for the same calls. Invariant: it is as if every report had been merged on its own, in the order of
arrival (SPEC section 2); the merge is a join, so that whole drains can be applied in one pass.

Thread-safe: one lock covers every public method.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from appstatsd.collect import person, presence, rollup
from appstatsd.collect.accept import accept
from appstatsd.collect.apps import METHOD, METHODS
from appstatsd.collect.batch import Arrival, Rejection
from appstatsd.collect.clients import Clients
from appstatsd.collect.columns import Ints
from appstatsd.collect.person import Person
from appstatsd.collect.rollup import ALL, Flushed
from appstatsd.collect.rules import Rules
from appstatsd.collect.state import State

APP_BYTES = 64
"""About what the key of an app takes."""


class Collector:
    """Sessions, groups and clients, and the roll-up over them."""

    def __init__(self, rules: Rules) -> None:
        self._lock = threading.Lock()
        self._state = State(rules)  # everything in it is protected by the lock

    def came(self, client_id: str, wall_us: int, mono_us: int) -> None:
        """A stream of this client opened."""
        with self._lock:
            presence.came(self._state, client_id, wall_us, mono_us)

    def went(self, client_id: str, wall_us: int, mono_us: int) -> None:
        """The last stream of this client ended; it is away since now."""
        with self._lock:
            presence.went(self._state, client_id, wall_us, mono_us)

    def accept(self, arrivals: Sequence[Arrival]) -> list[list[Rejection]]:
        """Merge all reports, with the outcome of merging them one by one.

        Returns:
            For each arrival the reports that were rejected, in the order of their places.
        """
        with self._lock:
            return accept(self._state, arrivals)

    def close_client(self, client_id: str, wall_us: int, mono_us: int) -> None:
        """The client said its last word: each of its live sessions ends now, as if reported."""
        with self._lock:
            presence.close_client(self._state, client_id, wall_us)

    def flush(self, now_us: int, mono_us: int, until: int = ALL) -> Flushed:
        """Roll up at `now_us`: the rows that follow from what changed, and from live long sessions.

        Sessions from `until` on, in the order of acceptance, wait for `go_on`; another flush takes over what is left.
        """
        with self._lock:
            return rollup.flush(self._state, now_us, mono_us, until)

    def go_on(self, until: int) -> Flushed:
        """The next part of the flush that is under way; the last one is up to `ALL`."""
        with self._lock:
            return rollup.go_on(self._state, until)

    def flush_candidates(self, now_us: int) -> int:
        """About how many sessions a flush at `now_us` would look at."""
        with self._lock:
            return rollup.candidates(self._state, now_us)

    def part_end(self, most: int) -> int:
        """Where the next part of the flush that is under way ends, when it looks at no more than `most` sessions."""
        with self._lock:
            return rollup.part_end(self._state, most)

    def hold_graces(self, mono_us: int) -> None:
        """Streams are refused or held back for lack of room, so no grace runs from now on."""
        with self._lock:
            presence.hold_graces(self._state, mono_us)

    def release_graces(self, mono_us: int) -> None:
        """There is room again; graces go on where they stopped."""
        with self._lock:
            presence.release_graces(self._state, mono_us)

    def restart(self, rules: Rules, wall_us: int, mono_us: int, last_wall_us: int) -> None:
        """A new process is ready, with these rules, after a recovery.

        Clients that were there are away since `last_wall_us`, the last moment that the journal knows of.
        """
        with self._lock:
            presence.restart(self._state, rules, wall_us, mono_us, last_wall_us)

    def person(self, user_id: bytes) -> Person:
        """How much is held of this person."""
        with self._lock:
            return person.look(self._state, user_id)

    def forget_person(self, user_id: bytes) -> Person:
        """Erase this person's sessions and groups; how much there was."""
        with self._lock:
            return person.forget(self._state, user_id)

    def approximate_bytes(self) -> int:
        """About how large `to_arrays` would be."""
        with self._lock:
            state = self._state
            return state.sessions.held * state.sessions.row_bytes + state.groups.held * (
                state.groups.row_bytes + APP_BYTES
            )

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that the collector holds, for a snapshot: copies that nobody changes."""
        with self._lock:
            return self._state.to_arrays()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Collector:
        """The collector that `to_arrays` was called on."""
        collector = cls(Rules())
        collector._state = State.from_arrays(arrays)
        return collector

    @property
    def clients(self) -> Clients:
        """The clients that are remembered; only the thread that makes the calls above may change them."""
        return self._state.clients

    @property
    def sessions(self) -> int:
        """How many sessions are held, live or remembered."""
        with self._lock:
            return self._state.sessions.held

    @property
    def live_sessions(self) -> int:
        """How many of them have no end."""
        with self._lock:
            return int(np.count_nonzero(self._state.sessions.live()))

    def live_by_client(self) -> Ints:
        """By number of a client, how many sessions without an end belong to it."""
        with self._lock:
            sessions = self._state.sessions
            owners = sessions.client[: sessions.used][sessions.live()]
            return np.bincount(owners, minlength=len(self._state.clients.table))

    def live_by_method(self) -> Ints:
        """By number of an access method, how many sessions have no end."""
        with self._lock:
            sessions, groups = self._state.sessions, self._state.groups
            apps = groups.app[sessions.group[: sessions.used][sessions.live()]]
            methods = np.array([key[METHOD] for key in groups.apps.keys] or [0], np.int64)
            return np.bincount(methods[apps], minlength=len(METHODS))

    @property
    def last_now_us(self) -> int:
        """What the last flush took for now; 0: there was none."""
        with self._lock:
            return self._state.last_now_us

    @property
    def groups(self) -> int:
        """How many groups are held."""
        with self._lock:
            return self._state.groups.held

    @property
    def abandoned(self) -> int:
        """How many ends were inferred since the start."""
        with self._lock:
            return self._state.abandoned
