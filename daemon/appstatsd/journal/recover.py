"""How does a daemon come back to what it knew?

    recovery = recover(files, ...)       takes the state directory, reads the snapshot
    recovery.snapshot                    the state to begin with
    for records in recovery.units(): ... what happened since
    journal = recovery.start()           from here on new units can be added

Nothing on disk is changed before `start`, so a recovery that fails, or is killed, can be done again. From `start` on all
that was recovered is safe, even what an earlier daemon wrote and never saw safe: what it may have led to (a resend
that is acknowledged as known) may be relied on.
"""

from __future__ import annotations

from collections.abc import Iterator

from appstatsd.journal.damage import Damage, OnDamage, note, time_stamp
from appstatsd.journal.errors import JournalFailed, reading
from appstatsd.journal.files import Files, own
from appstatsd.journal.layout import Layout, survey
from appstatsd.journal.reader import JournalReader, Progress, TornTail
from appstatsd.journal.segments import Journal, Nonce
from appstatsd.journal.snapshot import Snapshot


class Recovery:
    """A state directory that is owned and being read. Made by `recover`."""

    def __init__(self, files: Files, layout: Layout, reader: JournalReader) -> None:
        self._files = files
        self._layout = layout
        self._reader = reader
        self._read_all = False

    @property
    def snapshot(self) -> Snapshot | None:
        """The state to begin with; None: an empty one."""
        return self._reader.snapshot

    def units(self) -> Iterator[list[memoryview]]:
        """The records of each unit since the snapshot, in the order in which they were appended.

        Raises:
            JournalDamaged: a unit that was acknowledged cannot be read, and the daemon is to stop at that.
            StateDirectoryRefused: a file may not be read.
        """
        with reading(self._files.where):
            yield from self._reader.units()
        self._read_all = True

    @property
    def damages(self) -> list[Damage]:
        """What was acknowledged and is lost, as far as was read. The files keep their names until the next snapshot, so
        write one soon."""
        return self._reader.damages

    @property
    def torn(self) -> TornTail | None:
        """What was cut from the end, once all units were read. Only what nobody was told is safe can stand there, unless
        the disk damaged the last unit."""
        return self._reader.torn

    def start(self, nonce: Nonce, max_bytes: int) -> Journal:
        """Go on. All units must have been read. `nonce` gives 64 random bits; `max_bytes` bounds `Journal.room`.

        Raises:
            JournalFailed: the disk did not take it.
        """
        assert self._read_all, "start() comes after all of units()"
        reader, files = self._reader, self._files
        try:
            for name in self._layout.unfinished:
                files.unlink(name)
            if reader.end:
                # Nothing relies on this: behind the last unit that counts nothing will be read any more.
                files.truncate(*reader.end)
            journal = Journal(files, nonce, max_bytes, reader.next_unit, reader.last)
            journal.set_aside_later(note(files, reader.damages))
        except OSError as error:
            raise JournalFailed.because("begin to write", files.where, error) from error
        return journal

    def close(self) -> None:
        """Give up the state directory without having started."""
        self._files.close()


def recover(files: Files, on_damage: OnDamage, unix_seconds: float, progress: Progress) -> Recovery:
    """Take the state directory and read its snapshot. `unix_seconds` is now, for the names of files set aside.

    Raises:
        StateDirectoryInUse: another daemon has it.
        StateDirectoryRefused: it cannot be had for the daemon alone.
        JournalVersion: it holds a journal of another format.
        JournalDamaged: the snapshot is damaged, and `on_damage` says stop.
    """
    own(files)
    with reading(files.where):
        layout = survey(files)
        return Recovery(files, layout, JournalReader(files, layout, on_damage, time_stamp(unix_seconds), progress))
