"""How does a command end: its exit status, and the one line that says why."""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

from appstatsd.errors import AppstatsdError

OK: Final = 0
FAILED: Final = 1
"""The command could not do what it was asked to."""
WRONG: Final = 2
"""The command line or a setting is wrong; nothing was tried. A service manager need not start it again."""
NO_DAEMON: Final = 69
"""No daemon answers (EX_UNAVAILABLE of sysexits.h)."""
INTERRUPTED: Final = 130
"""Ended from the keyboard, as shells count it."""


class Failed(AppstatsdError):
    """A command cannot go on; the text is one line for people."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(" ".join(text.split()))
        self.status = status
        """What the process ends with."""


def status_of(error: AppstatsdError) -> int:
    """What a process ends with that could not go on for this reason."""
    from appstatsd.settings import SettingsError  # which `appstatsd version` need not wait for

    if isinstance(error, SettingsError):
        return WRONG
    return error.status if isinstance(error, Failed) else FAILED


def at_once(status: int) -> int:
    """End the process without what the interpreter would still do, which is time without a socket.

    For a daemon that has written all it had to, and whose threads have ended.
    """
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)
