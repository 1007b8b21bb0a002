"""How do rows become the body of a binary COPY without an object for each field?

A row is a prefix (field count and the app's five fields, encoded once for each app and kept) and a suffix of fixed
length (all numbers), so a body is the two lists interleaved and joined. Invariant: the fields are those of
`appstatsd_incoming` in `sql/begin.sql`, in their order. Binary COPY into an integer wraps silently: counts are int4
here already, by `CELLS`.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from appstatsd.collect.apps import AGENT, SLUG, USER, WORKSPACE, AppKey, access_method
from appstatsd.collect.rows import Cells, Rows

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_EPOCH_US: Final = 946_684_800_000_000
"""PostgreSQL counts microseconds since 2000-01-01 UTC."""

_FIELDS: Final = 12
_APP: Final = struct.Struct(">hi16si16si16s")

_SUFFIX_FIELDS: Final = (
    ("session_id", 16, "V16"),
    ("started_us", 8, ">i8"),
    ("ended_us", 8, ">i8"),
    ("requests", 4, ">i4"),
    ("sessions", 4, ">i4"),
    ("end_source", 2, ">i2"),
    ("made_us", 8, ">i8"),
)
_SUFFIX: Final = np.dtype(
    [column for name, _, kind in _SUFFIX_FIELDS for column in ((f"{name}_length", ">i4"), (name, kind))]
)


class BodyEncoder:
    """Encodes rows, and remembers the prefixes of the apps that it met, up to a limit.

    Thread-safe: the memory is a dictionary that is only read, added to and emptied.
    """

    def __init__(self, remembered_apps: int = 32_768) -> None:
        self._limit = remembered_apps
        self._prefixes: dict[AppKey, bytes] = {}

    def body(self, rows: Rows) -> bytes:
        """A whole COPY body, header and trailer included."""
        parts = [_HEADER] * (2 * len(rows) + 2)
        parts[1:-1:2] = self._prefixes_of(rows.apps)
        parts[2:-1:2] = _suffixes(rows.cells)
        parts[-1] = _TRAILER
        return b"".join(parts)

    def _prefixes_of(self, apps: list[AppKey]) -> list[bytes]:
        known = self._prefixes
        if len(known) >= self._limit:
            known = self._prefixes = {}
        prefixes = []
        for app in apps:
            prefix = known.get(app)
            if prefix is None:
                prefix = _prefix(app)
                if len(known) < self._limit:
                    known[app] = prefix
            prefixes.append(prefix)
        return prefixes


def _prefix(app: AppKey) -> bytes:
    method, slug = access_method(app).encode(), app[SLUG]
    return b"".join(
        (
            _APP.pack(_FIELDS, 16, app[USER], 16, app[WORKSPACE], 16, app[AGENT]),
            len(method).to_bytes(4, "big"),
            method,
            len(slug).to_bytes(4, "big"),
            slug,
        )
    )


def _suffixes(cells: Cells) -> list[bytes]:
    suffixes = np.empty(len(cells), _SUFFIX)
    for name, length, _ in _SUFFIX_FIELDS:
        suffixes[f"{name}_length"] = length
        suffixes[name] = cells[name] - _EPOCH_US if name.endswith("_us") else cells[name]
    packed: list[bytes] = suffixes.view(f"V{_SUFFIX.itemsize}").tolist()
    return packed
