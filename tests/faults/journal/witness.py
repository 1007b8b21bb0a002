"""What a daemon was told and has told others, and whether the model disk would bear it out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from appstatsd.journal.damage import OnDamage
from appstatsd.journal.errors import JournalDamaged
from appstatsd.journal.files import Files
from appstatsd.journal.recover import Recovery, recover
from appstatsd.journal.segments import Journal

from tests.faults.journal.model_disk import ModelDisk

Told = tuple[int, int]
"""A unit, by the life of the daemon that it is of and the bytes of its one record. Its place in the order says the rest."""

Seen = dict[tuple[tuple[str, bytes], ...], list[Told]]
"""What came back from each image."""


class Violation(AssertionError):
    """A promise that was broken."""


class Killed(BaseException):
    """The process is gone; the machine is not."""


@dataclass
class Witness:
    """Uses a journal as a daemon does, and looks at every state that a loss of power could leave."""

    disk: ModelDisk
    seen: Seen
    told: list[Told] = field(default_factory=list)
    """Units in order, all that were handed over."""
    safe: int = 0
    """How many of them were acknowledged."""
    calls: int = 0
    """What changed the disk or made something safe, so far."""
    interrupt: Callable[[int, str], None] = lambda _call, _what: None
    """Hears each call before it is done; may raise."""
    lives: int = 0

    def __post_init__(self) -> None:
        # The same in every telling, so that one image is recovered from only once.
        self.nonces = itertools.count(1000 * (self.lives + 1))
        self.disk.before_call = self._before
        self.disk.after_call = self.look

    def _before(self, what: str) -> None:
        self.calls += 1
        self.interrupt(self.calls, what)

    def begin(self) -> Journal:
        """A daemon starts. What came back may be relied on from then on."""
        recovery = open_journal(self.disk)
        found = replay(recovery)
        self.judge(found)
        self.told = found
        self.lives += 1
        journal = recovery.start(lambda: next(self.nonces), 2**20)
        self.safe = len(found)
        return journal

    def append(self, journal: Journal, size: int = 20) -> None:
        """Hand over a unit of one record of `size` bytes: up to 20 a block, for which space is prepared; up to 84 two
        blocks, up to 148 three, which take space that was prepared but prepare none."""
        self.told.append((self.lives, size))
        journal.append([[bytes(self.told[-1]).ljust(size)]])
        self.safe = len(self.told)

    def snapshot(self, journal: Journal) -> None:
        """Rotate, and write the state, which is all units so far; one more is appended before it is safe."""
        mark = journal.rotate()
        arrays = {"units": np.array(self.told, np.uint8)}
        usual = self.interrupt

        def append_first(call: int, what: str) -> None:
            if what == f"sync of {mark.snapshot_name}.new":
                self.interrupt = usual
                self.append(journal)
            usual(call, what)

        self.interrupt = append_first
        journal.write_snapshot(mark, arrays, {})

    def judge(self, found: list[Told]) -> None:
        """Are these the units that were told, with all that are safe?"""
        if not self.safe <= len(found) or found != self.told[: len(found)]:
            raise Violation(f"{self.safe} of {len(self.told)} units are acknowledged, there came back: {found}")

    def look(self) -> None:
        """Recover from every state that a loss of power could leave now."""
        for image in self.disk.images():
            key = tuple(sorted(image.items()))
            if key not in self.seen:
                self.seen[key] = replay(open_journal(ModelDisk(image)))
            self.judge(self.seen[key])


def open_journal(files: Files) -> Recovery:
    """Start to recover; damage is a violation, for nothing here damages a disk."""
    try:
        return recover(files, OnDamage.STOP, 0.0, lambda _read, _total: None)
    except JournalDamaged as error:
        raise Violation(str(error)) from error


def replay(recovery: Recovery) -> list[Told]:
    """All units that come back, those that the snapshot stands for first."""
    found: list[Told] = []
    if recovery.snapshot:
        found = [(life, size) for life, size in recovery.snapshot.arrays["units"].tolist()]
    try:
        for records in recovery.units():
            (record,) = records
            found.append((record[0], len(record)))
    except JournalDamaged as error:
        raise Violation(str(error)) from error
    return found
