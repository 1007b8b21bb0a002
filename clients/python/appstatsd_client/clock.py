"""What time is it? The two clocks of a client, as one parameter.

Starts come from the wall clock, everything that passes from the monotonic one, so a step of the wall clock makes no
session negative or days long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """A wall clock and a monotonic clock."""

    wall_ns: Callable[[], int] = time.time_ns
    """Nanoseconds since the Unix epoch, UTC."""
    monotonic_ns: Callable[[], int] = time.monotonic_ns
    """Nanoseconds that never run backwards."""
