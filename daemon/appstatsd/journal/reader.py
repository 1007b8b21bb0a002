"""What does a journal say, and which part of it cannot be read?

The newest whole snapshot, then every unit after it, in order, each once. Units are numbered over all segments, and a
segment's name says which number it begins with: so whatever is missing is noticed, wherever it stood, and "keep what is
whole" means every unit that can be read, those behind a damage too. Nothing is changed on disk.

What is a torn tail, and what is damage: one unit at a time is on its way to the disk, the last one of the last segment.
What cannot be read there, with no header of a later unit behind it, may never have been acknowledged: a torn tail.
Anything else that cannot be read was acknowledged: damage.

After a recovery a segment begins with a copy of the last unit before it, and behind that unit the older segment may end
in a torn tail. Hence the units of a segment count only up to the first unit of the next segment.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from appstatsd.journal import snapshot
from appstatsd.journal.damage import Damage, OnDamage
from appstatsd.journal.errors import JournalDamaged
from appstatsd.journal.files import Files
from appstatsd.journal.layout import Layout, Segment
from appstatsd.journal.snapshot import Snapshot, SnapshotDamaged
from appstatsd.journal.units import Broken, Unit, walk

Progress = Callable[[int, int], None]
"""Hears the bytes read so far and the bytes in all."""


@dataclass(frozen=True, slots=True)
class TornTail:
    """The end of a segment that was being written when the daemon or the machine went down."""

    file: str
    offset: int
    """Bytes from the begin of the file: up to here it counts."""
    size: int
    """Bytes after that."""

    def __str__(self) -> str:
        return f"{self.file}: {self.size} bytes from byte {self.offset} on"


class JournalReader:
    """Reads once: the snapshot when it is made, the units when they are asked for."""

    def __init__(self, files: Files, layout: Layout, on_damage: OnDamage, time_stamp: str, progress: Progress) -> None:
        """Reads the newest whole snapshot. `time_stamp` goes into what is found damaged.

        Raises:
            JournalDamaged: a snapshot is damaged, and `on_damage` says stop.
        """
        self.snapshot: Snapshot | None = None
        """None where there is no whole one: the units, if any, are all that there is."""
        self.damages: list[Damage] = []
        """What is lost of what was acknowledged, as far as was read."""
        self.torn: TornTail | None = None
        """Known once all units were read; so is all below."""
        self.last: Unit | None = None
        """The last unit that was read."""
        self.next_unit = 1
        """The number after the last unit that was read or is known to be lost."""
        self.end: tuple[str, int] | None = None
        """The last segment, and how many bytes of it count; None where there is none."""
        self._files = files
        self._on_damage = on_damage
        self._time_stamp = time_stamp
        self._progress = progress
        self._read_bytes = 0
        self._total_bytes = sum(files.size(name) for name in layout.marks)
        self._segments = layout.segments
        self._read_snapshot(layout)

    def units(self) -> Iterator[list[memoryview]]:
        """The records of each unit after the snapshot.

        Raises:
            JournalDamaged: a unit that was acknowledged cannot be read, and `on_damage` says stop.
        """
        for segment, after in itertools.zip_longest(self._segments, self._segments[1:]):
            yield from self._units_before(after.mark.first_unit if after else None, segment)

    def _read_snapshot(self, layout: Layout) -> None:
        for mark in reversed(layout.snapshots):
            try:
                self.snapshot = snapshot.read(self._files, mark, self._advance)
            except SnapshotDamaged as error:
                self._found(mark.snapshot_name, 0, f"the state before unit {mark.first_unit} cannot be read: {error}")
            else:
                # Segments from before it end, as far as they count, before this unit.
                self.next_unit = mark.first_unit
                return
        if layout.segments:
            self.next_unit = layout.segments[0].mark.first_unit
            if self.next_unit > 1 and not layout.snapshots:
                what = f"the state before unit {self.next_unit} is lost, its snapshot is missing"
                self._found(layout.segments[0].name, 0, what)
        elif layout.snapshots:
            self.next_unit = layout.snapshots[-1].first_unit

    def _units_before(self, until: int | None, segment: Segment) -> Iterator[list[memoryview]]:
        """Those of one segment, which is to hold all before number `until`; None: it is the last segment."""
        broken: Broken | None = None
        end = 0
        for part in self._parts(segment):
            if until is not None and self.next_unit >= until:
                return
            end = part.end
            if part.number is None:
                broken = broken or part
                continue
            if part.number < self.next_unit:
                continue
            if part.number > self.next_unit:
                self._lose(part.number, segment, broken or part)
            if isinstance(part, Broken):
                broken = part
                continue
            broken = None
            self.last = part
            self.next_unit += 1
            yield part.records
        if until is None:
            self.end = segment.name, broken.offset if broken else end
            if broken:
                self.torn = TornTail(segment.name, broken.offset, end - broken.offset)
        elif self.next_unit < until:
            self._lose(until, segment, broken or Broken(end, end, None))

    def _parts(self, segment: Segment) -> Iterator[Unit | Broken]:
        file = self._files.open(segment.name)
        try:
            for part in walk(file, segment.nonce, self._files.block_bytes):
                yield part
                self._advance(part.end - part.offset)
        finally:
            file.close()

    def _lose(self, until: int, segment: Segment, where: Unit | Broken) -> None:
        """The units from `next_unit` to before `until` are not to be had."""
        last = until - 1
        lost = f"unit {last} is lost" if self.next_unit == last else f"units {self.next_unit} to {last} are lost"
        self._found(segment.name, where.offset, lost)
        self.next_unit = until

    def _found(self, file: str, offset: int, lost: str) -> None:
        damage = Damage(file, offset, lost, self._time_stamp)
        if self._on_damage is OnDamage.STOP:
            where = self._files.where
            raise JournalDamaged(
                f"the journal is damaged: {where}/{damage}. `appstatsd journal check --state-dir {where}` shows all of "
                "it; `appstatsd serve --on-damage=set-aside` starts with what is whole and keeps the damaged file."
            )
        self.damages.append(damage)

    def _advance(self, size: int) -> None:
        self._read_bytes += size
        self._progress(self._read_bytes, self._total_bytes)
