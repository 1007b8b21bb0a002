"""Who is told that a workspace was used, and how is that kept out of the way of what is written?

Each way of telling has a thread and a bounded room of its own. What was committed goes into the room, merged by
workspace; the thread tells of all that is there, and then of nothing until an interval has passed. Invariant: `used`
neither waits nor raises, and of a workspace there is one notice an interval. What finds no room, or can't be told, is
dropped and counted: the table has it all the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias
from uuid import UUID

import numpy as np
import structlog

from appstatsd.collect.apps import WORKSPACE
from appstatsd.collect.rows import Reporter, Rows
from appstatsd.errors import AppstatsdError

ROOM: Final = 10_000
"""How many workspaces one way of telling keeps for its next notice."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class NotTold(AppstatsdError):
    """A notice did not get through; the text says why."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A workspace was used."""

    workspace_id: bytes
    """16 bytes."""
    last_used_us: int
    """When it was used last, as far as the rows say that were committed since the last notice."""

    def as_json(self) -> dict[str, str]:
        """As it is told: the id, and the time as in RFC 3339, UTC."""
        used_at = _EPOCH + timedelta(microseconds=self.last_used_us)
        shown = used_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {"workspace_id": str(UUID(bytes=self.workspace_id)), "last_used_at": shown}


Tell: TypeAlias = Callable[[Sequence[Notice]], None]
"""Tells of these; raises NotTold where that fails."""


@dataclass(frozen=True, slots=True)
class ActivityFigures:
    """Counts of one way of telling since the start."""

    told: int
    dropped: int


class Teller:
    """The thread `activity-NAME`, from `start` to `stop`, that tells in one way."""

    def __init__(
        self,
        name: str,
        tell: Tell,
        interval_seconds: float,
        *,
        room: int = ROOM,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            name: Of the way, for logs and metrics.
            tell: May take its time.
            interval_seconds: How long to say nothing after a notice.
            room: How many workspaces may wait.
            wait: Waits for an event, so many seconds at most; whether it has come.
        """
        self.name = name
        self._tell = tell
        self._interval_seconds = interval_seconds
        self._room = room
        self._wait = wait
        self._lock = threading.Lock()
        # The lock protects the next three.
        self._waiting: dict[bytes, int] = {}
        self._told = 0
        self._dropped = 0
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"activity-{name}", daemon=True)
        self._log = structlog.get_logger("appstatsd.activity")
        self._fails = False  # used by the thread alone

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def used(self, last_used_us: Mapping[bytes, int]) -> None:
        """Workspaces were used, by id when. Does not wait; what finds no room is dropped."""
        with self._lock:
            for workspace, used_us in last_used_us.items():
                known_us = self._waiting.get(workspace)
                if known_us is None and len(self._waiting) >= self._room:
                    self._dropped += 1
                elif known_us is None or used_us > known_us:
                    self._waiting[workspace] = used_us
        self._work.set()

    def figures(self) -> ActivityFigures:
        """Counts so far."""
        with self._lock:
            return ActivityFigures(self._told, self._dropped)

    def stop(self, timeout_seconds: float) -> None:
        """Tell of what waits, once more, and end. A notice that hangs dies with the process."""
        self._stopping.set()
        self._work.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while True:
            self._work.wait()
            self._work.clear()
            last = self._stopping.is_set()
            self._tell_all()
            if last:
                return
            if self._wait(self._stopping, self._interval_seconds):
                self._work.set()

    def _tell_all(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        try:
            self._tell([Notice(workspace, used_us) for workspace, used_us in waiting.items()])
        except NotTold as error:
            self._failed(len(waiting), str(error))
        except Exception as error:  # the thread's outermost loop: one notice must not be the last
            self._log.exception("Telling of activity met an error of the daemon's own")
            self._failed(len(waiting), repr(error))
        else:
            if self._fails:
                self._log.info("Activity is told again", way=self.name)
            self._fails = False
            with self._lock:
                self._told += len(waiting)

    def _failed(self, notices: int, why: str) -> None:
        if not self._fails:
            self._log.warning("Activity can't be told at present", way=self.name, error=why, notices=notices)
        self._fails = True
        with self._lock:
            self._dropped += notices


class ToldReporter:
    """A `Reporter` that lets tellers know what another one has committed."""

    def __init__(self, reporter: Reporter, tellers: Sequence[Teller]) -> None:
        self._reporter = reporter
        self._tellers = tellers

    def report(self, rows: Rows) -> None:
        """See `Reporter`."""
        self._reporter.report(rows)
        if self._tellers and len(rows):
            used_us = last_used_us(rows)
            for teller in self._tellers:
                teller.used(used_us)


def last_used_us(rows: Rows) -> dict[bytes, int]:
    """By workspace, the latest end among its rows, but no later than when the row was made: as `last_used_at` is kept."""
    found: dict[bytes, int] = {}
    ends_us = np.minimum(rows.cells["ended_us"], rows.cells["made_us"]).tolist()
    for app, end_us in zip(rows.apps, ends_us, strict=True):
        workspace = app[WORKSPACE]
        if end_us > found.get(workspace, -1):
            found[workspace] = end_us
    return found
