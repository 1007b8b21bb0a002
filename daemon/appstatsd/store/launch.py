"""How does a PostgreSQL program come to run under the right identity, and end with whoever started it?

Run as a program of its own, because what it does may only be done in a new process that has one thread: it becomes the
account that it is told, asks the kernel for a signal at the death of its parent, and turns into the program. PostgreSQL
refuses to run as root; as another account it could neither reach a data folder below folders that are root's alone nor
programs installed with a strict umask, so that one right (CAP_DAC_OVERRIDE) goes with it. No file's mode has to change.
Invariant: the program runs only if the signal is certain to come. Nothing is imported but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_LINUX_CAPABILITY_VERSION_3 = 0x20080522


def account() -> tuple[int, int] | None:
    """Give the uid and gid that PostgreSQL must run as where it cannot be our own: nobody's, for root.

    Raises KeyError where the system has no such account.
    """
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def command(
    program: Path, arguments: Sequence[str], *, death_signal: signal.Signals, account: tuple[int, int] | None
) -> list[str]:
    """Give the command line that runs `program` as a child of this process.

    `death_signal` reaches it when the thread that starts it ends. `account` is the uid and gid to become, for root.
    """
    uid, gid = account or (-1, -1)
    head = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(death_signal)), str(uid), str(gid)]
    return [*head, str(program), *arguments]


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _become(libc: ctypes.CDLL, uid: int, gid: int) -> None:
    """Become the account, with CAP_DAC_OVERRIDE and no other right, over the coming exec too."""
    _check(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "keeping capabilities")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    only = 1 << _CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(only, only, only, 0, 0, 0)  # effective, permitted, inheritable: low words, then high
    _check(libc.capset(header, sets), "keeping CAP_DAC_OVERRIDE")
    _check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0), "passing CAP_DAC_OVERRIDE on")


def main(arguments: list[str]) -> None:
    """Become the account, bind this process's life to its parent's, and turn into the program."""
    parent, death_signal, uid, gid = (int(text) for text in arguments[:4])
    program = arguments[4]
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if uid >= 0:
            _become(libc, uid, gid)
        # After the change of identity, which clears it; and then a look at the parent, which may have died before.
        _check(libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0), "binding to the parent's life")
        if os.getppid() != parent:
            sys.exit(f"FATAL:  process {parent}, which was to own {program}, has ended")
        os.execv(program, arguments[4:])  # noqa: S606 -- turning into the program is what this module is for
    except OSError as error:
        sys.exit(f"FATAL:  cannot run {program} as uid {uid if uid >= 0 else os.geteuid()}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
