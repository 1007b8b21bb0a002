"""What does the proxy call? A session's handle, and what the threaded and the asynchronous client have in common.

Invariant: nothing here waits for anything but the client's own lock, which is never held over I/O, and nothing raises for
what the transport does.
"""

from __future__ import annotations

import os
import random
import secrets
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self
from uuid import UUID

from appstatsd_client import events
from appstatsd_client.app import App, UuidLike, id_bytes
from appstatsd_client.clock import Clock
from appstatsd_client.core import Core, Stats
from appstatsd_client.limits import Limits
from appstatsd_client.report import Report
from appstatsd_client.transport import Tls, Transport


def new_session_id() -> bytes:
    """The 16 bytes of a random UUID (version 4)."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


class Session:
    """One use of one app by one user, as the proxy holds it. As a context manager it ends when the block does."""

    __slots__ = ("_client", "_report")

    def __init__(self, client: SessionReporter, report: Report) -> None:
        """Made by `begin`."""
        self._client = client
        self._report = report

    @property
    def session_id(self) -> UUID:
        """What identifies it, in the database too."""
        return UUID(bytes=self._report.session_id)

    @property
    def app(self) -> App:
        """The app that is used."""
        return self._report.app

    @property
    def requests(self) -> int:
        """How many requests were counted so far."""
        return self._report.requests

    @property
    def started_ns(self) -> int:
        """When it began: nanoseconds since the Unix epoch, UTC."""
        return self._report.started_ns

    @property
    def ended_ns(self) -> int:
        """When it ended: nanoseconds since the Unix epoch, UTC; 0 while it is live."""
        return self._report.ended_ns

    def update(self, requests: int = 1) -> None:
        """Counts that many more requests. Does nothing once the session has ended.

        Raises `ValueError` where `requests` is negative.
        """
        if requests < 0:
            raise ValueError(f"requests is {requests}; a count only grows")
        self._client.update_session(self._report, requests)

    def end(self) -> None:
        """Says that it is over, now. Does nothing once the session has ended."""
        self._client.end_session(self._report)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class SessionReporter:
    """What `Client` and `AsyncClient` share: everything that the proxy calls on its way, and no I/O."""

    def __init__(
        self,
        target: str,
        tls: Tls | None,
        limits: Limits,
        on_event: events.OnEvent,
        clock: Clock,
        lock: AbstractContextManager[object],
    ) -> None:
        self._transport = Transport(target, tls, limits)
        self._clock = clock
        self._on_event = on_event
        self._lock = lock  # guards the core and every report
        self._core = Core(limits, lambda: secrets.token_hex(16), random.SystemRandom().uniform)
        self._pid = 0  # the process that reports; 0: no session has begun
        self._fork_told = False

    def begin(
        self,
        app: App,
        *,
        requests: int = 1,
        report_live: bool = True,
        session_id: UuidLike | None = None,
        started_ns: int | None = None,
    ) -> Session:
        """Begins a session of this app, now, with a new session id and one request.

        With `report_live` false nothing is reported until the session ends, and nothing at all if it never does: for
        requests that may turn out to be redirects or 404s. `session_id` and `started_ns` (nanoseconds since the Unix
        epoch) go on with a session that another process began.

        Raises `ValueError` where `requests`, `session_id` or `started_ns` cannot be, and nothing else.
        """
        monotonic_ns, wall_ns = self._clock.monotonic_ns(), self._clock.wall_ns()
        if started_ns is None:
            started_ns = wall_ns
        elif not 0 < started_ns < 2**63:
            raise ValueError(f"started_ns is {started_ns}; it has to be nanoseconds since the Unix epoch")
        if requests < 0:
            raise ValueError(f"requests is {requests}; it cannot be negative")
        key = new_session_id() if session_id is None else id_bytes("session_id", session_id)
        report = Report(app, key, started_ns, monotonic_ns - max(0, wall_ns - started_ns), requests)
        if self._is_ours():
            with self._lock:
                if report_live and self._core.buffer.begin(report, monotonic_ns):
                    self._wake()
        return Session(self, report)

    def update_session(self, report: Report, requests: int) -> None:
        """What `Session.update` does."""
        if self._is_ours():
            with self._lock:
                if not report.ended_ns:
                    report.count(requests)
                    if self._core.buffer.changed(report, self._clock.monotonic_ns()):
                        self._wake()

    def end_session(self, report: Report) -> None:
        """What `Session.end` does."""
        if self._is_ours():
            with self._lock:
                if not report.ended_ns:
                    now_ns = self._clock.monotonic_ns()
                    report.end(now_ns)
                    if self._core.buffer.ended(report, now_ns):
                        self._wake()

    def stats(self) -> Stats:
        """What the client holds and has done so far."""
        if self._is_forked():
            return self._core.stats()
        with self._lock:
            return self._core.stats()

    def _is_ours(self) -> bool:
        """Whether this process is the one that reports: the first one that begins a session."""
        if self._pid == os.getpid():
            return True
        if self._is_forked():
            if not self._fork_told:
                self._fork_told = True
                self._on_event(events.ForkedAfterStart(self._pid))
            return False
        with self._lock:
            if not self._pid:
                self._start()
                self._pid = os.getpid()
        return True

    def _is_forked(self) -> bool:
        """Whether this is a child of the process that reports. Its lock may be held here for ever by a thread that did not
        come along, and nobody else is here, so whoever finds this true does without.
        """
        return self._pid not in (0, os.getpid())

    def _start(self) -> None:
        """The first session begins. The lock is held."""
        raise NotImplementedError

    def _wake(self) -> None:
        """A waiting sender has to look again. The lock is held."""
        raise NotImplementedError

    def _tell(self) -> None:
        """Hands what happened to `on_event`; by the shell, without the lock."""
        with self._lock:
            happened = self._core.take_events()
        for event in happened:
            try:
                self._on_event(event)
            except Exception:  # the proxy's own code: its mistakes must not cost reports
                events.log.exception("on_event failed for %r", event)
