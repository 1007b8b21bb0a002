"""How does a unit lie in a segment, and which parts of a segment can still be read?

A unit is what one append writes and one fsync makes safe: some records of bytes. It begins on a block of the disk and
is filled up with zeros to the next, so that no later write touches a block of a unit that is safe:

    magic 4 | records 4 | unit number 8 | payload bytes 8 | payload checksum 8 | header checksum 8
    payload: length of each record, 4 bytes each; then the records

Numbers are little-endian, checksums XXH3 (64 bits) seeded with the segment's nonce. The header's covers its offset too:
a unit that passes stands where it was written. A whole header says where the next unit begins, whatever befell its
payload; else the next one is looked for on every block.
"""

from __future__ import annotations

import errno
import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import xxhash

from appstatsd.journal.files import Bytes, File

Record = Sequence[Bytes]
"""The parts of one record, one after another."""

MAGIC: Final = b"ASJ1"
_HEADER: Final = struct.Struct("<4sIQQQ")
_CHECK: Final = struct.Struct("<Q")
_OFFSET: Final = struct.Struct("<Q")
HEADER_BYTES: Final = _HEADER.size + _CHECK.size


def encode(records: Sequence[Record], number: int, nonce: int, offset: int, block_bytes: int) -> bytearray:
    """A unit as it is written at `offset` bytes of its segment; whole blocks."""
    lengths = [sum(map(len, record)) for record in records]
    payload_bytes = 4 * len(lengths) + sum(lengths)
    unit = bytearray().join(
        (
            bytes(HEADER_BYTES),
            struct.pack(f"<{len(lengths)}I", *lengths),
            *itertools.chain.from_iterable(records),
            bytes(-(HEADER_BYTES + payload_bytes) % block_bytes),
        )
    )
    with memoryview(unit) as view, view[HEADER_BYTES : HEADER_BYTES + payload_bytes] as payload:
        _HEADER.pack_into(unit, 0, MAGIC, len(lengths), number, payload_bytes, _checksum(payload, nonce))
    _CHECK.pack_into(unit, _HEADER.size, _header_check(unit[: _HEADER.size], nonce, offset))
    return unit


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit that is whole."""

    offset: int
    """Bytes from the segment's begin."""
    end: int
    """Where the next one begins, in bytes."""
    number: int
    """Units are counted from 1, over all segments."""
    records: list[memoryview]


@dataclass(frozen=True, slots=True)
class Broken:
    """A part of a segment that cannot be read: one unit where its header can be, else maybe more."""

    offset: int
    """Bytes from the segment's begin."""
    end: int
    """Where something can be read again, in bytes."""
    number: int | None
    """Of the unit whose header can be read."""


def walk(file: File, nonce: int, block_bytes: int) -> Iterator[Unit | Broken]:
    """All of a segment, in order. It ends before zeros that reach to the end of the file: space prepared, not used.

    A place that the disk cannot read (EIO) is taken as damaged.
    """
    size = file.size()
    offset = 0
    while offset < size:
        part: Unit | Broken
        if header := _read_header(file, nonce, offset):
            part = _read_unit(file, nonce, offset, header, block_bytes, size)
        elif _only_zeros(file, offset, size):
            return
        else:
            places = range(offset + block_bytes, size, block_bytes)
            found = (place for place in places if _read_header(file, nonce, place))
            part = Broken(offset, next(found, size), None)
        yield part
        offset = part.end


_Header = tuple[int, int, int, int]
"""Records, unit number, payload bytes, payload checksum."""


def _read_header(file: File, nonce: int, offset: int) -> _Header | None:
    raw = _read(file, offset, HEADER_BYTES)
    if raw is None or bytes(raw[: len(MAGIC)]) != MAGIC:
        return None
    fields, (check,) = raw[: _HEADER.size], _CHECK.unpack_from(raw, _HEADER.size)
    if check != _header_check(fields, nonce, offset):
        return None
    _, records, number, payload_bytes, checksum = _HEADER.unpack(fields)
    return records, number, payload_bytes, checksum


def _read_unit(file: File, nonce: int, offset: int, header: _Header, block_bytes: int, size: int) -> Unit | Broken:
    count, number, payload_bytes, checksum = header
    length = HEADER_BYTES + payload_bytes
    end = offset + length + -length % block_bytes
    # A size beyond the file is not read: nobody allocates what a torn write merely promises.
    payload = _read(file, offset + HEADER_BYTES, payload_bytes) if offset + length <= size else None
    if payload is None or _checksum(payload, nonce) != checksum:
        return Broken(offset, min(end, size), number)
    records = []
    begin = 4 * count
    for record_bytes in struct.unpack_from(f"<{count}I", payload):
        records.append(payload[begin : begin + record_bytes])
        begin += record_bytes
    return Unit(offset, end, number, records)


def _only_zeros(file: File, offset: int, size: int) -> bool:
    step = 256 * 1024
    for place in range(offset, size, step):
        raw = _read(file, place, min(step, size - place))
        if raw is None or bytes(raw) != bytes(len(raw)):
            return False
    return True


def _read(file: File, offset: int, size: int) -> memoryview | None:
    """Exactly `size` bytes, or None where they are not there or cannot be read."""
    raw = memoryview(bytearray(size))
    try:
        return raw if file.read(offset, raw) == size else None
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None


def _checksum(payload: Bytes, nonce: int) -> int:
    return xxhash.xxh3_64_intdigest(payload, nonce)


def _header_check(fields: Bytes, nonce: int, offset: int) -> int:
    return xxhash.xxh3_64_intdigest(bytes(fields) + _OFFSET.pack(offset), nonce)
