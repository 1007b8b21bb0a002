"""What keeps a state directory from being used, or a journal from going on. None of these passes by trying again."""

from __future__ import annotations

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
