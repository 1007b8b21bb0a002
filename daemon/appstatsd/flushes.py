"""What became of the flushes?

A flush begins with a roll-up in the drain and is over when the deliverer has taken its rows to the database, or could
not in time. Invariant: each is answered once, and counted when it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from appstatsd.clock import Clock
from appstatsd.deliver.asks import FlushOutcome
from appstatsd.deliver.deliverer import Deliverer
from appstatsd.drain import FlushCall


class Flushes:
    """Makes calls for the drain, and remembers how they ended. Thread-safe."""

    def __init__(
        self, deliverer: Deliverer, clock: Clock, timeout_us: int, on_seconds: Callable[[float], None]
    ) -> None:
        """Make a memory of no flush yet.

        Args:
            deliverer: Takes the rows to the database.
            clock: The daemon's clocks.
            timeout_us: How long a flush may take.
            on_seconds: Is told how long each flush took that wrote all its rows.
        """
        self._deliverer = deliverer
        self._clock = clock
        self._timeout_us = timeout_us
        self._on_seconds = on_seconds
        self._lock = threading.Lock()
        self._last_whole_us = 0  # protected by the lock, as is what follows
        self._last_error = ""

    @property
    def last_whole_us(self) -> int:
        """When the last flush began that wrote all its rows: microseconds since the Unix epoch; 0: none yet."""
        with self._lock:
            return self._last_whole_us

    @property
    def last_error(self) -> str:
        """Why the last flush did not write all its rows; empty where it did."""
        with self._lock:
            return self._last_error

    def call(
        self, as_of_us: int | None, answer: Callable[[FlushOutcome], None] | None = None, *, urgent: bool = True
    ) -> FlushCall:
        """A flush for the drain to begin.

        Args:
            as_of_us: The clock that it sees; None: the daemon's own.
            answer: Is told, from any thread, how it ended.
            urgent: Whether somebody waits, so that neither backoff nor pauses do.
        """
        began_us, began_mono_us = self._clock.wall_us(), self._clock.mono_us()

        def over(outcome: FlushOutcome) -> None:
            with self._lock:
                self._last_error = "" if outcome.error is None else str(outcome.error)
                if outcome.error is None:
                    self._last_whole_us = max(self._last_whole_us, began_us)
            if outcome.error is None:
                self._on_seconds((self._clock.mono_us() - began_mono_us) / 1_000_000)
            if answer is not None:
                answer(outcome)

        def rolled_up(stamp: int) -> None:
            deadline_s = (began_mono_us + self._timeout_us) / 1_000_000
            self._deliverer.ask(stamp, deadline_s, over, urgent=urgent)

        return FlushCall(as_of_us, rolled_up)
