"""How does the ledger survive a crash?

Every event is in the journal before it is applied, and from time to time the whole ledger goes into a snapshot, so that
there is never much to replay. Invariant: snapshot and tail give the ledger back that was acknowledged from.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy.typing as npt
import structlog

from appstatsd.clock import Clock
from appstatsd.collect.rules import Rules
from appstatsd.events import Event, Forgotten
from appstatsd.journal.damage import OnDamage, describe
from appstatsd.journal.errors import JournalFailed, JournalVersion
from appstatsd.journal.files import Files
from appstatsd.journal.layout import Mark
from appstatsd.journal.reader import Progress
from appstatsd.journal.recover import recover
from appstatsd.journal.segments import Journal
from appstatsd.ledger import Ledger
from appstatsd.records import FORMAT, decode_record, encode_record

MIN_TAIL_BYTES: Final = 32 << 20
"""A snapshot is not worth its cost for less than this to replay, about a second's work."""
MIN_TAIL_SHARE: Final = 16
"""Unless that is more than one part in so many of the state directory."""


def recover_ledger(
    files: Files, rules: Rules, clock: Clock, *, on_damage: OnDamage, max_bytes: int, progress: Progress
) -> tuple[Ledger, DurableLog]:
    """The ledger as it was acknowledged from, and the log that goes on with it.

    Args:
        files: The state directory.
        rules: What the ledger begins with where there is none yet.
        clock: The daemon's clocks.
        on_damage: What to do where the journal can't be read.
        max_bytes: How large the state directory may get.
        progress: Is told the bytes read so far, and of how many.

    Raises:
        AppstatsdError: the state directory can't be used; the text says why and what to do.
    """
    logger = structlog.get_logger("appstatsd.journal")
    recovery = recover(files, on_damage, clock.wall_us() / 1_000_000, progress)
    try:
        ledger = Ledger(rules)
        if recovery.snapshot is not None:
            _check_format(recovery.snapshot.meta)
            ledger = Ledger.from_snapshot(recovery.snapshot.arrays, recovery.snapshot.meta)
        lost = units = 0
        forgotten = False
        for unit in recovery.units():
            if len(recovery.damages) > lost:
                lost = len(recovery.damages)
                ledger.lost_events()
            events = [decode_record(record) for record in unit]
            ledger.apply_all(events)
            forgotten = forgotten or any(isinstance(event, Forgotten) for event in events)
            units += 1
        if len(recovery.damages) > lost:
            ledger.lost_events()  # found behind the last unit
        journal = recovery.start(lambda: random.SystemRandom().getrandbits(64), max_bytes)
    except BaseException:
        recovery.close()
        raise
    if recovery.torn is not None:
        logger.warning(
            "The journal's last unit was torn and is cut; nothing acknowledged was in it", torn=str(recovery.torn)
        )
    for damage in recovery.damages:
        logger.error(
            "The journal is damaged; what is whole was kept, the file is set aside",
            damage=str(damage),
            what_to_do="look into the disk's health, then run: appstatsd journal acknowledge",
        )
    if recovery.snapshot is not None or units:
        logger.info("Recovered", sessions=ledger.collector.sessions, backlog_rows=len(ledger.outbox), units=units)
    # Whoever was forgotten shortly before a crash may still stand in what was read.
    return ledger, DurableLog(journal, max_bytes, snapshot_now=forgotten or bool(recovery.damages))


def _check_format(meta: Mapping[str, Any]) -> None:
    if meta.get("format") != FORMAT:
        raise JournalVersion(
            f"the snapshot is of format {meta.get('format')}, and this version reads {FORMAT}; start the version of "
            "appstatsd that wrote it, stop it once its backlog is empty, and begin with an empty state directory"
        )


class DurableLog:
    """The event log of `--durability=journal`; used by the drain's thread alone, but for the figures."""

    def __init__(self, journal: Journal, max_bytes: int, *, snapshot_now: bool) -> None:
        self._journal = journal
        self._min_tail_bytes = min(MIN_TAIL_BYTES, max_bytes // MIN_TAIL_SHARE)
        self._snapshot_now = snapshot_now
        self._snapshot_bytes = 0
        self._writer: threading.Thread | None = None
        self._writing_lock = threading.Lock()
        # The lock protects what follows: a snapshot's thread looks at it when it is done.
        self._writing = False
        self._purges: list[tuple[Callable[[], None], Callable[[], None]]] = []
        self._logger = structlog.get_logger("appstatsd.journal")

    def append(self, events: list[Event]) -> None:
        """See `EventLog`."""
        if events:
            self._journal.append([encode_record(event) for event in events])

    def applied(self, ledger: Ledger) -> None:
        """See `EventLog`; begins a snapshot where one is due."""
        large = self._journal.tail_bytes > max(self._min_tail_bytes, self._snapshot_bytes)
        if not (large or self._snapshot_now or self._purges):
            return
        with self._writing_lock:
            if self._writing:
                return
            self._writing = True
            purges, self._purges = self._purges, []
        self._snapshot_now = False
        arrays, meta = ledger.to_snapshot()
        self._snapshot_bytes = sum(array.nbytes for array in arrays.values())
        # A thread of its own, so that nobody's acknowledgement waits for the disk to take it all.
        self._writer = threading.Thread(
            target=self._write,
            args=(self._journal.rotate(), arrays, {**meta, "format": FORMAT}, [gone for gone, _ in purges]),
            name="snapshot",
        )
        self._writer.start()

    def purge(self, gone: Callable[[], None], again: Callable[[], None]) -> None:
        """See `EventLog`; a snapshot of what is held after this takes the place of all that is there."""
        with self._writing_lock:
            self._purges.append((gone, again))

    def set_aside(self) -> list[str]:
        """See `EventLog`."""
        return self._journal.set_aside()

    def room(self, batch_bytes: int, ledger: Ledger) -> bool:
        """See `EventLog`; makes room by a snapshot where there is too little."""
        if self._journal.room(batch_bytes, ledger.approximate_bytes()):
            return True
        self._snapshot_now = self._journal.tail_bytes > self._snapshot_bytes // 4
        return False

    @property
    def bytes_on_disk(self) -> int:
        """What the journal and its snapshot take."""
        return self._journal.bytes_on_disk

    def damage(self) -> str:
        """What was found damaged and not acknowledged; empty where there is none."""
        return describe(self._journal.damage())

    def close(self) -> None:
        """Let a snapshot that is being written become whole, and give the state directory up."""
        if self._writer is not None:
            self._writer.join()
        self._journal.close()

    def _write(
        self, mark: Mark, arrays: dict[str, npt.NDArray[Any]], meta: dict[str, Any], purges: list[Callable[[], None]]
    ) -> None:
        try:
            self._journal.write_snapshot(mark, arrays, meta)
        except JournalFailed as failure:
            # The journal takes nothing more from now on, so the drain ends the daemon with its next event.
            self._logger.critical("A snapshot could not be written", error=str(failure))
            return
        with self._writing_lock:
            self._writing = False
            waiting = [again for _, again in self._purges]
        for tell in (*purges, *waiting):
            tell()
