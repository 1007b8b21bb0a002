"""Who waits for rows to be in the database, and what are they told?

An ask names a stamp of the outbox. It is answered once: well, when nothing that was added up to that stamp is owed any
more (all of it is committed or in quarantine, and the outbox has heard of it), or with the reason why not, when an
attempt that began after the ask fails or its time is up. Asks that wait at the same time share attempts.

Answers are given from whichever thread finds them due, never under a lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from appstatsd.deliver.outbox import Outbox
from appstatsd.errors import StoreUnavailable


@dataclass(frozen=True, slots=True)
class FlushOutcome:
    """What became of an ask."""

    rows_written: int
    """Rows that were written while it waited."""
    backlog_rows: int
    """Rows that still wait, those that came later included."""
    error: StoreUnavailable | None
    """Why not all of it is written; None: it is."""


Answer = Callable[[FlushOutcome], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Ask:
    number: int
    up_to_stamp: int
    deadline_s: float
    urgent: bool
    settled_before: int
    answer: Answer


class Asks:
    """Asks that have not been answered."""

    def __init__(self, outbox: Outbox, clock: Callable[[], float]) -> None:
        self._outbox = outbox
        self._clock = clock
        self._changed = threading.Condition()
        # The condition's lock protects all that follows; it is notified where `watch` has something to look at.
        self._waiting: list[_Ask] = []
        self._last = 0
        self._trouble: StoreUnavailable | None = None
        self._closed: StoreUnavailable | None = None

    @property
    def last(self) -> int:
        """The number of the ask that came last."""
        with self._changed:
            return self._last

    @property
    def urgent(self) -> bool:
        """Whether somebody waits who does not want to wait for pauses."""
        with self._changed:
            return any(ask.urgent for ask in self._waiting)

    def add(self, up_to_stamp: int, deadline_s: float, answer: Answer, urgent: bool) -> None:
        """Take an ask; it may be answered before this returns."""
        with self._changed:
            self._last += 1
            ask = _Ask(self._last, up_to_stamp, deadline_s, urgent, self._outbox.settled, answer)
            closed = self._closed
            if closed is None:
                self._waiting.append(ask)
                self._changed.notify()
        if closed is None:
            self.settle()
        else:
            self._answer([ask], closed)

    def settle(self) -> None:
        """Answer those to which nothing is owed any more."""
        with self._changed:
            done = self._take([ask for ask in self._waiting if not self._outbox.owes(ask.up_to_stamp)])
        self._answer(done, None)

    def failed(self, error: StoreUnavailable, up_to_number: int) -> None:
        """An attempt failed that began after the asks up to this number had come."""
        with self._changed:
            self._trouble = error
            done = self._take([ask for ask in self._waiting if ask.number <= up_to_number])
        self._answer(done, error)

    def succeeded(self) -> None:
        """The trouble of the last attempt, if it had one, is over."""
        with self._changed:
            self._trouble = None

    def watch(self) -> None:
        """Tell those whose time is up, until `close`; a thread's work, for an attempt may hang."""
        while True:
            with self._changed:
                if self._closed is not None:
                    return
                now = self._clock()
                late = self._take([ask for ask in self._waiting if ask.deadline_s <= now])
                if not late:
                    nearest = min((ask.deadline_s for ask in self._waiting), default=None)
                    self._changed.wait(None if nearest is None else min(nearest - now, threading.TIMEOUT_MAX))
                    continue
                error = self._trouble or StoreUnavailable(
                    "the rows were not written within the time limit of the flush"
                )
            self._answer(late, error)

    def close(self, error: StoreUnavailable) -> None:
        """Answer all that wait, and all that come later, with this."""
        with self._changed:
            self._closed = error
            left = self._take(self._waiting)
            self._changed.notify()
        self._answer(left, error)

    def _take(self, asks: list[_Ask]) -> list[_Ask]:
        taken = set(asks)
        self._waiting = [ask for ask in self._waiting if ask not in taken]
        return asks

    def _answer(self, asks: list[_Ask], error: StoreUnavailable | None) -> None:
        if asks:
            settled, backlog = self._outbox.settled, len(self._outbox)
            for ask in asks:
                ask.answer(FlushOutcome(settled - ask.settled_before, backlog, error))
