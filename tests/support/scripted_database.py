"""A database that does what a test says, and a deliverer that writes to it without anybody waiting for real."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from appstatsd.collect.rows import Reporter, Rows
from appstatsd.deliver.asks import FlushOutcome
from appstatsd.deliver.deliverer import FULL_JITTER, Deliverer
from appstatsd.deliver.figures import DatabaseState
from appstatsd.deliver.outbox import Outbox
from appstatsd.deliver.quarantine import Quarantine
from appstatsd.deliver.segment import Int64s
from appstatsd.errors import RowsRefused, StoreUnavailable

from tests.support.waiting_rows import T0, sessions

PATIENCE_SECONDS = 30.0
GONE = StoreUnavailable("server closed the connection unexpectedly", "57P01", "start PostgreSQL")


class ScriptedDatabase:
    """A reporter that takes rows unless the script, or the set of bad sessions, says otherwise."""

    def __init__(self) -> None:
        self.script: list[Exception | Callable[[], object] | None] = []
        """For each attempt to come: what it raises, what it calls before it takes the rows, or nothing special."""
        self.down: StoreUnavailable | None = None
        """What attempts raise that the script says nothing of."""
        self.bad: set[int] = set()
        self.batches: list[list[int]] = []
        self.landed: list[int] = []
        self.attempts = 0
        self.attempted = threading.Semaphore(0)

    def report(self, rows: Rows) -> None:
        self.attempts += 1
        self.attempted.release()
        step = self.script.pop(0) if self.script else self.down
        if isinstance(step, Exception):
            raise step
        if step is not None:
            step()
        sent = sessions(rows)
        for each in sent:
            if each in self.bad:
                raise RowsRefused(f"row {each} is bad", "23514")
        self.batches.append(sent)
        self.landed += sent

    def wait_for_attempts(self, count: int) -> None:
        for _ in range(count):
            assert self.attempted.acquire(timeout=PATIENCE_SECONDS)


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Delivery:
    """A deliverer, its outbox and quarantine, and the one writer of both."""

    def __init__(
        self,
        batch_size: int = 10,
        *,
        lanes: int = 1,
        busy: bool = False,
        waits: bool = False,
        reporter: Reporter | None = None,
    ) -> None:
        self.database = ScriptedDatabase()
        self.outbox = Outbox(0)
        self.quarantine = Quarantine(0)
        self.clock = Clock()
        self.waits = waits
        """Whether waiting lasts until somebody ends it; else it is over at once."""
        self.waited: list[float] = []
        self.waits_for: threading.Event | None = None
        self.waiting = threading.Semaphore(0)
        self.states: list[DatabaseState] = []
        self.outcomes: queue.Queue[FlushOutcome] = queue.Queue()
        self.deliverer = Deliverer(
            self.outbox,
            reporter or self.database,
            batch_size=batch_size,
            lanes=lanes,
            busy=lambda: busy,
            on_written=self.written,
            on_quarantined=self.quarantined,
            wall_us=lambda: T0,
            on_state=self.states.append,
            clock=self.clock,
            wait=self.wait,
            backoff=FULL_JITTER,
        )

    def wait(self, event: threading.Event, seconds: float) -> None:
        self.waited.append(seconds)
        self.waits_for = event
        self.waiting.release()
        if self.waits:
            assert event.wait(PATIENCE_SECONDS)

    def wait_for_a_wait(self) -> None:
        assert self.waiting.acquire(timeout=PATIENCE_SECONDS)

    def written(self, serials: Int64s, stamp: int) -> None:
        self.outbox.settle(serials, stamp)
        self.deliverer.kick()

    def quarantined(self, serial: int, stamp: int, refusal: RowsRefused) -> None:
        self.quarantine.put(self.outbox.take_out(serial, stamp), refusal.message, refusal.sqlstate, T0)
        self.deliverer.kick()

    def add(self, rows: Rows) -> int:
        stamp = self.outbox.add(rows)
        self.deliverer.kick()
        return stamp

    def ask(self, stamp: int, seconds: float = 1e6, *, urgent: bool = True) -> None:
        self.deliverer.ask(stamp, self.clock() + seconds, self.outcomes.put, urgent=urgent)

    def outcome(self) -> FlushOutcome:
        return self.outcomes.get(timeout=PATIENCE_SECONDS)

    def flush(self, rows: Rows) -> FlushOutcome:
        """Add rows, ask, and wait for the answer."""
        self.ask(self.add(rows))
        return self.outcome()

    def stop(self, seconds: float = PATIENCE_SECONDS) -> bool:
        return self.deliverer.stop(self.clock() + seconds)

    @contextmanager
    def running(self) -> Iterator[None]:
        self.deliverer.start()
        try:
            yield
        finally:
            assert self.stop()
