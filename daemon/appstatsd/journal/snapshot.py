"""How does the whole state lie in one file?

As its arrays are in memory, one after another, each with a checksum:

    magic 8 | index offset 8 | index bytes 8 | index checksum 8 | header checksum 8
    the bytes of each array
    index: JSON with the caller's metadata, and name, dtype, shape, offset, bytes and checksum of each array

Checksums are XXH3 (64 bits); the header's covers the place that the snapshot is of, so that a renamed file does not pass.
A file counts once it has its name, and it gets that only when it is whole and safe.
"""

from __future__ import annotations

import ast
import errno
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xxhash

from appstatsd.journal.files import File, Files
from appstatsd.journal.layout import UNFINISHED, Mark

_MAGIC: Final = b"ASSNAP1\n"
_HEADER: Final = struct.Struct("<8sQQQ")
_CHECK: Final = struct.Struct("<Q")
_PLACE: Final = struct.Struct("<QQ")
_HEADER_BYTES: Final = _HEADER.size + _CHECK.size
_CHUNK_BYTES: Final = 1024 * 1024

Array = npt.NDArray[Any]


class SnapshotDamaged(Exception):
    """The file is not what was written; the text says which part."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state, as it was handed over."""

    arrays: dict[str, Array]
    """By name; a writable copy of each."""
    meta: dict[str, Any]
    """What JSON can hold."""


def write(files: Files, mark: Mark, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> int:
    """Write the state at `mark`; it is safe, under its name, when this returns. The number of bytes.

    Nobody may change the arrays meanwhile. Any dtype but objects will do.
    """
    name = mark.snapshot_name
    file = files.create(name + UNFINISHED)
    try:
        offset = _HEADER_BYTES
        entries: list[dict[str, Any]] = []
        for array_name, array in arrays.items():
            raw = _raw(np.ascontiguousarray(array))
            entries.append(
                {
                    "name": array_name,
                    "dtype": repr(np.lib.format.dtype_to_descr(array.dtype)),
                    "shape": array.shape,
                    "offset": offset,
                    "bytes": len(raw),
                    "checksum": _write_array(file, offset, raw),
                }
            )
            offset += len(raw)
        index = json.dumps({"meta": dict(meta), "arrays": entries}).encode()
        file.write(offset, index)
        header = _HEADER.pack(_MAGIC, offset, len(index), xxhash.xxh3_64_intdigest(index))
        file.write(0, header + _CHECK.pack(_header_check(header, mark)))
        file.sync()
    finally:
        file.close()
    files.rename(name + UNFINISHED, name)
    files.sync_folder()
    return offset + len(index)


def read(files: Files, mark: Mark, progress: Callable[[int], None]) -> Snapshot:
    """Read the state at `mark`. `progress` hears the number of bytes of each piece that was read.

    Raises:
        SnapshotDamaged: it is not whole.
    """
    file = files.open(mark.snapshot_name)
    try:
        return _read_whole(file, mark, progress)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise SnapshotDamaged(str(error)) from error
    finally:
        file.close()


def _read_whole(file: File, mark: Mark, progress: Callable[[int], None]) -> Snapshot:
    size = file.size()
    header = bytearray(_HEADER_BYTES)
    fields = memoryview(header)[: _HEADER.size]
    if file.read(0, memoryview(header)) < _HEADER_BYTES:
        raise SnapshotDamaged("it ends within its header")
    if _CHECK.unpack_from(header, _HEADER.size) != (_header_check(fields, mark),):
        raise SnapshotDamaged("the header's checksum is wrong")
    _, index_offset, index_bytes, index_checksum = _HEADER.unpack(fields)
    if size < index_offset + index_bytes:
        raise SnapshotDamaged(f"it ends at byte {size} of {index_offset + index_bytes}")
    index = bytearray(index_bytes)
    file.read(index_offset, memoryview(index))
    if xxhash.xxh3_64_intdigest(index) != index_checksum:
        raise SnapshotDamaged(f"the checksum of the index at byte {index_offset} is wrong")
    progress(_HEADER_BYTES + index_bytes)
    content = json.loads(index)
    arrays: dict[str, Array] = {}
    for entry in content["arrays"]:
        array = np.empty(entry["shape"], np.lib.format.descr_to_dtype(ast.literal_eval(entry["dtype"])))
        if _read_array(file, entry["offset"], _raw(array), progress) != entry["checksum"]:
            raise SnapshotDamaged(f"the checksum of {entry['name']} at byte {entry['offset']} is wrong")
        arrays[entry["name"]] = array
    return Snapshot(arrays, content["meta"])


def _write_array(file: File, offset: int, raw: memoryview) -> int:
    """The checksum of what was written. In pieces, so that an append in another thread waits for one piece at most."""
    digest = xxhash.xxh3_64()
    for begin in range(0, len(raw), _CHUNK_BYTES):
        piece = raw[begin : begin + _CHUNK_BYTES]
        digest.update(piece)
        file.write(offset + begin, piece)
        file.settle()
    return digest.intdigest()


def _read_array(file: File, offset: int, into: memoryview, progress: Callable[[int], None]) -> int:
    """The checksum of what was read."""
    digest = xxhash.xxh3_64()
    for begin in range(0, len(into), _CHUNK_BYTES):
        piece = into[begin : begin + _CHUNK_BYTES]
        file.read(offset + begin, piece)
        digest.update(piece)
        progress(len(piece))
    return digest.intdigest()


def _raw(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _header_check(header: bytes | memoryview, mark: Mark) -> int:
    return xxhash.xxh3_64_intdigest(bytes(header) + _PLACE.pack(mark.number, mark.first_unit))
