"""What can happen to the daemon's state?

Everything that changes it is one of these, in one order, and carries the clock readings of its moment; so a recovery
that applies the same events comes to the same state. Times are microseconds: `wall_us` since the Unix epoch, `mono_us`
on the monotonic clock of the process that saw the event.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appstatsd.collect.rollup import ALL
from appstatsd.collect.rules import Rules


@dataclass(frozen=True, slots=True)
class Started:
    """A daemon is ready to take streams, under these rules. Streams from before are gone."""

    rules: Rules
    wall_us: int
    mono_us: int


@dataclass(frozen=True, slots=True)
class Came:
    """A stream opened and said whose it is."""

    stream: int
    """Names the stream; never used again while the journal lives."""
    client_id: str
    wall_us: int
    mono_us: int
    dropped_reports: int = 0
    """How many reports the client has dropped so far, as its first message says."""
    software: str = ""
    """Name and version of the client library, as it says."""


@dataclass(frozen=True, slots=True)
class Went:
    """A stream ended, whatever ended it."""

    stream: int
    wall_us: int
    mono_us: int


@dataclass(frozen=True, slots=True)
class Received:
    """A message came in on a stream."""

    stream: int
    client_id: str
    """Whose stream it is."""
    message: bytes
    """A serialized StreamReportsRequest, as it came."""
    wall_us: int
    mono_us: int


@dataclass(frozen=True, slots=True)
class Flushed:
    """It was time for a flush, or somebody asked for one."""

    now_us: int
    """The clock that the flush sees."""
    wall_us: int
    mono_us: int
    until: int = ALL
    """Where its first part ends, in the order in which sessions were accepted."""


@dataclass(frozen=True, slots=True)
class FlushedOn:
    """The flush that was under way went on, to the end of another part."""

    until: int
    wall_us: int


@dataclass(frozen=True, slots=True)
class Written:
    """The database committed rows, or took them before."""

    serials: npt.NDArray[np.int64]
    """The rows' places in the order of the outbox."""
    stamp: int
    """The outbox's stamp when they were taken out to be written: what changed later still waits."""
    wall_us: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """The database refused a row for its content."""

    serial: int
    stamp: int
    message: str
    sqlstate: str | None
    wall_us: int


@dataclass(frozen=True, slots=True)
class QuarantineRetried:
    """Somebody asked to try refused rows again."""

    ids: tuple[int, ...]
    wall_us: int


@dataclass(frozen=True, slots=True)
class QuarantineDropped:
    """Somebody asked to forget refused rows."""

    ids: tuple[int, ...]
    wall_us: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Somebody asked to erase a person."""

    user_id: bytes
    """16 bytes."""
    wall_us: int


@dataclass(frozen=True, slots=True)
class RoomChanged:
    """Streams are refused or held back for lack of room from now on, or no longer."""

    room: bool
    wall_us: int
    mono_us: int


Event = (
    Started
    | Came
    | Went
    | Received
    | Flushed
    | Written
    | Quarantined
    | QuarantineRetried
    | QuarantineDropped
    | RoomChanged
    | Forgotten
    | FlushedOn
)
