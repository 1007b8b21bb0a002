"""What happened, for logs and metrics? One value for each kind of thing, handed to the client's `on_event`.

Invariant: the number of events is bounded by what the transport does (attempts, responses), never by how many reports
there are: a full buffer makes one `Dropped` with a count.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

log: Final = logging.getLogger("appstatsd_client")


@dataclass(frozen=True, slots=True)
class Connected:
    """A stream was opened and answered."""

    client_id: str
    acked_sequence: int
    """The number that the daemon held for this client_id."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A stream ended, or could not be opened; another attempt follows."""

    status: str
    """Name of the gRPC status."""
    details: str
    attempt: int
    """1: the first since a stream was answered."""
    retry_seconds: float
    """How long until the next attempt."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """One report that the daemon did not accept."""

    session_id: UUID
    reason: str
    """`RejectionReason` by name."""
    message: str
    """The field, the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The daemon did not accept some reports; their neighbors it did."""

    rejections: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class BatchRefused:
    """The daemon refused a whole batch, and it is not sent again."""

    status: str
    details: str
    reports: int
    """How many reports it held."""
    dropped: int
    """How many of them are lost; the others are sent again, each alone."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """There was no room for reports, or the client was closed."""

    reports: int
    """How many since this was last told."""
    total: int
    """How many since the client began."""


@dataclass(frozen=True, slots=True)
class ClientIdReplaced:
    """The client took a new client_id."""

    old: str
    new: str
    status: str
    details: str


@dataclass(frozen=True, slots=True)
class ForkedAfterStart:
    """This process was forked from one whose client had begun to report; here the client takes nothing."""

    parent_pid: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The client is closed."""

    confirmed: bool
    """Whether the daemon has confirmed everything."""
    left: int
    """How many reports were not acknowledged."""


Event = Connected | Disconnected | Rejected | BatchRefused | Dropped | ClientIdReplaced | ForkedAfterStart | Closed
OnEvent = Callable[[Event], None]


def log_event(event: Event) -> None:
    """The `on_event` of a client that was given none: writes to the logger `appstatsd_client`."""
    match event:
        case Connected():
            log.info("connected to appstatsd as %s", event.client_id)
        case Disconnected():
            # An outage is one warning, however long it lasts.
            level = logging.WARNING if event.attempt == 1 else logging.DEBUG
            what = "appstatsd is not reached (%s: %s); reports wait, next attempt in %.1f s"
            log.log(level, what, event.status, event.details, event.retry_seconds)
        case Rejected():
            first = event.rejections[0]
            what = "appstatsd rejected %d reports; the first, of session %s, as %s: %s"
            log.warning(what, len(event.rejections), first.session_id, first.reason, first.message)
        case BatchRefused():
            what = "appstatsd refused a batch of %d reports (%s: %s); %d of them are lost, the others are sent again"
            log.error(what, event.reports, event.status, event.details, event.dropped)
        case Dropped():
            log.warning("no room for %d reports (%d since the start); they are lost", event.reports, event.total)
        case ClientIdReplaced():
            level = logging.ERROR if event.status in {"ABORTED", "ALREADY_EXISTS"} else logging.WARNING
            what = "took the new client_id %s for %s (%s: %s)"
            log.log(level, what, event.new, event.old, event.status, event.details)
        case ForkedAfterStart():
            what = (
                "forked from process %d after its client began to report; make a client in each process, after the fork"
            )
            log.error(what, event.parent_pid)
        case Closed():
            level = logging.INFO if event.confirmed else logging.WARNING
            log.log(level, "closed; reports that appstatsd has not confirmed: %d", event.left)
