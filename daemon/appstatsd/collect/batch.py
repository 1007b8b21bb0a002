"""What one batch says, as columns: what the wire's messages become at the edge, and what the collector takes.

Invariant: `app`, `session_ids`, `started_ns`, `ended_ns` and `requests` are of one length, and every entry of `app` is a
place in `apps`. Nothing else has been checked yet: values are as the sender wrote them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from appstatsd.collect.apps import AppKey


class Reason(IntEnum):
    """Why a report is rejected; the numbers of `RejectionReason` on the wire."""

    INVALID_ID = 1
    INVALID_ACCESS_METHOD = 2
    INVALID_SLUG_OR_PORT = 3
    INVALID_TIME = 4
    CONFLICT = 5


@dataclass(frozen=True, slots=True)
class ReportedApp:
    """The app of a report as the sender wrote it; not checked yet."""

    user_id: bytes
    workspace_id: bytes
    agent_id: bytes
    access_method: int
    slug_or_port: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Reports as columns, `reports` of the message first, then its `columns`."""

    apps: list[AppKey | ReportedApp]
    """The apps named in this batch: by key those that are known to be right, as written the others."""
    app: npt.NDArray[np.integer]
    """For each report, the place of its app in `apps`."""
    session_ids: npt.NDArray[np.void]
    """For each report, 16 bytes; dtype `V16`. One of another length is replaced by the nil id, and stands in
    `flawed_ids`."""
    started_ns: npt.NDArray[np.uint64]
    """For each report, nanoseconds since the Unix epoch."""
    ended_ns: npt.NDArray[np.uint64]
    """For each report, nanoseconds since the Unix epoch; 0 while the session is live."""
    requests: npt.NDArray[np.integer]
    """For each report, all requests of its session so far."""
    flawed_ids: dict[int, bytes]
    """By the place of a report, the session_id that is not 16 bytes long."""

    def __len__(self) -> int:
        return len(self.app)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One batch, who sent it, and what the daemon's clocks said when it came."""

    client_id: str
    batch: Batch
    wall_us: int
    """Microseconds since the Unix epoch, UTC: what reports are validated against."""
    mono_us: int
    """Microseconds on the monotonic clock: what graces and time-outs are measured on."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """One report that was not accepted."""

    index: int
    """Its place in the batch."""
    reason: Reason
    message: str
    """The field, the value and what is allowed."""
