"""What is known of one session? The one value that a session's handle, the buffer and the batches share.

Invariant: `started_ns` and `session_id` never change, `requests` only grows, and `ended_ns` is set once.
"""

from __future__ import annotations

from typing import Final

from appstatsd_client.app import App

MAX_REQUESTS: Final = 2**31 - 1
"""Where a count stays; the database has no room for more."""


class Report:
    """The newest state of one session. Whoever changes it holds the client's lock."""

    __slots__ = (
        "alone",
        "app",
        "ended_ns",
        "origin_ns",
        "rejected",
        "requests",
        "said_live",
        "session_id",
        "started_ns",
        "tracked",
    )

    def __init__(self, app: App, session_id: bytes, started_ns: int, origin_ns: int, requests: int) -> None:
        self.app = app
        self.session_id = session_id
        self.started_ns = started_ns
        """Nanoseconds since the Unix epoch."""
        self.origin_ns = origin_ns
        """What the monotonic clock said at the start."""
        self.ended_ns = 0
        """Nanoseconds since the Unix epoch; 0 while the session is live."""
        self.requests = min(requests, MAX_REQUESTS)
        self.tracked = False
        """Whether the daemon may believe the session to be in use, or soon will: its reports are never dropped."""
        self.said_live = False
        """Whether it was put into a batch as live."""
        self.rejected = False
        """Whether the daemon rejected a report of it: it is not reported live again."""
        self.alone = False
        """Whether it was in a batch that the daemon refused: it shares no batch until one of its own is acknowledged."""

    def count(self, requests: int) -> None:
        """Counts that many more requests."""
        self.requests = min(self.requests + requests, MAX_REQUESTS)

    def end(self, monotonic_ns: int) -> None:
        """Sets the end: the start plus what has passed since."""
        self.ended_ns = self.started_ns + max(0, monotonic_ns - self.origin_ns)
