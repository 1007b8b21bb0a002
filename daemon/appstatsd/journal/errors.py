"""What keeps a state directory from being used, or a journal from going on. None of these passes by trying again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from appstatsd.errors import AppstatsdError


class JournalFailed(AppstatsdError):
    """A write or an fsync failed. The journal takes nothing more until the daemon is started again."""

    @classmethod
    def because(cls, what: str, where: str, error: OSError) -> JournalFailed:
        """Could not do `what` in the folder `where`."""
        return cls(
            f"could not {what} in {where}: {error}. What this was to make safe is not acknowledged. See to the disk "
            "(space, inodes, errors in the kernel's log) and start the daemon again: it goes on from what is safe."
        )


class JournalDamaged(AppstatsdError):
    """What was acknowledged cannot be read, and the daemon was told to stop at that."""


class JournalVersion(AppstatsdError):
    """The files are of a format that this version does not read."""


class StateDirectoryInUse(AppstatsdError):
    """Another daemon owns the folder."""


class StateDirectoryRefused(AppstatsdError):
    """The folder cannot be had for the daemon alone."""


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Say of an error of the disk what was being read. Places that a disk lost (EIO) are damage and do not come here."""
    try:
        yield
    except OSError as error:
        raise StateDirectoryRefused(
            f"the journal in {where} cannot be read: {error}. All files in it must be the daemon's user's, and be read as "
            "that user. Where a daemon runs, a snapshot may just have taken the place of a file: then try again."
        ) from error
