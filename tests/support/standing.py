"""What stands still until a test moves it: the clocks, and a log of events that is as slow as the test wants."""

from __future__ import annotations

import threading
from itertools import chain

from appstatsd.drain import Forgetful
from appstatsd.events import Event

from tests.support.reports import T0

PATIENCE_SECONDS = 30.0


class StandingClock:
    """A `Clock` that says `T0` and how much the test has let pass since."""

    def __init__(self) -> None:
        self.passed = 0

    def wall_us(self) -> int:
        return T0 + self.passed

    def mono_us(self) -> int:
        return self.passed


class GatedLog(Forgetful):
    """An `EventLog` that keeps what it is given, once the gate is open."""

    def __init__(self) -> None:
        self.drains: list[list[Event]] = []
        """What came together; empty drains are left out."""
        self.asked = threading.Semaphore(0)
        """One for each time that the drain has come."""
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Exception | None = None

    @property
    def events(self) -> list[Event]:
        return list(chain.from_iterable(self.drains))

    def append(self, events: list[Event]) -> None:
        self.asked.release()
        assert self.gate.wait(PATIENCE_SECONDS)
        if self.failure is not None:
            raise self.failure
        if events:
            self.drains.append(events)
