"""When do rows get from the outbox to the database, and what happens when they do not?

One thread sends batch after batch. It changes nothing in the outbox: what was committed or is to be quarantined it tells
the one writer of the daemon's state, whose events take the rows out. While the database takes no rows, tenacity spaces
the attempts: exponential backoff with full jitter. After an outage, and after a start, what has gathered is written with
pauses as long as its batches take, so that a fleet of daemons does not drown a database that has just come back.

A flush that somebody waits for (`ask`) ends a backoff or a pause at once; so does `stop`, which allows one last attempt.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Final

import structlog
from tenacity import Retrying, retry_if_exception_type, stop_when_event_set, wait_random_exponential
from tenacity.wait import WaitBaseT

from appstatsd.collect.rows import Reporter, Rows
from appstatsd.deliver.asks import Answer, Asks
from appstatsd.deliver.figures import DatabaseState, Figures, Tally
from appstatsd.deliver.lanes import Lanes, Outcome
from appstatsd.deliver.outbox import Outbox, Waiting
from appstatsd.deliver.refusal import OnlyRowRefused, Sifter, TableRefuses
from appstatsd.deliver.segment import Int64s
from appstatsd.deliver.trouble import TroubleLog
from appstatsd.errors import RowsRefused, StoreUnavailable

FULL_JITTER: Final = wait_random_exponential(max=60)
"""After each failed attempt a random time, at most twice as long as after the one before it, and at most a minute."""

OWN_ERROR_PAUSE_SECONDS: Final = 10.0
"""How long the thread pauses after an error that nobody foresaw."""

BATCHES_TOGETHER: Final = 64
"""How many batches the lanes share out before somebody looks for what else there is to do."""

OnWritten = Callable[[Int64s, int], None]
"""These serials were committed as they were at this stamp of the outbox."""

OnQuarantined = Callable[[int, int, RowsRefused], None]
"""The row of this serial, as it was at this stamp of the outbox, is to go to quarantine, and why."""


class _TimeIsUp(StoreUnavailable):
    """The stop's deadline has passed; nothing is wrong with the database."""


class Deliverer:
    """The thread `appstatsd-deliver`, and a second one that minds the deadlines of asks while an attempt hangs."""

    def __init__(
        self,
        outbox: Outbox,
        reporter: Reporter,
        *,
        batch_size: int,
        lanes: int = 1,
        busy: Callable[[], bool] = lambda: False,
        on_written: OnWritten,
        on_quarantined: OnQuarantined,
        wall_us: Callable[[], int],
        on_state: Callable[[DatabaseState], None] = lambda state: None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
        backoff: WaitBaseT = FULL_JITTER,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            outbox: What to deliver; changed by the one writer alone.
            reporter: Takes the rows.
            batch_size: How many rows one transaction takes at most.
            lanes: How many transactions are under way at once where much waits and nothing is wrong.
            busy: Whether the daemon has much else to do, so that one transaction at a time is enough.
            on_written: Called from the thread; the one writer must settle the rows, then call `kick`.
            on_quarantined: Called from the thread; the one writer must move the row, then call `kick`.
            wall_us: Microseconds since the Unix epoch.
            on_state: Told of each change of the database's state, from the thread that found it.
            clock: Seconds that never run back.
            wait: Waits for an event, so many seconds at most.
            backoff: How long to wait after a failed attempt: one of tenacity's waits.
        """
        self._outbox = outbox
        self._reporter = reporter
        self._on_written = on_written
        self._on_quarantined = on_quarantined
        self._wall_us = wall_us
        self._clock = clock
        self._wait = wait
        self._backoff = backoff
        self._log = structlog.get_logger("appstatsd.deliver")
        self._asks = Asks(outbox, clock)
        self._tally = Tally(on_state)
        # Used by the thread alone.
        self._busy = busy
        self._lanes = Lanes(lanes, self._send_in_lane)
        self._sifter = Sifter(outbox, batch_size, self._send, self._send_many, self._committed, self._blamed)
        self._trouble = TroubleLog(clock)
        self._catch_up_to = 0  # the serial up to which rows are written with pauses
        self._refused = False  # the last attempt failed because rows were refused: the database is there
        self._on_its_way = threading.Lock()
        # The lock protects what follows: who waits until nothing that was erased is on its way to the database.
        self._sending = False
        self._erased = False
        self._waiting: list[Callable[[], None]] = []
        # Set by any thread, cleared by this one when it begins an attempt.
        self._work = threading.Event()  # there may be something to do
        self._hurry = threading.Event()  # do it now
        self._stopping = threading.Event()
        self._stop_by_s = float("inf")
        self._thread = threading.Thread(target=self._run, name="appstatsd-deliver", daemon=True)
        self._watch = threading.Thread(target=self._asks.watch, name="appstatsd-deliver-asks", daemon=True)

    def start(self) -> None:
        """Begin, with what waits already."""
        self._catch_up_to = self._outbox.last_serial
        self._thread.start()
        self._watch.start()

    def kick(self) -> None:
        """The outbox changed."""
        self._asks.settle()
        self._work.set()

    def erased(self, none_on_its_way: Callable[[], None]) -> None:
        """Rows were erased from the outbox.

        `none_on_its_way` is called once, from any thread, when none of them is being written or ever will be.
        """
        with self._on_its_way:
            self._erased = True
            if self._sending:
                self._waiting.append(none_on_its_way)
                return
        none_on_its_way()

    def ask(self, up_to_stamp: int, deadline_s: float, answer: Answer, *, urgent: bool = True) -> None:
        """Answer when all that was added to the outbox up to this stamp is committed or in quarantine, or cannot be.

        Args:
            up_to_stamp: As `Outbox.add` returned it.
            deadline_s: When to answer at the latest, on this object's clock.
            answer: Called once, from any thread, even before this returns; it must not wait for anything.
            urgent: Whether to try at once, whatever the backoff, and without pauses.
        """
        self._asks.add(up_to_stamp, deadline_s, answer, urgent)
        if urgent:
            self._hurry.set()
        self._work.set()

    def idle(self) -> bool:
        """Whether nothing waits to be written."""
        return not len(self._outbox)

    def probed(self, error: StoreUnavailable | None) -> None:
        """Somebody asked, while nothing waited, whether rows could be written; None: yes."""
        if self.idle():
            self._tally.probed(error)

    def figures(self) -> Figures:
        """How things stand."""
        return self._tally.figures()

    def stop(self, deadline_s: float) -> bool:
        """Try once more to write what waits, until the deadline on this object's clock, and end.

        Returns:
            Whether the thread ended; one that hangs in the database dies with the process.
        """
        self._stop_by_s = deadline_s
        self._stopping.set()
        self._hurry.set()
        self._work.set()
        self._thread.join(max(0.0, deadline_s - self._clock()))
        self._asks.close(StoreUnavailable("the daemon stops; rows that were not written stay in the backlog"))
        self._watch.join()
        return not self._thread.is_alive()

    # What follows runs in the thread.

    def _run(self) -> None:
        while True:
            self._work.clear()
            if self._sifter.idle():
                if self._stopping.is_set():
                    return
                self._work.wait()
                continue
            try:
                self._retrying()(self._attempt)
            except StoreUnavailable:
                return  # it stops, and the last attempt failed
            except Exception as error:
                self._log.exception("The deliverer met an error of its own; it goes on after a pause")
                self._asks.failed(
                    StoreUnavailable(f"an error of the daemon's own, see its log: {error!r}"), self._asks.last
                )
                if self._stopping.is_set():
                    return
                self._wait(self._hurry, OWN_ERROR_PAUSE_SECONDS)

    def _retrying(self) -> Retrying:
        """One for each use, so that the backoff begins anew after a batch that went through."""
        return Retrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=self._backoff,
            sleep=self._back_off,
            stop=stop_when_event_set(self._stopping),
            reraise=True,
        )

    def _back_off(self, seconds: float) -> None:
        """New rows end it only where the database is there: they tell whether those refused are to blame."""
        self._wait(self._work if self._refused else self._hurry, seconds)

    def _attempt(self) -> None:
        """Send one batch, and pause after it where that is due."""
        self._work.clear()
        self._hurry.clear()
        if self._stopping.is_set():  # `stop` sets it first, so it cannot be missed
            self._hurry.set()
        joined = self._asks.last
        began_s = self._clock()
        try:
            with self._taking():
                self._sifter.step(1 if self._lanes.count == 1 or self._careful() else BATCHES_TOGETHER)
        except _TimeIsUp:
            raise
        except StoreUnavailable as error:
            self._refused = isinstance(error, OnlyRowRefused | TableRefuses)
            self._tally.failed(error)
            self._trouble.failed(error, len(self._outbox))
            self._asks.failed(error, joined)
            raise
        if self._catching_up():
            self._wait(self._hurry, self._clock() - began_s)

    def _careful(self) -> bool:
        """Whether the database, or whoever else works here, is to be spared, or the database may be gone."""
        return self._trouble.lasts or self._catching_up() or self._busy()

    def _catching_up(self) -> bool:
        return self._sifter.position < self._catch_up_to and not self._asks.urgent

    @contextlib.contextmanager
    def _taking(self) -> Iterator[None]:
        """Rows that were taken out of the outbox within are not sent any more afterwards."""
        with self._on_its_way:
            self._sending = True
            if self._erased:
                self._sifter.forget_witness()
            self._erased = False
        try:
            yield
        finally:
            with self._on_its_way:
                self._sending = False
                waiting, self._waiting = self._waiting, []
            for tell in waiting:
                tell()

    def _send_many(self, batches: Iterator[Waiting]) -> list[tuple[Waiting, Outcome]]:
        # Who erased rows waits for what is on its way, and not for what would follow it.
        return self._lanes.send(takewhile(lambda _: not self._erased, batches))

    def _send_in_lane(self, batch: Waiting) -> None:
        """From any of the lanes' threads."""
        self._report(batch.rows)
        self._committed(batch)

    def _report(self, rows: Rows) -> None:
        if self._clock() >= self._stop_by_s:
            raise _TimeIsUp("the daemon stops")
        try:
            self._reporter.report(rows)
        except RowsRefused as refusal:
            self._tally.refused(refusal)
            raise

    def _send(self, rows: Rows) -> None:
        self._report(rows)
        if self._trouble.over(len(self._outbox)):
            self._catch_up_to = self._outbox.last_serial
            self._asks.succeeded()

    def _committed(self, batch: Waiting) -> None:
        self._tally.committed(batch.rows, self._wall_us())
        self._on_written(batch.serials, batch.as_of_stamp)

    def _blamed(self, row: Waiting, refusal: RowsRefused) -> None:
        [serial] = row.serials.tolist()
        self._trouble.quarantined(row, refusal)
        self._on_quarantined(serial, row.as_of_stamp, refusal)
