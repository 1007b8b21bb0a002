"""When are old rows removed from the database?

Once a day, or ten times within the retention where that is shorter, by one daemon of all that write to the database; by
chunks, with pauses as long as they take, and only while nothing waits to be written. Invariant: an error of the
database's ends neither the thread nor the pass, which goes on later from where it was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import structlog

from appstatsd.errors import RowsRefused, StoreUnavailable
from appstatsd.store.removal import Progress

MOST_PASS_US: Final = 86_400_000_000
"""How long after the begin of a pass the next one begins, at most."""
PASSES: Final = 10
"""How many passes fit into the retention where that is shorter."""
LOOKS: Final = 24
"""How often it is looked, in the time from pass to pass, whether one is due."""
AGAIN_SECONDS: Final = 60.0
"""How long to wait after an error."""
BUSY_SECONDS: Final = 0.5
"""How long to wait before it is looked again whether rows wait to be written."""


class Old(Protocol):
    """Old rows, as a pass removes them."""

    def claim(self, every_us: int) -> bool:
        """Whether a pass is due, which begins now."""

    def remove(self, begin: int = 0) -> Iterator[Progress]:
        """Remove them from a page on, and tell after each chunk."""


class Retention:
    """The thread `retention`, from `start` to `stop`. It looks at once whether a pass is due."""

    def __init__(
        self,
        old: Old,
        retention_us: int,
        idle: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            old: The rows that are old.
            retention_us: How long rows are kept; says how often to look.
            idle: Whether nothing waits to be written.
            clock: Seconds that never run back.
            wait: Waits for an event, so many seconds at most.
        """
        self._old = old
        self._every_us = min(MOST_PASS_US, retention_us // PASSES)
        self._idle = idle
        self._clock = clock
        self._wait = wait
        self._removed = 0  # by the thread alone; reading it is atomic
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)
        self._log = structlog.get_logger("appstatsd.retention")

    @property
    def removed(self) -> int:
        """How many rows were removed since the start."""
        return self._removed

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Remove no more. A statement that hangs dies with the process."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            pause = self._every_us / 1_000_000 / LOOKS
            try:
                if self._old.claim(self._every_us):
                    self._pass()
                    # A database that does not know of passes leaves it to each daemon how often they come.
                    pause = self._every_us / 1_000_000
            except (RowsRefused, StoreUnavailable) as error:
                self._log.warning(
                    "Whether old rows are to be removed cannot be asked; it is tried again", error=str(error)
                )
                pause = AGAIN_SECONDS
            except Exception:  # the thread's outermost loop
                self._log.exception("Removing old rows met an error of the daemon's own; it is tried again")
                pause = AGAIN_SECONDS
            self._wait(self._stopping, pause)

    def _pass(self) -> None:
        began_s, before, page = self._clock(), self._removed, 0
        while not self._stopping.is_set():
            try:
                for progress in self._chunks(page):
                    page = progress.pages
                    self._removed += progress.rows
                break
            except (RowsRefused, StoreUnavailable) as error:
                self._log.warning("Old rows cannot be removed at present; it is tried again", error=str(error))
                self._wait(self._stopping, AGAIN_SECONDS)
        if self._removed > before:
            seconds = round(self._clock() - began_s, 1)
            self._log.info("Old rows were removed", rows=self._removed - before, pages=page, seconds=seconds)

    def _chunks(self, page: int) -> Iterator[Progress]:
        """Chunk after chunk, until there are no more or it is to stop."""
        chunks = self._old.remove(page)
        while not self._stopping.is_set():
            while not self._idle() and not self._stopping.is_set():
                self._wait(self._stopping, BUSY_SECONDS)
            began_s = self._clock()
            progress = next(chunks, None)
            if progress is None:
                return
            yield progress
            self._wait(self._stopping, self._clock() - began_s)
