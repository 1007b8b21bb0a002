"""Is there room for what clients send?

While the state directory is full, their messages wait here, and so the streams behind them stand still; when that lasts,
the streams are ended, so that the clients know. Nobody's grace runs meanwhile. Invariant: a message that was held back
has not been journaled, applied or answered, so its client sends it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from appstatsd.events import Event, Received, RoomChanged

PATIENCE_US: Final = 5_000_000
"""How long messages wait for room before their streams are ended."""
CHECK_US: Final = 500_000
"""How often to look for room."""
_SPARE_BYTES: Final = 64 << 10
"""What must be free beside a message before clients are let in again, so that it is not for one message alone."""


class Admission:
    """Lets messages in, or holds them back; used by the drain's thread alone."""

    def __init__(self, room: Callable[[int], bool], refuse: Callable[[bool], None]) -> None:
        """Make an admission with the doors open.

        Args:
            room: Whether messages of so many bytes may be journaled.
            refuse: Is told whether to refuse streams from now on.
        """
        self._room = room
        self._refuse = refuse
        self._held: list[Received] = []
        self._full_since_us: int | None = None
        self._refusing = False
        self._log = structlog.get_logger("appstatsd.admission")

    @property
    def full(self) -> bool:
        """Whether messages are held back at present."""
        return self._full_since_us is not None

    def admit(self, events: list[Event], wall_us: int, mono_us: int) -> list[Event]:
        """Those of the events that go on, messages held back before them first; what became of the room among them."""
        if not self.full and not any(isinstance(event, Received) for event in events):
            return events
        waiting = [*self._held, *(event for event in events if isinstance(event, Received))]
        size = sum(len(event.message) for event in waiting)
        if self._room(size + (_SPARE_BYTES if self.full else 0)):
            if not self.full:
                return events
            self._let_in()
            return [RoomChanged(True, wall_us, mono_us), *self._take_held(), *events]
        going_on: list[Event] = [event for event in events if not isinstance(event, Received)]
        self._held = waiting
        if self._full_since_us is None:
            self._full_since_us = mono_us
            self._log.error(
                "The state directory is full; reports wait until rows are written or room is made",
                what_to_do="see to the database, or raise --max-state-bytes",
            )
            going_on.append(RoomChanged(False, wall_us, mono_us))
        elif mono_us - self._full_since_us > PATIENCE_US:
            self._held = []
            if not self._refusing:
                self._refusing = True
                self._refuse(True)
        return going_on

    def _let_in(self) -> None:
        self._full_since_us = None
        self._log.warning("The state directory has room again; reports are taken")
        if self._refusing:
            self._refusing = False
            self._refuse(False)

    def _take_held(self) -> list[Received]:
        held, self._held = self._held, []
        return held
