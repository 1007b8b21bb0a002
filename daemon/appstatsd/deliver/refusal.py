"""Which rows are sent next, and who is to blame where the database refuses what is in them: a row, or the table?

A refused batch is cut up until rows are refused alone. Such a row is a *suspect*: it goes behind all others. It is to
blame, and goes to quarantine, when another row has been committed after that and it is refused alone once more. One
refusal is not enough: a constraint that refuses everything, and is there for a moment only, would cost rows that have
nothing wrong with them.

Where nothing else waits, the row that was committed last, if that was in the same pass, is sent once more as a *witness*.
It can do no harm: nothing was written after it, and a row that is written twice is as good as written once.

Invariant: without a commit nothing is quarantined. And where everything is refused the search ends soon: after a number of
refusals without a commit the witness, or a few rows from all over the outbox, are tried. When these are refused too,
the table is taken to be wrong until the next attempt; that one tries others, since suspects are left out. A pass lasts
while there is something to send and nothing goes wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from appstatsd.collect.apps import AGENT, USER, WORKSPACE
from appstatsd.collect.rows import Rows
from appstatsd.deliver.lanes import Outcome
from appstatsd.deliver.outbox import Outbox, Waiting
from appstatsd.deliver.segment import Places
from appstatsd.errors import RowsRefused, StoreUnavailable

PATIENCE: Final = 8
"""Refusals without a commit, beside those that it takes to come down to one row, before others are tried."""

PROBES: Final = 8
"""How many others are tried."""

FEW: Final = 8
"""Parts of so many rows are cut into single ones: halving would save little with one bad row, and cost with more."""

_UUID: Final = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class TableRefuses(StoreUnavailable):
    """Two or more rows wait, and the database refuses each that was tried: it is the table that is wrong."""

    def __init__(self, refusal: RowsRefused, waiting: int) -> None:
        super().__init__(
            f"the table refuses every row that was tried, {waiting} wait: {refusal.message}",
            refusal.sqlstate,
            "nothing is quarantined; change what refuses them (a constraint, a trigger, a column), "
            "and they are written without further ado",
        )


class OnlyRowRefused(StoreUnavailable):
    """The only row that waits is refused. Whether the row or the table is wrong shows when the next one comes."""

    def __init__(self, refusal: RowsRefused) -> None:
        super().__init__(
            f"the only row that waits is refused: {refusal.message}",
            refusal.sqlstate,
            "it goes to quarantine when another row has been committed and it is refused again",
        )


@dataclass(frozen=True, slots=True)
class _Suspicion:
    when: int
    """The pass in which the row was refused."""
    commits: int
    """How many commits there had been by then."""


class Sifter:
    """Sends the rows of an outbox in their order, and sifts out those that are refused.

    Used by one thread. It remembers how far it has come, so no row is sent twice because the outbox has not heard yet.
    """

    def __init__(
        self,
        outbox: Outbox,
        batch_size: int,
        send: Callable[[Rows], None],
        send_many: Callable[[Iterator[Waiting]], list[tuple[Waiting, Outcome]]],
        committed: Callable[[Waiting], None],
        blamed: Callable[[Waiting, RowsRefused], None],
    ) -> None:
        self._outbox = outbox
        self._batch_size = batch_size
        self._send = send
        """Commits rows, or raises RowsRefused or StoreUnavailable."""
        self._send_many = send_many
        """Commits batches, some at once, or says of each why not; whoever is to hear of a commit has heard."""
        self._committed = committed
        """Hears of rows that were committed by `send`."""
        self._blamed = blamed
        """Hears of one row that is to be quarantined."""
        self.position = 0
        """All rows up to this serial have been sent, and are suspects where they were not committed."""
        self._suspects: dict[int, _Suspicion] = {}  # by serial
        self._commits = 0
        self._refusals = 0  # since the last commit or quarantined row
        self._last_refusal = RowsRefused("")
        self._pass = 0
        self._witness: Rows | None = None  # committed last, in this pass

    def idle(self) -> bool:
        """Whether there is nothing to send."""
        return not self._suspects and not self._unsent()

    def step(self, batches: int = 1) -> None:
        """Send one batch, or up to so many where nobody is under suspicion, and search those that are refused.

        Raises:
            TableRefuses: nothing that was tried lately was committed; some of the batch may not have been tried.
            OnlyRowRefused: nothing else waits.
            StoreUnavailable: as it came from the database; some of the batch may have been committed.
        """
        self._drop_gone()
        try:
            due = self._due()[: self._batch_size]
            batch = self._outbox.peek(self._batch_size, self.position, self._suspects)
            if len(due) == self._batch_size or not len(batch):
                self._try_again(due)
            elif batches > 1 and len(batch) == self._batch_size and not self._suspects:
                self._send_together(batch, batches)
            else:
                self._sift(batch, len(batch))
                self.position = int(batch.serials[-1])
            if self._stuck() and not self._witnessed():
                raise self._all_refused()
        except StoreUnavailable:
            self._end_pass()
            if self._stuck():
                self._begin_anew()
            raise
        if self.idle():
            self._end_pass()

    def forget_witness(self) -> None:
        """Rows were erased: the one that was committed last may be among them, and must not be written again."""
        self._witness = None

    def _drop_gone(self) -> None:
        """Suspects that do not wait any more: erased, or the outbox has heard by now that they had been committed."""
        if self._suspects:
            waiting = self._outbox.pick(self._suspects).serials.tolist()
            self._suspects = {serial: self._suspects[serial] for serial in waiting}

    def _unsent(self) -> bool:
        return len(self._outbox.peek(1, self.position, self._suspects)) > 0

    def _due(self) -> list[int]:
        """The suspects since whose refusal another row was committed."""
        return sorted(serial for serial, each in self._suspects.items() if each.commits < self._commits)

    def _stuck(self) -> bool:
        """Whether nothing is left but suspects of which no commit says whether they are to blame."""
        return bool(self._suspects) and not self._due() and not self._unsent()

    def _all_refused(self) -> StoreUnavailable:
        waiting = len(self._outbox)
        return TableRefuses(self._last_refusal, waiting) if waiting > 1 else OnlyRowRefused(self._last_refusal)

    def _end_pass(self) -> None:
        self._pass += 1
        self._witness = None

    def _begin_anew(self) -> None:
        """Send the suspects as if they were new, for the table may have been put right; and others of them first."""
        self.position = min(self.position, min(self._suspects) - 1)
        self._suspects.clear()

    def _try_again(self, due: list[int]) -> None:
        """Try suspects again: each alone, or together first where the table may have been put right meanwhile."""
        batch = self._outbox.pick(due)
        for gone in set(due).difference(batch.serials.tolist()):
            del self._suspects[gone]  # erased since this step began
        if len(batch):
            of_this_pass = any(self._suspects[serial].when == self._pass for serial in due if serial in self._suspects)
            self._sift(batch, 1 if of_this_pass else len(batch))

    def _send_together(self, first: Waiting, most: int) -> None:
        sent = self._send_many(self._from(first, most))
        for batch, outcome in sent:
            if outcome is None:
                self._took(batch.rows)
        for batch, outcome in sent:
            if isinstance(outcome, RowsRefused):
                self._sift(batch, len(batch))
            elif outcome is not None:
                raise outcome
            self.position = int(batch.serials[-1])

    def _from(self, batch: Waiting, most: int) -> Iterator[Waiting]:
        """This batch and those behind it."""
        yield batch
        for _ in range(most - 1):
            batch = self._outbox.peek(self._batch_size, int(batch.serials[-1]))
            if not len(batch):
                return
            yield batch

    def _sift(self, batch: Waiting, size: int) -> None:
        """Send a batch in parts of this size, and what is refused in smaller ones."""
        patience = PATIENCE + len(batch).bit_length()
        parts = _cut(batch, size)
        while parts:
            if self._refusals >= patience and not self._witnessed():
                self._probe(int(batch.serials[0]) - 1)
            part = parts.pop()
            if self._try(part.rows):
                self._committed(part)
                if self._suspects:
                    for serial in part.serials.tolist():
                        self._suspects.pop(serial, None)
            elif len(part) > 1:
                parts += _smaller(part, self._last_refusal.message)
            else:
                self._refused_alone(part)

    def _probe(self, after_serial: int) -> None:
        """Try rows from all over the outbox, the newest first, until one is committed.

        That one is sent again in its turn, so nobody is told.
        """
        if self._witness is None:
            sample = self._outbox.sample(PROBES, after_serial, self._suspects)
            for place in range(len(sample) - 1, -1, -1):
                row = sample[place : place + 1]
                if self._try(row.rows):
                    return
                self._refused_alone(row)
        raise self._all_refused()

    def _witnessed(self) -> bool:
        """Whether there is a witness and the database still takes it."""
        return self._witness is not None and self._try(self._witness)

    def _try(self, rows: Rows) -> bool:
        """Whether these rows were committed; else the content of one of them was refused."""
        try:
            self._send(rows)
        except RowsRefused as refusal:
            self._refusals += 1
            self._last_refusal = refusal
            return False
        self._took(rows)
        return True

    def _took(self, rows: Rows) -> None:
        """The database did."""
        self._refusals = 0
        self._commits += 1
        self._witness = rows.take(np.array([0]))

    def _refused_alone(self, row: Waiting) -> None:
        [serial] = row.serials.tolist()
        known = self._suspects.get(serial)
        if known is not None and known.commits < self._commits:
            del self._suspects[serial]
            self._refusals = 0
            self._blamed(row, self._last_refusal)
        else:
            self._suspects[serial] = _Suspicion(self._pass, self._commits)


def _smaller(part: Waiting, message: str) -> list[Waiting]:
    """Parts of a refused part, to be taken from the end: rows that the message names, then halves of the others.

    PostgreSQL nearly always names the row, or whom it belongs to. That it does is a matter of speed alone.
    """
    if len(part) <= FEW:
        return _cut(part, 1)
    named = _named(part.rows, message)
    others = np.setdiff1d(np.arange(len(part)), named)
    if not len(named) or not len(others):
        return _cut(part, len(part) // 2)
    return _cut(part.take(others), (len(others) + 1) // 2) + _cut(part.take(named), len(named))


def _named(rows: Rows, message: str) -> Places:
    """The rows whose session stands in the message, or else those whose user, workspace or agent does."""
    ids = {bytes.fromhex(text.replace("-", "")) for text in _UUID.findall(message)}
    if not ids:
        return np.empty(0, np.intp)
    sessions = rows.cells["session_id"].tolist()
    named = [place for place, session_id in enumerate(sessions) if session_id in ids]
    if not named:
        named = [
            place for place, key in enumerate(rows.apps) if not ids.isdisjoint((key[USER], key[WORKSPACE], key[AGENT]))
        ]
    return np.array(named, np.intp)


def _cut(batch: Waiting, size: int) -> list[Waiting]:
    """Parts of at most this size, the first one last."""
    return [batch[begin : begin + size] for begin in range(0, len(batch), size)][::-1]
