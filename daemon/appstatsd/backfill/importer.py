"""How does a file of an access log become rows, the same ones each time?

Its requests are added up by a collector of its own until the file's end. Invariant: what rows say and what they are called
depends on the file's content and the settings alone. The id of a session with a row of its own is a UUIDv5 of the file's
first line, the line's number and the line, that of a rolled-up row one of the first line and the group: so a file that is
read again, also under another name, compressed or grown, writes the rows that it wrote.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import BinaryIO, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from appstatsd.accesslog.naming import Naming
from appstatsd.backfill.caddy import CaddyFormat
from appstatsd.backfill.collector import FileCollector
from appstatsd.backfill.combined import CombinedFormat
from appstatsd.backfill.lines import LogFormat
from appstatsd.collect.batch import Reason
from appstatsd.collect.rows import Rows
from appstatsd.collect.rules import Rules

NAMESPACE: Final = UUID("7232d6be-c0e0-5765-bdeb-4258e84d4b80")
"""Of all UUIDs that are made of files."""
_READ_BYTES: Final = 1 << 22


@dataclass(slots=True)
class Totals:
    """What became of the lines of a file."""

    lines: int = 0
    requests: int = 0
    """Lines that rows were made of."""
    skipped: Counter[Enum] = field(default_factory=Counter)
    """Lines that tell of no session, by the reason: `Unread`, `Unnamed` or `Reason`."""
    rows: int = 0

    def add(self, others: Totals) -> None:
        """Those of another file too."""
        self.lines += others.lines
        self.requests += others.requests
        self.skipped += others.skipped
        self.rows += others.rows


def rows_of(
    file: BinaryIO, naming: Naming, rules: Rules, wall_us: int, totals: Totals, progress: Callable[[], None]
) -> Rows:
    """All rows that follow from a file.

    Args:
        file: Open for reading; compressed files are read through what decompresses them.
        naming: Which app a line tells of.
        rules: Those of the daemon: the window counts.
        wall_us: The clock, in microseconds since the Unix epoch: lines from the future are not taken.
        totals: Is counted up.
        progress: Called now and then.
    """
    collector = FileCollector(rules, wall_us)
    log_format: LogFormat | None = None
    first = b""
    long: list[bytes] = []
    for lines in _blocks(file):
        if log_format is None:
            first = lines[0]
            log_format = CaddyFormat(naming) if first.startswith(b"{") else CombinedFormat(naming)
        parsed = log_format.parse(lines, totals.skipped)
        taken = collector.take(parsed)
        places = [parsed.places[place] for place in taken.long]
        long += [b"%d\n%b" % (totals.lines + place, lines[place]) for place in places]
        totals.lines += len(lines)
        totals.requests += taken.requests
        totals.skipped.update({Reason.INVALID_TIME: taken.refused} if taken.refused else {})
        progress()
    return Rows.join([_named(collector.rolled_up(), first, rules.window_us), collector.own(_uuids(first, long))])


def _blocks(file: BinaryIO) -> Iterator[list[bytes]]:
    """The file's lines, without their ends, some MiB at a time."""
    rest = b""
    while block := file.read(_READ_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        if lines:
            yield lines
    if rest:
        yield [rest]


def _named(rows: Rows, first: bytes, window_us: int) -> Rows:
    """Rolled-up rows under ids that depend on the file's first line and their groups alone."""
    starts_us = rows.cells["started_us"].tolist()
    groups = [
        b"group %d %d\n%b" % (start_us, window_us, app) for app, start_us in zip(rows.apps, starts_us, strict=True)
    ]
    rows.cells["session_id"] = _uuids(first, groups)
    return rows


def _uuids(first: bytes, names: Sequence[bytes]) -> npt.NDArray[np.void]:
    """The UUIDs of version 5 of a file's first line and each of the names."""
    begin = hashlib.sha1(NAMESPACE.bytes + first + b"\n", usedforsecurity=False)
    digests = []
    for name in names:
        made = begin.copy()
        made.update(name)
        digests.append(made.digest())
    octets = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, begin.digest_size)[:, :16].copy()
    octets[:, 6] = octets[:, 6] & 0x0F | 0x50
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    return octets.view("V16").reshape(-1)
