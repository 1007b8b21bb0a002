"""How does an event look in the journal?

A byte for the kind, the clock readings, and what else the kind has, little-endian. A message of a client stays as it
came. Invariant: `decode_record(encode_record(event))` is the event.
"""

from __future__ import annotations

import struct
from dataclasses import astuple
from typing import Final

import numpy as np

from appstatsd.collect.rules import Rules
from appstatsd.errors import AppstatsdError
from appstatsd.events import (
    Came,
    Event,
    Flushed,
    FlushedOn,
    Forgotten,
    Quarantined,
    QuarantineDropped,
    QuarantineRetried,
    Received,
    RoomChanged,
    Started,
    Went,
    Written,
)

FORMAT: Final = 1
"""Is raised with every change of a snapshot that an older version can't read. A kind of record that it does not know it
refuses by itself."""

_KINDS: Final = (
    Started,
    Came,
    Went,
    Received,
    Flushed,
    Written,
    Quarantined,
    QuarantineRetried,
    QuarantineDropped,
    RoomChanged,
    Forgotten,
    FlushedOn,
)
_NUMBER: Final = {kind: number for number, kind in enumerate(_KINDS, 1)}
_HEAD: Final = struct.Struct("<Bqq")
"""Kind, wall_us, mono_us (0 where the kind has none)."""
_FLUSH: Final = struct.Struct("<qq")
_ROW: Final = struct.Struct("<qq5s")


class UnreadableRecord(AppstatsdError):
    """A record is of a kind that this version does not know."""


def encode_record(event: Event) -> tuple[bytes, ...]:
    """The parts of the event's record."""
    head = _HEAD.pack(_NUMBER[type(event)], event.wall_us, getattr(event, "mono_us", 0))
    match event:
        case Received():
            return head, _named(event.stream, event.client_id), event.message
        case Came():
            dropped_reports = struct.pack("<Q", event.dropped_reports)
            return head, _named(event.stream, event.client_id), dropped_reports, event.software.encode()
        case Went():
            return head, _named(event.stream, "")
        case Flushed():
            return head, _FLUSH.pack(event.now_us, event.until)
        case FlushedOn():
            return head, struct.pack("<q", event.until)
        case Written():
            return head, struct.pack("<q", event.stamp), _runs(event.serials)
        case Quarantined():
            sqlstate = (event.sqlstate or "").encode()
            return head, _ROW.pack(event.serial, event.stamp, sqlstate), event.message.encode(errors="backslashreplace")
        case QuarantineRetried() | QuarantineDropped():
            return head, np.array(event.ids, "<i8").tobytes()
        case Forgotten():
            return head, event.user_id
        case RoomChanged():
            return head, struct.pack("<?", event.room)
        case Started():
            return head, np.array(astuple(event.rules), "<i8").tobytes()


def decode_record(record: memoryview) -> Event:
    """The event of one record.

    Raises:
        UnreadableRecord: the record was written by a later version.
    """
    number, wall_us, mono_us = _HEAD.unpack_from(record)
    body = record[_HEAD.size :]
    kind = _KINDS[number - 1] if 0 < number <= len(_KINDS) else None
    if kind is Received:
        stream, client_id, rest = _unnamed(body)
        return Received(stream, client_id, bytes(rest), wall_us, mono_us)
    if kind is Came:
        stream, client_id, rest = _unnamed(body)
        (dropped_reports,) = struct.unpack_from("<Q", rest)
        return Came(stream, client_id, wall_us, mono_us, dropped_reports, str(rest[8:], "utf-8"))
    if kind is Went:
        return Went(_unnamed(body)[0], wall_us, mono_us)
    if kind is Flushed:
        now_us, until = _FLUSH.unpack(body)
        return Flushed(now_us, wall_us, mono_us, until)
    if kind is FlushedOn:
        (until,) = struct.unpack("<q", body)
        return FlushedOn(until, wall_us)
    if kind is Written:
        (stamp,) = struct.unpack_from("<q", body)
        return Written(_serials(body[8:]), stamp, wall_us)
    if kind is Quarantined:
        serial, stamp, sqlstate = _ROW.unpack_from(body)
        message = str(body[_ROW.size :], "utf-8")
        return Quarantined(serial, stamp, message, sqlstate.rstrip(b"\0").decode() or None, wall_us)
    if kind is QuarantineRetried or kind is QuarantineDropped:
        return kind(tuple(np.frombuffer(body, "<i8").tolist()), wall_us)
    if kind is Forgotten:
        return Forgotten(bytes(body), wall_us)
    if kind is RoomChanged:
        (room,) = struct.unpack("<?", body)
        return RoomChanged(room, wall_us, mono_us)
    if kind is Started:
        # An earlier version knew fewer rules; the others are as they come.
        return Started(Rules(*np.frombuffer(body, "<i8").tolist()), wall_us, mono_us)
    raise UnreadableRecord(
        f"the journal holds an event of kind {number}, which this version of appstatsd does not know; "
        "start the version that wrote it, or a later one"
    )


def _named(stream: int, client_id: str) -> bytes:
    name = client_id.encode()
    return struct.pack("<QH", stream, len(name)) + name


def _unnamed(body: memoryview) -> tuple[int, str, memoryview]:
    stream, length = struct.unpack_from("<QH", body)
    return stream, str(body[10 : 10 + length], "utf-8"), body[10 + length :]


def _runs(serials: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bytes:
    """Serials mostly follow one another: first and length of each run."""
    edges = np.flatnonzero(np.diff(serials) != 1) + 1
    begins = np.concatenate(([0], edges)) if len(serials) else edges
    lengths = np.diff(np.append(begins, len(serials)))
    return np.stack([serials[begins], lengths], axis=1).astype("<i8").tobytes()


def _serials(body: memoryview) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    runs = np.frombuffer(body, "<i8").reshape(-1, 2)
    parts = [np.arange(first, first + length) for first, length in runs.tolist()]
    return np.concatenate([np.empty(0, np.int64), *parts])
