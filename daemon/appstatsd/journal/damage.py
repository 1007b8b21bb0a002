"""What was lost, and does somebody know of it?

A finding is written down before the daemon serves, and stays in `damage.json` until a person says that it is known,
also over restarts. The damaged files get another name once a snapshot has made them needless (see `segments`): until
then what is whole in them is all that there is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from appstatsd.journal.files import Files
from appstatsd.journal.layout import UNFINISHED

NOTE: Final = "damage.json"
SET_ASIDE: Final = ".damaged-"
"""Stands in the name of a file that is kept for a person and read by nobody else."""


class OnDamage(Enum):
    """What a start does where something that was acknowledged cannot be read."""

    SET_ASIDE = "set-aside"
    """Start with what is whole, keep the damaged file under another name, and say so."""
    STOP = "stop"
    """Do not start."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One place where something that was acknowledged cannot be read."""

    file: str
    """Its name; where a file is missing, the one that should follow it."""
    offset: int
    """Bytes from the begin of the file."""
    lost: str
    """What is lost, as a sentence without a full stop."""
    found_at: str
    """UTC, as in 20260102T030405Z."""

    @property
    def set_aside_as(self) -> str:
        """The name that the file gets once it is not needed any more."""
        return f"{self.file}{SET_ASIDE}{self.found_at}"

    def __str__(self) -> str:
        return f"{self.file}, byte {self.offset}: {self.lost}"


def time_stamp(unix_seconds: float) -> str:
    """The form of `Damage.found_at`."""
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


def noted(files: Files) -> list[Damage]:
    """What was written down and not acknowledged, oldest first. May be asked at any time, by any process."""
    if NOTE not in files.names():
        return []
    file = files.open(NOTE)
    try:
        text = bytearray(file.size())
        file.read(0, memoryview(text))
    finally:
        file.close()
    try:
        return [
            Damage(str(entry["file"]), int(entry["offset"]), str(entry["lost"]), str(entry["found_at"]))
            for entry in json.loads(text)
        ]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return [Damage(NOTE, 0, "the note of earlier damage cannot be read", time_stamp(0))]


def describe(damages: Sequence[Damage]) -> str:
    """All in one line, for the status; empty where there is none."""
    return "; ".join(map(str, damages))


def note(files: Files, found: Sequence[Damage]) -> list[Damage]:
    """Write down what was found, unless it was before. All that is noted, with the time when it was first seen."""
    known = {(damage.file, damage.offset): damage for damage in noted(files)}
    fresh = [damage for damage in found if (damage.file, damage.offset) not in known]
    damages = [*known.values(), *fresh]
    if fresh:
        file = files.create(NOTE + UNFINISHED)
        try:
            file.write(0, json.dumps([asdict(damage) for damage in damages], indent=1).encode())
            file.sync()
        finally:
            file.close()
        files.rename(NOTE + UNFINISHED, NOTE)
        files.sync_folder()
    return damages


def acknowledge(files: Files) -> list[Damage]:
    """Forget what was noted, for good; what it was. Files set aside stay."""
    damages = noted(files)
    if damages:
        files.unlink(NOTE)
        files.sync_folder()
    return damages
