"""What does the journal ask of a disk?

Everything that is kept for the next start passes through `Files`, one folder of plain files, so that a test can stand
in for the disk and show what a loss of power leaves. What the interface promises is what a disk does, and no more: a
write is safe after `File.sync`, a new, renamed or removed name after `Files.sync_folder`, the folder itself after
`Files.sync_parents`. A read sees what was written, safe or not.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from appstatsd.journal.errors import StateDirectoryInUse, StateDirectoryRefused

Bytes = bytes | bytearray | memoryview

_LOCK: Final = "lock"
_FREED_AT_ONCE_BYTES: Final = 16 * 1024 * 1024


class File(Protocol):
    """An open file. All methods may raise OSError."""

    def write(self, offset: int, data: Bytes) -> None:
        """Write all of `data` at `offset` bytes."""

    def settle(self) -> None:
        """Wait until the disk has caught up, so that the next sync of another file does not wait for all of this one.
        Promises nothing."""

    def sync(self) -> None:
        """All that was written, and the size, is safe when this returns."""

    def read(self, offset: int, into: memoryview) -> int:
        """Fill `into` from `offset` bytes on; the number of bytes read, fewer only at the end of the file."""
        ...

    def size(self) -> int:
        """Bytes."""
        ...

    def close(self) -> None:
        """Give the file back; this makes nothing safe."""


class Files(Protocol):
    """One folder of files. All methods may raise OSError."""

    where: str
    """The folder, for messages."""
    block_bytes: int
    """What the disk writes at once: a torn write harms the blocks that it covers, and no others."""
    ahead_bytes: int
    """How much is worth writing before it is needed, so that later writes change no metadata."""

    def make_folder(self) -> None:
        """Make the folder, for the daemon alone, where it is missing.

        Raises:
            StateDirectoryRefused: it is not the daemon's own.
        """

    def sync_parents(self) -> None:
        """The folder itself is safe when this returns, whoever made it."""

    def lock(self) -> None:
        """Own the folder until `close` or the end of the process.

        Raises:
            StateDirectoryInUse: another process owns it.
        """

    def names(self) -> list[str]:
        """What is in the folder, in no order."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file."""
        ...

    def create(self, name: str) -> File:
        """A new, empty file, for the daemon alone."""
        ...

    def open(self, name: str) -> File:
        """A file that is there, to read."""
        ...

    def truncate(self, name: str, size: int) -> None:
        """Cut a file to `size` bytes."""

    def rename(self, name: str, to: str) -> None:
        """Give a file another name, in place of what has that name."""

    def unlink(self, name: str) -> None:
        """Remove a file."""

    def sync_folder(self) -> None:
        """New, renamed and removed names are safe when this returns."""

    def close(self) -> None:
        """Give up the lock."""


def own(files: Files) -> None:
    """Have the folder, made where it is missing, for this process alone.

    Raises:
        StateDirectoryInUse: another process owns it.
        StateDirectoryRefused: it cannot be made, or is not the daemon's own.
    """
    try:
        files.make_folder()
        # Also where it was there: who made it may have died before it was safe.
        files.sync_parents()
        files.lock()
    except OSError as error:
        raise StateDirectoryRefused(
            f"the state directory {files.where} cannot be used: {error}. It and all in it must belong to the daemon's "
            "user; mend that, or choose another --state-dir."
        ) from error


class DiskFile:
    """A real file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, offset: int, data: Bytes) -> None:
        """See `File`."""
        left = memoryview(data)
        while left:
            written = os.pwrite(self._fd, left, offset)
            offset += written
            left = left[written:]

    def settle(self) -> None:
        """See `File`."""
        os.fdatasync(self._fd)

    def sync(self) -> None:
        """See `File`."""
        os.fdatasync(self._fd)

    def read(self, offset: int, into: memoryview) -> int:
        """See `File`."""
        begin = offset
        while into:
            got = os.preadv(self._fd, [into], offset)
            if not got:
                break
            offset += got
            into = into[got:]
        return offset - begin

    def size(self) -> int:
        """See `File`."""
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        """See `File`."""
        os.close(self._fd)


class DiskFiles:
    """A real folder. The folder is 0700, its files are 0600."""

    block_bytes = 4096
    """The page of Linux and the sector of today's disks."""
    ahead_bytes = 256 * 1024
    """Measured: a commit of up to 48 kB costs about 0.6 of what it does without; more than this gains little."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: int | None = None
        self.where = str(folder)

    def make_folder(self) -> None:
        """See `Files`. A folder that is open to others is closed where it is empty or was the daemon's before."""
        missing = [path for path in (self._folder, *self._folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(mode=0o700)
        if not missing:
            self._close_to_others()

    def _close_to_others(self) -> None:
        found = self._folder.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise StateDirectoryRefused(
                f"the state directory {self.where} is not a folder; choose another --state-dir."
            )
        if found.st_uid != os.geteuid():
            raise StateDirectoryRefused(
                f"the state directory {self.where} belongs to user {found.st_uid}, the daemon runs as {os.geteuid()}; "
                "run it as that user, or let --state-dir name a folder below it, which the daemon makes."
            )
        if not stat.S_IMODE(found.st_mode) & 0o077:
            return
        names = self.names()
        if names and _LOCK not in names:
            raise StateDirectoryRefused(
                f"the state directory {self.where} is open to others (mode {stat.S_IMODE(found.st_mode):04o}) and holds "
                f"what is not the daemon's; run `chmod 700 {self.where}`, or choose another --state-dir."
            )
        self._folder.chmod(0o700)

    def sync_parents(self) -> None:
        """See `Files`. Folders that the daemon may not read it cannot have made."""
        device = self._folder.stat().st_dev
        for path in self._folder.resolve().parents:
            if path.stat().st_dev != device:
                break
            with suppress(PermissionError):
                _sync_path(path, os.O_DIRECTORY)

    def lock(self) -> None:
        """See `Files`. The lock ends with the process, however it ends."""
        fd = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise StateDirectoryInUse(
                f"the state directory {self.where} is in use by process {holder}; stop that daemon, or give this one "
                "a --state-dir of its own."
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock = fd

    def names(self) -> list[str]:
        """See `Files`."""
        return [path.name for path in self._folder.iterdir()]

    def size(self, name: str) -> int:
        """See `Files`."""
        return (self._folder / name).stat().st_size

    def create(self, name: str) -> DiskFile:
        """See `Files`."""
        return DiskFile(os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))

    def open(self, name: str) -> DiskFile:
        """See `Files`."""
        return DiskFile(os.open(self._folder / name, os.O_RDONLY))

    def truncate(self, name: str, size: int) -> None:
        """See `Files`."""
        os.truncate(self._folder / name, size)

    def rename(self, name: str, to: str) -> None:
        """See `Files`."""
        (self._folder / name).rename(self._folder / to)

    def unlink(self, name: str) -> None:
        """See `Files`. A large file goes in steps: freeing it at once holds up every other sync for its time."""
        path = self._folder / name
        for size in range(path.stat().st_size - _FREED_AT_ONCE_BYTES, 0, -_FREED_AT_ONCE_BYTES):
            os.truncate(path, size)
            _sync_path(path, 0)
        path.unlink()

    def sync_folder(self) -> None:
        """See `Files`."""
        _sync_path(self._folder, os.O_DIRECTORY)

    def close(self) -> None:
        """See `Files`."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _sync_path(path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
