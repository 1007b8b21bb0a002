"""Which files make up a journal, and in which order do they count?

    journal-<number>-<first unit>-<nonce>.v1    a segment: units in a row, the first one numbered <first unit>
    snapshot-<number>-<first unit>.v1           the state before that unit; what follows it stands in the segments
                                                numbered <number> and up
    <any name>.new                              not finished, never read
    <any name>.damaged-<time>                   set aside for a person, never read
    damage.json                                 what was lost and not acknowledged yet

What must be known to read a file stands in its name, so that no damage within the file can hide it. Names are safe on
disk before anything relies on them. The nonce is random: it goes into every checksum of the segment, so that bytes
which a client sent, or a unit from elsewhere, never pass for a unit of this segment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from appstatsd.journal.errors import JournalVersion
from appstatsd.journal.files import Files

VERSION: Final = 1
UNFINISHED: Final = ".new"
_NAME: Final = re.compile(
    r"(?:journal-(?P<number>\d{10})-(?P<first>\d{16})-(?P<nonce>[0-9a-f]{16})"
    r"|snapshot-(?P<at>\d{10})-(?P<before>\d{16}))\.v1"
)
_OTHER_VERSION: Final = re.compile(r"(?:journal|snapshot)-[0-9a-f-]+\.v(?P<version>(?!1$)\d+)")


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place between two units: where a segment begins, and what a snapshot is of."""

    number: int
    """Of the segment; rises with time."""
    first_unit: int
    """Number of the first unit after this place; units are counted from 1."""

    @property
    def snapshot_name(self) -> str:
        """The file that holds the state at this place."""
        return f"snapshot-{self.number:010d}-{self.first_unit:016d}.v{VERSION}"


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A file of units."""

    mark: Mark
    nonce: int
    """64 random bits."""

    @property
    def name(self) -> str:
        """The file's name."""
        return f"journal-{self.mark.number:010d}-{self.mark.first_unit:016d}-{self.nonce:016x}.v{VERSION}"


@dataclass(frozen=True, slots=True)
class Layout:
    """What a folder holds."""

    segments: list[Segment]
    """Oldest first."""
    snapshots: list[Mark]
    """Oldest first."""
    unfinished: list[str]
    """Names that a crash left."""

    @property
    def marks(self) -> dict[str, Mark]:
        """By the name of each file that is finished, the place that it begins at or is of."""
        segments = {segment.name: segment.mark for segment in self.segments}
        return segments | {mark.snapshot_name: mark for mark in self.snapshots}

    @property
    def next_number(self) -> int:
        """The number that the next segment takes."""
        return max((mark.number for mark in self.marks.values()), default=0) + 1

    def older_than(self, mark: Mark) -> list[str]:
        """The names of the files that a snapshot at `mark` makes needless."""
        return [name for name, of in self.marks.items() if of.number < mark.number]


def survey(files: Files) -> Layout:
    """See what is there.

    Raises:
        JournalVersion: a file is of another format.
    """
    layout = Layout([], [], [])
    for name in files.names():
        if found := _NAME.fullmatch(name):
            if found["number"]:
                mark = Mark(int(found["number"]), int(found["first"]))
                layout.segments.append(Segment(mark, int(found["nonce"], 16)))
            else:
                layout.snapshots.append(Mark(int(found["at"]), int(found["before"])))
        elif name.endswith(UNFINISHED):
            layout.unfinished.append(name)
        elif other := _OTHER_VERSION.fullmatch(name):
            raise JournalVersion(
                f"{files.where}/{name} is of journal format {other['version']}, this version of appstatsd reads format "
                f"{VERSION}. Start the version that wrote it, let it flush and stop it; then move the files away, or "
                "choose another --state-dir."
            )
    layout.segments.sort()
    layout.snapshots.sort()
    return layout
