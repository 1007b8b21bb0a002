"""What was erased is on the disk no longer, whatever else was being written there, and whatever came between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from appstatsd.clock import SystemClock
from appstatsd.collect.batch import ReportedApp
from appstatsd.collect.rules import Rules
from appstatsd.durable import DurableLog, recover_ledger
from appstatsd.events import Came, Event, Flushed, Forgotten, Received
from appstatsd.journal.damage import SET_ASIDE, OnDamage
from appstatsd.journal.files import DiskFiles
from appstatsd.journal.segments import Journal
from appstatsd.ledger import Ledger

from tests.support.raw_client import request
from tests.support.reports import T0, report

PATIENCE_SECONDS = 30.0
ANN = ReportedApp(uuid4().bytes, uuid4().bytes, uuid4().bytes, 1, "code")
BOB = ReportedApp(uuid4().bytes, uuid4().bytes, uuid4().bytes, 1, "code")


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Ledger, DurableLog]]:
    """A state directory as a daemon opens it; left as it is when it dies."""
    ledger, log = recover_ledger(
        DiskFiles(folder),
        Rules(),
        SystemClock(),
        on_damage=OnDamage.STOP,
        max_bytes=1 << 30,
        progress=lambda done, total: None,
    )
    try:
        yield ledger, log
    finally:
        log.close()


def happens(ledger: Ledger, log: DurableLog, *events: Event) -> None:
    log.append(list(events))
    ledger.apply_all(list(events))


def both_report(ledger: Ledger, log: DurableLog) -> None:
    message = request(1, [report(1, of=ANN), report(2, T0, T0 + 1, of=ANN), report(3, of=BOB)])
    happens(
        ledger,
        log,
        Came(1, "c", T0, 0),
        Received(1, "c", message.SerializeToString(), T0, 0),
        Flushed(T0, T0, 0),
    )


def files_with(folder: Path, user_id: bytes) -> list[str]:
    return [path.name for path in folder.iterdir() if user_id in path.read_bytes()]


def test_nothing_of_it_is_on_the_disk_once_that_is_said(tmp_path: Path) -> None:
    gone = threading.Event()
    with opened(tmp_path) as (ledger, log):
        both_report(ledger, log)
        assert files_with(tmp_path, ANN.user_id)
        happens(ledger, log, Forgotten(ANN.user_id, T0))
        log.purge(gone.set, lambda: None)
        log.applied(ledger)
        assert gone.wait(PATIENCE_SECONDS)
        assert files_with(tmp_path, ANN.user_id) == []
        assert files_with(tmp_path, BOB.user_id)


def test_a_daemon_that_dies_after_the_event_forgets_at_its_next_start(tmp_path: Path) -> None:
    with opened(tmp_path) as (ledger, log):
        both_report(ledger, log)
        log.append([Forgotten(ANN.user_id, T0)])
    assert files_with(tmp_path, ANN.user_id)

    with opened(tmp_path) as (ledger, log):
        assert ledger.held(ANN.user_id) == Ledger(Rules()).held(ANN.user_id)
        assert ledger.collector.sessions == 1
        log.applied(ledger)
    assert files_with(tmp_path, ANN.user_id) == []
    with opened(tmp_path) as (ledger, _):
        assert ledger.collector.person(BOB.user_id).live_sessions == 1


def test_a_snapshot_that_was_begun_before_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, again, gone = threading.Event(), threading.Event(), threading.Event(), threading.Event()
    whole: Callable[..., None] = Journal.write_snapshot

    def slowly(*arguments: object) -> None:
        begun.set()
        assert go_on.wait(PATIENCE_SECONDS)
        whole(*arguments)

    monkeypatch.setattr(Journal, "write_snapshot", slowly)
    with opened(tmp_path) as (ledger, log):
        both_report(ledger, log)
        log.purge(lambda: None, lambda: None)
        log.applied(ledger)
        assert begun.wait(PATIENCE_SECONDS)
        happens(ledger, log, Forgotten(ANN.user_id, T0))
        log.purge(gone.set, again.set)
        log.applied(ledger)
        go_on.set()
        assert again.wait(PATIENCE_SECONDS)
        assert not gone.is_set()
        assert files_with(tmp_path, ANN.user_id)
        log.applied(ledger)
        assert gone.wait(PATIENCE_SECONDS)
        assert files_with(tmp_path, ANN.user_id) == []


def test_files_that_a_damage_left_are_named(tmp_path: Path) -> None:
    (tmp_path / f"journal-1{SET_ASIDE}20260102T030405Z").write_bytes(ANN.user_id)
    with opened(tmp_path) as (_, log):
        assert log.set_aside() == [f"journal-1{SET_ASIDE}20260102T030405Z"]
