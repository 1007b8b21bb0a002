"""How are several batches written at the same time?

A server works on one transaction of a connection at a time, so over one connection it does what one of its cores can do,
less the time that we need between two of them. So a few threads, the caller's among them, each take the next batch when
they have written one. Invariant: when `send` returns nothing is on its way any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from appstatsd.deliver.outbox import Waiting
from appstatsd.errors import RowsRefused, StoreUnavailable

Outcome = RowsRefused | StoreUnavailable | None
"""Why a batch was not committed; None: it was."""


class Lanes:
    """Sends batches over so many connections at once; used by one thread."""

    def __init__(self, count: int, send: Callable[[Waiting], None]) -> None:
        """Prepare.

        Args:
            count: How many batches may be on their way at once, at least 1.
            send: Commits a batch, or raises RowsRefused or StoreUnavailable; called from any of the threads.
        """
        self.count = count
        self._send = send

    def send(self, batches: Iterator[Waiting]) -> list[tuple[Waiting, Outcome]]:
        """Send batches until there are no more, or one is not committed.

        Args:
            batches: Is asked for the next one by any of the threads, never by two at once.

        Returns:
            Those that it gave, in order, each with what became of it.
        """
        run = _Run(batches, self._send)
        # The daemon need not wait for one that hangs in the database when it ends.
        others = [
            threading.Thread(target=run.work, name=f"appstatsd-deliver-{lane}", daemon=True)
            for lane in range(2, self.count + 1)
        ]
        for thread in others:
            thread.start()
        run.work()
        for thread in others:
            thread.join()
        if run.failure is not None:
            raise run.failure
        return run.sent


class _Run:
    """One call of `Lanes.send`."""

    def __init__(self, batches: Iterator[Waiting], send: Callable[[Waiting], None]) -> None:
        self._batches = batches
        self._send = send
        self._lock = threading.Lock()
        # The lock protects all that follows while threads work.
        self._over = False
        self.sent: list[tuple[Waiting, Outcome]] = []
        self.failure: Exception | None = None
        """An error that nobody foresaw."""

    def work(self) -> None:
        """Send one batch after another."""
        try:
            while self._work():
                pass
        except Exception as failure:  # the thread's outermost loop; `send` raises it where somebody hears
            with self._lock:
                self._over, self.failure = True, failure

    def _work(self) -> bool:
        with self._lock:
            # All end together when one finds nothing to do, so that all begin together when there is more.
            batch = None if self._over else next(self._batches, None)
            if batch is None:
                self._over = True
                return False
            place = len(self.sent)
            self.sent.append((batch, None))
        try:
            self._send(batch)
        except (RowsRefused, StoreUnavailable) as error:
            with self._lock:
                self.sent[place] = batch, error
                self._over = True
        return True
