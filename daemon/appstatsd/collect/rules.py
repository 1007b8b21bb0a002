"""The settings that shape results. They are journaled, so that a recovery applies what was in force."""

from __future__ import annotations

from dataclasses import dataclass

SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings of the collector, all in microseconds."""

    window_us: int = 60 * SECOND_US
    """Length of the roll-up window."""
    client_grace_us: int = 120 * SECOND_US
    """How long a client may be away before its live sessions get an inferred end."""
    client_retention_us: int = 86_400 * SECOND_US
    """How long a client_id is remembered after its last sign of life."""
    session_timeout_us: int = 0
    """How long a live session may go without a report before it gets an inferred end; 0: for ever."""
    max_session_age_us: int = 31 * 86_400 * SECOND_US
    """The age at which a live session gets an inferred end."""
    max_clock_skew_us: int = 600 * SECOND_US
    """How far ahead of the daemon's clock a report may lie, and how small a step back of a clock is ignored."""
    log_timeout_us: int = 180 * SECOND_US
    """`session_timeout_us` for sessions that an access log tells of; 0: for ever."""
