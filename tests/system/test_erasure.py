"""A person is erased: from a real daemon's memory and state directory, and from a real PostgreSQL."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
from appstatsd.collect.batch import ReportedApp
from appstatsd.store.migrate import migrate

from tests.support.daemon import COMMAND, DaemonProcess, eventually
from tests.support.postgres import PostgresServer
from tests.support.raw_client import Client, fresh, now_us
from tests.support.reports import HOUR, MINUTE, SECOND, Report, app, report
from tests.support.table import last_used, rows
from tests.system.conftest import NewDaemon

JOURNAL = ("--durability=journal", "--report-interval=1h")


def an_app() -> ReportedApp:
    """An app of a person whose id is seen nowhere by chance."""
    [number] = fresh()
    return replace(app(number), user_id=uuid4().bytes)


def reports(of: ReportedApp, ago: int = HOUR) -> list[Report]:
    """A live session, a long one and two short ones."""
    start = now_us() - ago
    return [
        report(fresh()[0], start, of=of),
        report(fresh()[0], start, start + 10 * MINUTE, of=of),
        *(report(fresh()[0], start, start + SECOND, of=of) for _ in range(2)),
    ]


def users(url: str) -> set[bytes]:
    return {row.user_id for row in rows(url).values()}


def files_with(folder: Path, text: bytes) -> list[str]:
    """The files in which these bytes stand."""
    return [path.name for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]


def waiting_for_a_lock(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
    assert row is not None
    return int(row[0])


def test_nothing_of_a_person_is_left_anywhere_and_nobody_else_loses_anything(
    new_daemon: NewDaemon, database_url: str
) -> None:
    ann, bob = an_app(), an_app()
    daemon = new_daemon(database_url, *JOURNAL)
    daemon.start()
    state = daemon.folder / "state"
    with Client(daemon.target) as client:
        client.report(*reports(ann), *reports(bob))
        daemon.flush()
        client.report(*reports(ann), *reports(bob))
        before, used = rows(database_url), last_used(database_url)
        assert files_with(state, ann.user_id)

        there_is = daemon.forget(ann.user_id, dry_run=True)
        assert rows(database_url) == before
        erased = daemon.forget(ann.user_id)

        assert (erased.live_sessions, erased.ended_sessions, erased.database_rows) == (2, 6, 3)
        assert there_is == erased
        assert rows(database_url) == {key: row for key, row in before.items() if row.user_id == bob.user_id}
        assert last_used(database_url) == used
        assert files_with(state, ann.user_id) == []
        assert files_with(state, bob.user_id)
        daemon.kill()
        daemon.start()
        daemon.flush()
    assert users(database_url) == {bob.user_id}
    assert len(rows(database_url)) >= 4
    assert daemon.status().live_sessions == 2


def test_it_is_forgotten_without_a_journal_too(new_daemon: NewDaemon, database_url: str) -> None:
    ann = an_app()
    daemon = new_daemon(database_url, "--report-interval=1h")
    daemon.start()
    with Client(daemon.target) as client:
        client.report(*reports(ann))
        assert daemon.forget(ann.user_id).live_sessions == 1
        daemon.flush()
    assert rows(database_url) == {}


def test_a_session_that_is_reported_afterwards_makes_a_new_row(new_daemon: NewDaemon, database_url: str) -> None:
    ann = an_app()
    daemon = new_daemon(database_url, *JOURNAL)
    daemon.start()
    live = reports(ann)[0]
    with Client(daemon.target) as client:
        client.report(live)
        daemon.flush()
        assert daemon.forget(ann.user_id).database_rows == 1
        daemon.flush()
        assert rows(database_url) == {}
        assert client.report(replace(live, requests=7)) == []
        daemon.flush()
    [row] = rows(database_url).values()
    assert (row.session_id, row.requests) == (live.session_id, 7)


def test_rows_that_are_being_written_at_that_moment_do_not_stay(new_daemon: NewDaemon, database_url: str) -> None:
    ann = an_app()
    daemon = new_daemon(database_url, *JOURNAL)
    daemon.start()
    with Client(daemon.target) as client, psycopg.connect(database_url) as other:
        client.report(*reports(ann))
        other.execute("LOCK TABLE workspace_app_stats IN EXCLUSIVE MODE")
        with subprocess.Popen([COMMAND, "flush", f"--listen=unix:{daemon.socket}"], stdout=subprocess.DEVNULL):
            eventually(lambda: waiting_for_a_lock(database_url), lambda count: count > 0)
            with subprocess.Popen(
                [COMMAND, "forget", f"--listen=unix:{daemon.socket}", "--yes", "--user", str(UUID(bytes=ann.user_id))],
                stdout=subprocess.PIPE,
                text=True,
            ) as forgetting:
                eventually(lambda: daemon.status().live_sessions, lambda count: count == 0)
                other.rollback()
                out, _ = forgetting.communicate(timeout=60)
    assert forgetting.returncode == 0
    assert "erased: 3 rows in the backlog, 0 in quarantine" in out
    assert "erased: 3 rows in the database" in out
    assert rows(database_url) == {}


def test_while_the_database_is_away_the_daemon_forgets_and_says_to_come_again(
    new_daemon: NewDaemon, new_postgres: Callable[[], PostgresServer]
) -> None:
    server = new_postgres()
    migrate(server.url())
    ann = an_app()
    daemon = new_daemon(server.url(), *JOURNAL)
    daemon.start()
    with Client(daemon.target) as client:
        client.report(*reports(ann))
        daemon.flush()
        client.report(*reports(ann))
        server.stop()
        with pytest.raises(grpc.RpcError):
            daemon.flush()
        erased = daemon.forget(ann.user_id)
        assert (erased.live_sessions, erased.database_rows) == (2, 0)
        assert erased.backlog_rows > 0
        assert "refused" in erased.database_error or "No such file" in erased.database_error
        assert daemon.status().backlog_rows == 0
        assert files_with(daemon.folder / "state", ann.user_id) == []
        server.start()
        daemon.flush()
        assert len(rows(server.url())) == 3
        assert daemon.forget(ann.user_id).database_rows == 3
    assert rows(server.url()) == {}


def test_the_log_does_not_say_who_it_was(new_daemon: NewDaemon, database_url: str) -> None:
    ann = an_app()
    daemon = new_daemon(database_url, *JOURNAL)
    daemon.start()
    with Client(daemon.target) as client:
        client.report(*reports(ann))
        daemon.flush()
        daemon.forget(ann.user_id)
    event = daemon.wait_for_event("A person was erased")
    assert (event["sessions"], event["database_rows"]) == (4, 3)
    assert str(UUID(bytes=ann.user_id)) not in str(daemon.log)


@pytest.mark.parametrize("user_id", [b"", bytes(16), b"x" * 15, b"x" * 17])
def test_whoever_is_no_uuid_is_refused(service_daemon: DaemonProcess, user_id: bytes) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        service_daemon.forget(user_id)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "expected a UUID" in caught.value.details()


@pytest.fixture(scope="module")
def service_daemon(module_daemons: NewDaemon) -> DaemonProcess:
    """A daemon that needs no database."""
    daemon = module_daemons("postgresql://nobody@127.0.0.1:1/none", "--report-interval=1h")
    daemon.start()
    return daemon
