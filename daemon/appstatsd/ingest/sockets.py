"""How does a unix socket come to its path?

gRPC itself would unlink whatever is there, a live daemon's socket too, and let clients in before the mode is right. So
the socket is bound in a private folder beside its path, gets its mode and group there, and is renamed into place.
Invariant: whoever can reach the public path finds a socket that is listened on, with its final mode and group; a path
that another daemon serves is never taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import Final

import xxhash

from appstatsd.errors import AppstatsdError

MAX_PATH_BYTES: Final = 107
"""The longest path that fits into a `sockaddr_un`, see unix(7)."""


class SocketTaken(AppstatsdError):
    """The path of a socket can't be used; the text says why and what to do."""


class PublicSocket:
    """The path that clients connect to, owned by this process from `claim` to `withdraw`."""

    def __init__(self, path: Path, mode: int, gid: int | None) -> None:
        self._path = path
        self._mode = mode
        self._gid = gid
        self._lock = -1
        self._folder: Path | None = None
        self._identity: tuple[int, int] | None = None

    def claim(self) -> Path:
        """Make sure that the path is free, or holds what a dead daemon left.

        Returns:
            Where to bind the socket for now.

        Raises:
            SocketTaken: another daemon serves the path, it is no socket, or it is too long.
        """
        folder = self._path.parent
        if not folder.is_dir():
            raise SocketTaken(
                f"the folder of the socket {self._path} is not there; make it, or choose another --listen"
            )
        try:
            self._lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise SocketTaken(
                f"the folder {folder} of the socket {self._path.name} can't be written to ({error.strerror}); "
                "run as a user that may, or choose another --listen"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SocketTaken(
                f"another daemon holds the socket {self._path}; stop it, or choose another --listen"
            ) from None
        self._probe()
        self._sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=self._prefix, dir=folder))
        bound = self._folder / "s"
        if max(len(os.fsencode(bound)), len(os.fsencode(self._path))) > MAX_PATH_BYTES:
            raise SocketTaken(
                f"the socket path {self._path} is too long for a unix socket ({MAX_PATH_BYTES} bytes at most, "
                f"that of {bound} included); choose a shorter --listen"
            )
        return bound

    def publish(self) -> None:
        """Put the socket, which is listened on by now, into place."""
        assert self._folder is not None, "claimed before"
        bound = self._folder / "s"
        if self._gid is not None:
            os.chown(bound, -1, self._gid)
        bound.chmod(self._mode)
        state = bound.stat()
        self._identity = (state.st_dev, state.st_ino)
        bound.rename(self._path)

    def withdraw(self) -> None:
        """Take the socket away, if it is still this process's own, and let another daemon have the path."""
        with contextlib.suppress(FileNotFoundError):
            state = self._path.lstat()
            if self._identity == (state.st_dev, state.st_ino):
                self._path.unlink()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock >= 0:
            # The lock file stays: taking it away would let two daemons hold locks on two files of one name.
            os.close(self._lock)
            self._lock = -1

    @property
    def _prefix(self) -> str:
        # Of one length, and another for every socket in the folder: daemons may start side by side.
        return f".{xxhash.xxh32_hexdigest(os.fsencode(self._path.name))}-"

    def _probe(self) -> None:
        try:
            state = self._path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(state.st_mode):
            raise SocketTaken(f"{self._path} is there and is no socket; remove it, or choose another --listen")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self._path))
            except (ConnectionRefusedError, FileNotFoundError):
                return
            except OSError as error:
                raise SocketTaken(
                    f"the socket {self._path} can't be probed ({error}); remove it if nothing serves it, "
                    "or choose another --listen"
                ) from error
        raise SocketTaken(f"another process serves the socket {self._path}; stop it, or choose another --listen")

    def _sweep(self) -> None:
        """Remove private folders that a daemon left that was killed while it held the lock."""
        for left in self._path.parent.glob(f"{self._prefix}*"):
            if left.is_dir() and not left.is_symlink() and {entry.name for entry in left.iterdir()} <= {"s"}:
                shutil.rmtree(left, ignore_errors=True)
