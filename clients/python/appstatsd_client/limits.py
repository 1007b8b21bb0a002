"""How much may a client hold, and how long may it wait? The constants of `docs/client-protocol.md`.

Invariant: no combination that passes here breaks a limit of the daemon (10,000 reports and 4 MiB a batch).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

SECOND_NS = 1_000_000_000
CLOSE_TIMEOUT_SECONDS = 5.0
"""How long `close` tries, where it is not told."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds and times of a client. Raises `ValueError` where one is out of range.

    A client holds at most `max_live_sessions` + `max_pending_reports` + `window_batches` × `batch_max_reports` reports.
    """

    batch_max_reports: int = 1_000
    """Reports in a batch; at most 10,000."""
    batch_max_bytes: int = 1 << 20
    """Bytes in a batch; at most 4 MiB."""
    linger_seconds: float = 1.0
    """How long a report waits for others to share its batch with."""
    window_batches: int = 8
    """Batches on their way without an acknowledgement."""
    max_live_sessions: int = 100_000
    """Sessions that the daemon may believe to be in use, or will. Others are reported when they end."""
    max_pending_reports: int = 100_000
    """Reports of ended sessions that wait to be sent. Further ones are dropped and counted."""
    backoff_base_seconds: float = 0.25
    """Bound of the first random wait before a reconnect; it doubles with every attempt."""
    backoff_max_seconds: float = 8.0
    """Bound of every such wait; with the channel's own it stays under ten seconds."""
    channel_backoff_max_seconds: float = 1.0
    """The longest wait of the channel itself."""
    connect_timeout_seconds: float = 5.0
    """How long an attempt to connect may take that nobody answers."""
    retry_slowest_seconds: float = 10.0
    """The longest wait of all, and the one after a refusal that only a person can mend."""
    refused_retry_seconds: float = 60.0
    """When a report that the daemon refused alone, and that must not be lost, is tried again."""
    keepalive_time_seconds: float = 20.0
    """Silence after which the client pings."""
    keepalive_timeout_seconds: float = 10.0
    """How long an answer to a ping may take."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "linger_seconds" else 1 if isinstance(field.default, int) else 0.001
            if value < least:
                raise ValueError(f"{field.name} is {value}; it has to be at least {least}")
        if self.batch_max_reports > 10_000:
            raise ValueError(f"batch_max_reports is {self.batch_max_reports}; the daemon takes at most 10000")
        if self.batch_max_bytes > 4 << 20:
            raise ValueError(f"batch_max_bytes is {self.batch_max_bytes}; the daemon takes at most {4 << 20}")
