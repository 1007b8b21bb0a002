"""How does something become safe?

`Journal` is the end at which a journal grows. Invariants: a unit whose `append` returned survives a loss of power; on
the disk there is always a whole snapshot (or the journal's begin) with every unit since. After a write or an fsync that
failed nobody knows what the disk holds, so nothing is tried again: the journal refuses everything, and the next start
reads what is really there.

One thread appends and rotates; another may write a snapshot meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from appstatsd.journal import snapshot
from appstatsd.journal.damage import SET_ASIDE, Damage, noted
from appstatsd.journal.errors import JournalFailed
from appstatsd.journal.files import File, Files
from appstatsd.journal.layout import UNFINISHED, Mark, Segment, survey
from appstatsd.journal.snapshot import Array
from appstatsd.journal.units import Record, Unit, encode

Nonce = Callable[[], int]
"""Gives 64 random bits."""

_OWN_EVENTS_SHARE: Final = 16
"""One part in so many of the room is kept for the daemon's own events."""


class Journal:
    """Made by `Recovery.start`."""

    _segment: Segment
    _file: File
    _end: int
    """Where the next unit begins, in bytes."""
    _prepared: int
    """How far the file has been written, zeros for units to come included, in bytes."""

    def __init__(self, files: Files, nonce: Nonce, max_bytes: int, next_unit: int, carried: Unit | None) -> None:
        """Go on after a recovery, with a segment of its own.

        `carried` is the last unit that was read. It is written once more, since the daemon that wrote it may not have
        lived to see it safe, or may have seen its fsync fail, after which the pages count as clean.

        Raises:
            JournalFailed: the disk did not take it.
        """
        self._files = files
        self._nonce = nonce
        self._max_bytes = max_bytes
        self._next_unit = next_unit
        self._set_aside: dict[str, str] = {}
        self._failed = False
        self._sizes_lock = threading.Lock()
        # Bytes by name of the files that count as the journal. Under _sizes_lock.
        self._sizes: dict[str, int] = {}
        with self._failing("begin a segment"):
            layout = survey(files)
            for name in layout.marks:
                self._note_size(name, files.size(name))
            self._begin_segment(layout.next_number, carried)

    def set_aside_later(self, damages: Sequence[Damage]) -> None:
        """Rename these files, where others are removed, once there is a snapshot that does without them."""
        self._set_aside = {found.file: found.set_aside_as for found in damages}

    def append(self, records: Sequence[Record]) -> None:
        """Add one unit; it is safe when this returns.

        Raises:
            JournalFailed: the unit may or may not be there at the next start; the journal takes nothing more.
        """
        unit = encode(records, self._next_unit, self._segment.nonce, self._end, self._files.block_bytes)
        end = self._end + len(unit)
        with self._failing(f"write unit {self._next_unit} to {self._segment.name}"):
            self._file.write(self._end, unit)
            if end > self._prepared:
                self._prepared = end + self._prepare(end, len(unit))
            self._file.sync()
        self._end = end
        self._next_unit += 1
        self._note_size(self._segment.name, self._prepared)

    def rotate(self) -> Mark:
        """Begin a segment. The place between the last unit and the next, which a snapshot can be of.

        Raises:
            JournalFailed: as with `append`.
        """
        with self._failing("begin a segment"):
            self._file.close()
            self._begin_segment(self._segment.mark.number + 1, None)
        return self._segment.mark

    def write_snapshot(self, mark: Mark, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> None:
        """Keep the state at `mark`, then let go of what is older; damaged files are set aside now.

        Nobody may change the arrays meanwhile.

        Raises:
            JournalFailed: what was there before still counts; the journal takes nothing more.
        """
        with self._failing(f"write {mark.snapshot_name}"):
            size = snapshot.write(self._files, mark, arrays, meta)
            self._note_size(mark.snapshot_name, size)
            self._let_go(survey(self._files).older_than(mark))

    def room(self, batch_bytes: int, snapshot_bytes: int) -> bool:
        """May clients add `batch_bytes`? Not where a snapshot of about `snapshot_bytes`, and events of the daemon's own,
        would find too little of `max_bytes` then."""
        kept_back = snapshot_bytes + self._max_bytes // _OWN_EVENTS_SHARE
        return self.bytes_on_disk + batch_bytes + kept_back <= self._max_bytes

    @property
    def bytes_on_disk(self) -> int:
        """What the journal takes, snapshots included, files set aside not."""
        with self._sizes_lock:
            return sum(self._sizes.values())

    @property
    def tail_bytes(self) -> int:
        """About what the next start would have to replay, in bytes."""
        with self._sizes_lock:
            return sum(size for name, size in self._sizes.items() if name.startswith("journal-"))

    def damage(self) -> list[Damage]:
        """What was lost and is not acknowledged yet, also where another process acknowledged it."""
        return noted(self._files)

    def set_aside(self) -> list[str]:
        """Names of the files that a damage left for a person to look at."""
        return [name for name in self._files.names() if SET_ASIDE in name]

    def close(self) -> None:
        """Give up the state directory. All that was appended is safe already."""
        self._file.close()
        self._files.close()

    def _begin_segment(self, number: int, carried: Unit | None) -> None:
        mark = Mark(number, carried.number if carried else self._next_unit)
        self._segment = segment = Segment(mark, self._nonce())
        self._end = 0
        if carried:
            self._file = self._carry_over(carried)
        else:
            self._file = self._files.create(segment.name)
        self._files.sync_folder()
        self._prepared = self._end
        self._note_size(segment.name, self._end)

    def _carry_over(self, carried: Unit) -> File:
        """A segment that has its name only once it holds the unit: until then the older one must count."""
        name, block_bytes = self._segment.name, self._files.block_bytes
        unit = encode([(record,) for record in carried.records], carried.number, self._segment.nonce, 0, block_bytes)
        file = self._files.create(name + UNFINISHED)
        file.write(0, unit)
        file.sync()
        self._files.rename(name + UNFINISHED, name)
        self._end = len(unit)
        return file

    def _prepare(self, end: int, unit_bytes: int) -> int:
        """Write zeros for units to come, where they are small enough to gain by it; how many bytes."""
        ahead_bytes = self._files.ahead_bytes
        if unit_bytes * 4 > ahead_bytes:
            return 0
        self._file.write(end, bytes(ahead_bytes))
        return ahead_bytes

    def _let_go(self, names: Sequence[str]) -> None:
        damaged = [name for name in names if name in self._set_aside]
        for name in damaged:
            self._files.rename(name, self._set_aside[name])
        if damaged:
            self._files.sync_folder()
        for name in names:
            if name not in damaged:
                self._files.unlink(name)
            with self._sizes_lock:
                del self._sizes[name]

    def _note_size(self, name: str, size: int) -> None:
        with self._sizes_lock:
            self._sizes[name] = size

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        """Turn a failure of the disk into `JournalFailed`, for good. `what` continues "could not"."""
        if self._failed:
            raise JournalFailed(f"the journal in {self._files.where} failed before; start the daemon again.")
        try:
            yield
        except OSError as error:
            self._failed = True
            raise JournalFailed.because(what, self._files.where, error) from error
