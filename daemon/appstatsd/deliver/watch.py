"""Is the database there while nothing is written to it?

A daemon that has no rows would not notice that its database is away, nor that it is back. So a thread asks from time to
time, where the deliverer has nothing to do. Invariant: what it finds is told before it asks again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from appstatsd.errors import StoreUnavailable


class DatabaseWatch:
    """The thread `database-watch`, from `start` to `stop`. The first question is asked at once."""

    def __init__(
        self,
        probe: Callable[[], None],
        idle: Callable[[], bool],
        found: Callable[[StoreUnavailable | None], None],
        interval_seconds: float,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            probe: Raises StoreUnavailable where rows could not be written now.
            idle: Whether nobody else would notice.
            found: Is told why rows could not be written; None: they could be.
            interval_seconds: How long to wait after an answer.
        """
        self._probe = probe
        self._idle = idle
        self._found = found
        self._interval_seconds = interval_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="database-watch", daemon=True)
        self._log = structlog.get_logger("appstatsd.deliver")

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Ask no more. A question that hangs dies with the process."""
        self._stopping.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        available = True
        while not self._stopping.is_set():
            if self._idle():
                error = self._ask()
                if error is not None and available:
                    self._log.warning("The database takes no rows at present", error=str(error))
                available = error is None
                self._found(error)
            self._stopping.wait(self._interval_seconds)

    def _ask(self) -> StoreUnavailable | None:
        try:
            self._probe()
        except StoreUnavailable as error:
            return error
        except Exception as error:  # the thread's outermost loop: one failed question must not be the last
            self._log.exception("Asking for the database met an error of the daemon's own")
            return StoreUnavailable(f"an error of the daemon's own, see its log: {error!r}")
        return None
