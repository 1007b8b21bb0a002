"""Who changes the state, and when?

One thread. Everything that happens comes to it through one queue; it takes all that waits, makes it durable together,
applies it to the ledger together, and answers each stream once. Load makes the drains larger and so the cost of a report
smaller; an idle daemon answers a single report at once. Invariant: nothing is applied or answered before it is as
durable as the daemon is configured to make it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from appstatsd.admission import CHECK_US, Admission
from appstatsd.answers import Answer
from appstatsd.clock import Clock
from appstatsd.collect.rollup import ALL
from appstatsd.collect.rollup import Flushed as RolledUp
from appstatsd.events import Event, Flushed, FlushedOn, Forgotten, Quarantined, QuarantineRetried, Received, Written
from appstatsd.ledger import Held, Ledger

MAX_DRAIN_BYTES: Final = 16 << 20
"""How many bytes of messages one drain takes at most, so that the first of them is not kept waiting."""
MAX_FLUSH_SESSIONS: Final = 2048
"""How many sessions a flush looks at between two drains, for the same reason: about two milliseconds."""


_LOAD_US: Final = 1_000_000
"""Over how long it is taken how much of the time goes to messages,"""
_BUSY_SHARE: Final = 0.2
"""and from which share on whoever else works beside the drain should hold back."""


class EventLog(Protocol):
    """Makes events durable."""

    def append(self, events: list[Event]) -> None:
        """Make all events durable, in this order; returns when they are.

        Raises:
            JournalFailed: they may not be; the daemon must end.
        """

    def applied(self, ledger: Ledger) -> None:
        """All that was appended has been applied to the ledger, which nobody changes until this returns."""

    def room(self, batch_bytes: int, ledger: Ledger) -> bool:
        """Whether messages of clients of so many bytes may be appended."""

    def purge(self, gone: Callable[[], None], again: Callable[[], None]) -> None:
        """Let go of all that was appended until now, beginning with the next `applied`.

        Args:
            gone: Is called, from any thread, once the disk holds nothing of it but what the ledger still holds.
            again: Is called, from any thread, where that takes another `applied`.
        """

    def set_aside(self) -> list[str]:
        """Names of files in the state directory that hold what was found damaged, and are kept for a person."""

    @property
    def bytes_on_disk(self) -> int:
        """What it takes."""

    def damage(self) -> str:
        """What of it was found damaged and not acknowledged; empty where there is none."""


class Forgetful:
    """The event log of `--durability=memory`: nothing is kept."""

    def append(self, events: list[Event]) -> None:
        """Keep nothing."""

    def applied(self, ledger: Ledger) -> None:
        """Do nothing."""

    def room(self, batch_bytes: int, ledger: Ledger) -> bool:
        """There is always room for nothing."""
        return True

    def purge(self, gone: Callable[[], None], again: Callable[[], None]) -> None:
        """There is nothing to let go of."""
        gone()

    def set_aside(self) -> list[str]:
        """There are none."""
        return []

    @property
    def bytes_on_disk(self) -> int:
        """Nothing."""
        return 0

    def damage(self) -> str:
        """There is none."""
        return ""


@dataclass(frozen=True, slots=True)
class FlushCall:
    """Somebody waits for a flush."""

    as_of_us: int | None
    """The clock that the flush sees; None: the daemon's own."""
    rolled_up: Callable[[int], None]
    """Is called with the outbox's stamp once everything collected before has been through a roll-up."""


@dataclass(frozen=True, slots=True)
class ForgetCall:
    """Somebody wants a person erased."""

    user_id: bytes
    erased: Callable[[Held], None]
    """Is called, on the drain's thread, once nothing in memory is the person's; with how much there was."""
    gone: Callable[[], None]
    """Is called, from any thread, once nothing on disk is either."""


@dataclass(frozen=True, slots=True)
class Question:
    """Somebody wants to look at the ledger while nothing changes it."""

    ask: Callable[[Ledger], None]


@dataclass(frozen=True, slots=True)
class _GoOn:
    """A flush is under way."""


@dataclass(frozen=True, slots=True)
class _Stop:
    pass


_CHANGES_OUTBOX: Final = (Written, Quarantined, QuarantineRetried)

_NO_EVENTS: Final = (FlushCall, ForgetCall, Question, _GoOn, _Stop)

_Item = Event | FlushCall | ForgetCall | Question | _GoOn | _Stop


class Drain:
    """The one writer: a thread named `drain`, from `start` to `stop`."""

    def __init__(
        self,
        ledger: Ledger,
        log: EventLog,
        clock: Clock,
        *,
        first_flush_us: int | None,
        flush_interval_us: int,
        timer_flush: Callable[[], FlushCall],
        answer: Callable[[dict[int, Answer]], None],
        rolled_up: Callable[[RolledUp], None],
        outbox_changed: Callable[[], None],
        acknowledged: Callable[[float], None],
        refuse: Callable[[bool], None],
        give_way: Callable[[float, Callable[[], None]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Make a drain that does not run yet.

        Args:
            ledger: What the events are applied to; from `start` on the drain alone touches it.
            log: What makes them durable.
            clock: The daemon's clocks.
            first_flush_us: How long after the start the timer's first flush comes; None: the timer does not flush.
            flush_interval_us: How long after a flush of the timer's the next one comes.
            timer_flush: Makes the calls of the timer.
            answer: Takes what the streams are told, by number of the stream.
            rolled_up: Is called after each roll-up, when its rows are in the outbox.
            outbox_changed: Is called when rows came into the outbox, or left it.
            acknowledged: Is told how many seconds a message waited for its answer.
            refuse: Is told whether streams are to be refused for lack of room.
            give_way: Calls back, from any thread, after so many seconds, and once those who read and answer the streams
                had their turn.
            failed: Is called when the drain can't go on; the daemon must end.
        """
        self._ledger = ledger
        self._log = log
        self._clock = clock
        self._flush_interval_us = flush_interval_us
        self._next_flush_us = None if first_flush_us is None else clock.mono_us() + first_flush_us
        self._timer_flush = timer_flush
        self._answer = answer
        self._rolled_up = rolled_up
        self._outbox_changed = outbox_changed
        self._acknowledged = acknowledged
        self._give_way = give_way
        self._failed = failed
        self._admission = Admission(lambda size: log.room(size, ledger), refuse)
        self._flush_calls: list[FlushCall] = []
        """Those that wait for the flush under way to be whole."""
        self._gives_way = False
        """Whether somebody will call back for the next part."""
        self._load = _Load()
        self._items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="drain")
        self._logger = structlog.get_logger("appstatsd.drain")

    def start(self) -> None:
        """Begin to take what waits."""
        self._thread.start()

    def put(self, item: Event | FlushCall | ForgetCall | Question) -> None:
        """Add to what waits; from any thread, never blocks."""
        self._items.put(item)

    def busy(self) -> bool:
        """Whether much of the last second went to messages; from any thread."""
        return self._load.busy(self._clock.mono_us())

    def stop(self) -> None:
        """Deal with all that waits, then end; returns when the thread has."""
        self._items.put(_Stop())
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._handle(self._take()):
                pass
        except BaseException as failure:
            self._logger.critical("the drain can't go on", exc_info=True)
            self._failed(failure)

    def _take(self) -> list[_Item]:
        """All that waits, once something does or it is time for a flush."""
        items: list[_Item] = []
        try:
            items.append(self._items.get(timeout=self._patience()))
            size = 0
            while size < MAX_DRAIN_BYTES:
                item = self._items.get_nowait()
                items.append(item)
                if isinstance(item, Received):
                    size += len(item.message)
        except queue.Empty:
            pass
        if self._next_flush_us is not None:
            late_us = self._clock.mono_us() - self._next_flush_us
            if late_us >= 0:
                items.append(self._timer_flush())
                # What was missed is not made up for; the phase stays, so that a fleet never comes into step.
                self._next_flush_us += (late_us // self._flush_interval_us + 1) * self._flush_interval_us
        return items

    def _patience(self) -> float | None:
        """How many seconds to wait for something to happen; None: for ever."""
        limits_us = [CHECK_US] if self._admission.full else []
        if self._next_flush_us is not None:
            limits_us.append(max(0, self._next_flush_us - self._clock.mono_us()))
        return min(limits_us) / 1_000_000 if limits_us else None

    def _handle(self, items: list[_Item]) -> bool:
        """Make durable, apply, answer; False: somebody said stop."""
        calls = [item for item in items if isinstance(item, FlushCall)]
        forgets = [(item, self._forgotten(item)) for item in items if isinstance(item, ForgetCall)]
        events: list[Event] = [item for item in items if not isinstance(item, _NO_EVENTS)]
        events = self._admission.admit(events, self._clock.wall_us(), self._clock.mono_us())
        # Whoever asked for a flush asked after what waited with the call was acknowledged or not, so calls come last,
        # and those that want the same clock share one flush.
        goes_on = any(isinstance(item, _GoOn) for item in items)
        self._gives_way = self._gives_way and not goes_on
        flushes = self._flush_events(calls, goes_on)
        self._log.append([*events, *(event for _, event in forgets), *flushes])
        began_us = self._clock.mono_us()
        answers = self._ledger.apply_all(events)
        if answers:
            self._answer(answers)
            now_us = self._clock.mono_us()
            for event in events:
                if isinstance(event, Received):
                    self._acknowledged((now_us - event.mono_us) / 1_000_000)
            self._load.add(began_us, now_us)
        for forget, forgotten in forgets:
            forget.erased(self._ledger.forgotten(forgotten))
            self._log.purge(forget.gone, lambda: self.put(Question(_nothing)))
        self._flush(flushes)
        if flushes or forgets or any(isinstance(event, _CHANGES_OUTBOX) for event in events):
            self._outbox_changed()
        self._log.applied(self._ledger)
        for item in items:
            if isinstance(item, Question):
                item.ask(self._ledger)
        if not any(isinstance(item, _Stop) for item in items):
            return True
        if self._flush_calls:  # the flush under way comes first, and gives way to nobody
            self._items.put(_GoOn())
            self._items.put(_Stop())
        return bool(self._flush_calls)

    def _flush_events(self, calls: list[FlushCall], goes_on: bool) -> list[Flushed | FlushedOn]:
        wall_us, mono_us = self._clock.wall_us(), self._clock.mono_us()
        collector = self._ledger.collector
        self._flush_calls += calls
        begun: list[Flushed | FlushedOn] = []
        for as_of_us in dict.fromkeys(call.as_of_us for call in calls):
            now_us = wall_us if as_of_us is None else as_of_us
            few = collector.flush_candidates(now_us) <= MAX_FLUSH_SESSIONS
            begun.append(Flushed(now_us, wall_us, mono_us, ALL if few else 0))
        if goes_on and self._flush_calls and not begun:  # one that begins takes over what is left of the one before
            return [FlushedOn(collector.part_end(MAX_FLUSH_SESSIONS), wall_us)]
        return begun

    def _flush(self, flushes: list[Flushed | FlushedOn]) -> None:
        stamp = 0
        began_us = self._clock.mono_us()
        for event in flushes:
            rolled_up, stamp = self._ledger.flushed(event)
            self._rolled_up(rolled_up)
        if not flushes:
            return
        if flushes[-1].until != ALL:
            # Going on at once, this thread would keep Python's lock for as long as the interpreter lets it, each time; and
            # while many messages come half of the time is theirs.
            if not self._gives_way:
                self._gives_way = True
                now_us = self._clock.mono_us()
                pause_us = now_us - began_us if self._load.busy(now_us) else 0
                self._give_way(pause_us / 1_000_000, lambda: self._items.put(_GoOn()))
            return
        calls, self._flush_calls = self._flush_calls, []
        for call in calls:
            call.rolled_up(stamp)

    def _forgotten(self, call: ForgetCall) -> Forgotten:
        return Forgotten(call.user_id, self._clock.wall_us())


class _Load:
    """How much of the time goes to messages? Told by the drain's thread, read by any."""

    def __init__(self) -> None:
        self._since_us = 0
        self._spent_us = 0
        self._last = 0, False  # when that was found, and what; replaced as a whole

    def add(self, began_us: int, ended_us: int) -> None:
        """So long messages were dealt with."""
        self._spent_us += ended_us - began_us
        passed_us = ended_us - self._since_us
        if passed_us >= _LOAD_US:
            self._last = ended_us, self._spent_us > _BUSY_SHARE * passed_us
            self._since_us, self._spent_us = ended_us, 0

    def busy(self, now_us: int) -> bool:
        """Whether it was much in the last second, or in the one before."""
        found_us, busy = self._last
        return busy and now_us - found_us < 2 * _LOAD_US


def _nothing(ledger: Ledger) -> None:
    pass
