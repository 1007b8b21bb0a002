"""What time is it? The only place that asks the system."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The daemon's clocks, in microseconds."""

    def wall_us(self) -> int:
        """Since the Unix epoch, UTC; may step."""

    def mono_us(self) -> int:
        """Monotonic, from an arbitrary zero."""


class SystemClock:
    """The system's clocks."""

    def wall_us(self) -> int:
        """See `Clock`."""
        return time.time_ns() // 1000

    def mono_us(self) -> int:
        """See `Clock`."""
        return time.monotonic_ns() // 1000
