"""What does systemd hear of the daemon, and how does it know that the daemon still works?

It is told when streams are accepted, what the daemon does and how far it is, and, again and again, that it is alive. That
is said only after a question went from the event loop, which serves the streams, through the drain's queue, behind all
that waits for the journal, and back. Invariant: where loop, drain or journal stand still, so does the watchdog's food.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from appstatsd.clock import Clock
from appstatsd.drain import Question
from appstatsd.errors import AppstatsdError
from appstatsd.ledger import Ledger

Send = Callable[[str], object]
"""Takes what goes behind `STATUS=`: a text of one line, and more assignments in lines of their own."""

STATUS_SECONDS: Final = 10.0
"""How often the figures are said anew, where no watchdog asks for more."""
RECOVERY_WORD_US: Final = 1_000_000
"""How often a recovery says how far it is."""
RECOVERY_EXTENSION_US: Final = 60_000_000
"""How long its next word may take; reading and applying one unit takes far less."""


class NotifyMissing(AppstatsdError):
    """systemd waits for a word that can't be said."""


class ServiceManager:
    """What the daemon tells systemd; nothing where systemd did not start it."""

    def __init__(self, send: Send | None, clock: Clock, watchdog_seconds: float | None = None) -> None:
        """`watchdog_seconds` is how long systemd goes without a sign of life; None: for ever."""
        self._send = send
        self._clock = clock
        self._beat_seconds = min(STATUS_SECONDS, watchdog_seconds / 3) if watchdog_seconds else STATUS_SECONDS
        self._recovery_said_us: int | None = None

    def recovering(self, done_bytes: int, total_bytes: int) -> None:
        """The journal is being read; the start may take as long as that does."""
        now_us = self._clock.mono_us()
        if self._recovery_said_us is not None and now_us - self._recovery_said_us < RECOVERY_WORD_US:
            return
        self._recovery_said_us = now_us
        share = 100 * done_bytes // max(1, total_bytes)
        text = f"Recovering: {share} % of the journal's {total_bytes / 2**20:.1f} MiB read"
        self._tell(text, f"EXTEND_TIMEOUT_USEC={RECOVERY_EXTENSION_US}")

    def ready(self) -> None:
        """Streams are accepted."""
        self._tell("Streams are accepted", "READY=1")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """While the settings are read again."""
        self._tell("Reading the settings again", "RELOADING=1")
        try:
            yield
        finally:
            self.ready()

    def stopping(self) -> None:
        """The daemon flushes, ends its streams and goes."""
        self._tell("Stopping: writing what is left", "STOPPING=1")

    async def stay_alive(self, put: Callable[[Question], None], figures: Callable[[Ledger], str]) -> None:
        """Give a sign of life with the figures of the moment, again and again, until cancelled.

        Args:
            put: Hands a question to the drain.
            figures: Puts them into a line, on the drain's thread.
        """
        while self._send is not None:
            self._tell(await _ask(put, figures), "WATCHDOG=1")
            await asyncio.sleep(self._beat_seconds)

    def _tell(self, status: str, *assignments: str) -> None:
        if self._send is not None:
            self._send("\n".join([status, *assignments]))


async def _ask(put: Callable[[Question], None], figures: Callable[[Ledger], str]) -> str:
    """What the drain answers, once it has dealt with all that waits before."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()

    def settle(text: str) -> None:
        if not answer.done():  # nobody waits for it any more where it was cancelled
            answer.set_result(text)

    def look(ledger: Ledger) -> None:
        loop.call_soon_threadsafe(settle, figures(ledger))

    put(Question(look))
    return await answer


def service_manager(environ: Mapping[str, str], clock: Clock) -> ServiceManager:
    """The service manager that started this process, as its environment says.

    Raises:
        NotifyMissing: systemd waits to hear from the daemon, and what speaks to it is not installed.
    """
    if not environ.get("NOTIFY_SOCKET"):
        return ServiceManager(None, clock)
    try:
        from cysystemd.daemon import Notification, notify
    except ImportError as error:
        raise NotifyMissing(
            f"systemd waits for a word of the daemon (NOTIFY_SOCKET is set), but {error}; install the Python package "
            "cysystemd, as with pip install 'appstatsd[systemd]'"
        ) from error
    watched = environ.get("WATCHDOG_USEC", "") and environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
    seconds = int(environ["WATCHDOG_USEC"]) / 1_000_000 if watched else None
    # Its list of assignments lacks some that systemd knows, but what stands behind STATUS= goes out as it is.
    return ServiceManager(lambda text: notify(Notification.STATUS, text), clock, seconds)
