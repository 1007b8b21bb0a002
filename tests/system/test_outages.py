"""The database goes away, refuses a row, loses its tables: every session is in the table in the end, once."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from uuid import UUID

import grpc
import psycopg
import pytest
from appstatsd.collect.batch import ReportedApp
from appstatsd.collect.rows import EndSource
from appstatsd.store.migrate import migrate
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

from tests.support.daemon import DaemonProcess, eventually
from tests.support.postgres import PostgresServer
from tests.support.raw_client import Client, fresh, in_batches, now_us
from tests.support.reports import HOUR, MINUTE, Report, Row, app, report
from tests.support.table import last_used, rows
from tests.system.conftest import NewDaemon

WINDOW = MINUTE


@dataclass(frozen=True)
class Expected:
    """What the table must hold after these sessions have ended, worked out from the sessions alone."""

    rolled_up: dict[tuple[ReportedApp, int], tuple[int, int]]
    """By app and window, the requests and the sessions."""
    own: dict[bytes, tuple[int, int, int]]
    """By session, start, end and requests."""

    @classmethod
    def after(cls, sessions: Sequence[Report]) -> Expected:
        requests: Counter[tuple[ReportedApp, int]] = Counter()
        counted: Counter[tuple[ReportedApp, int]] = Counter()
        own = {}
        for one in sessions:
            start, end = one.started_ns // 1000, one.ended_ns // 1000
            if end - start > WINDOW:
                own[one.session_id] = start, end, one.requests
            else:
                key = one.app, start // WINDOW * WINDOW
                requests[key] += one.requests
                counted[key] += 1
        return cls({key: (requests[key], counted[key]) for key in requests}, own)

    @classmethod
    def found(cls, table: Sequence[Row], long_ones: set[bytes]) -> Expected:
        rolled_up, own = {}, {}
        for row in table:
            assert row.end_source is EndSource.REPORTED
            if row.session_id in long_ones:
                assert row.sessions == 1
                own[row.session_id] = row.started, row.ended, row.requests
                continue
            what = ReportedApp(row.user_id, row.workspace_id, row.agent_id, row.access_method, row.slug_or_port)
            assert row.ended == row.started + WINDOW
            assert (what, row.started) not in rolled_up, "a group has two rows"
            rolled_up[what, row.started] = row.requests, row.sessions
        return cls(rolled_up, own)


def sessions_of(number: int, count: int, apps: int, seed: int) -> list[Report]:
    """Sessions of the last hour: nine of ten short, the others long."""
    dice = random.Random(seed)
    now = now_us()
    made = []
    for place in range(count):
        length = dice.randrange(WINDOW + 1) if dice.random() < 0.9 else dice.randrange(WINDOW + 1, 20 * MINUTE)
        start = now - HOUR + dice.randrange(30 * MINUTE)
        what = app(number * 1_000 + dice.randrange(apps))
        made.append(report(number * 1_000_000 + place, start, start + length, dice.randrange(1, 50), of=what))
    return made


def is_long(one: Report) -> bool:
    return one.ended_ns // 1000 - one.started_ns // 1000 > WINDOW


def told(sessions: Sequence[Report], dice: random.Random) -> Iterator[Report]:
    """What is reported of them: the long ones are first reported live, a good while before their end."""
    ends: list[Report] = []
    for one in sessions:
        if is_long(one):
            yield replace(one, ended_ns=0, requests=1)
            ends.append(one)
        else:
            yield one
        while len(ends) > 2_000 or (ends and dice.random() < 0.05):
            yield ends.pop(dice.randrange(len(ends)))
    yield from ends


def test_sums_are_exactly_right_when_the_database_stops_in_the_middle_of_100000_sessions_and_comes_back(
    new_daemon: NewDaemon, new_postgres: Callable[[], PostgresServer]
) -> None:
    server = new_postgres()
    migrate(server.url())
    daemon = new_daemon(server.url(), "--report-interval=500ms")
    daemon.start()
    [number] = fresh()
    sessions = sessions_of(number, 100_000, 200, seed=number)
    parts = [sessions[place::4] for place in range(4)]
    reports = [list(told(part, random.Random(place))) for place, part in enumerate(parts)]

    def send(client: Client, third: int) -> None:
        mine = reports[clients.index(client)]
        size = len(mine) // 3 + 1
        for batch in in_batches(mine[third * size : (third + 1) * size], 500):
            client.report(*batch)

    clients = [Client(daemon.target) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:

        def send_all(third: int) -> None:
            for sent in [pool.submit(send, client, third) for client in clients]:
                sent.result()

        send_all(0)
        eventually(lambda: daemon.status().rows_written, lambda count: count > 0)
        server.stop_hard()
        send_all(1)
        status = eventually(daemon.status, lambda status: status.oldest_backlog_age_seconds >= 8)
        assert status.database_state == "down"
        server.start()
        send_all(2)
    for client in clients:
        assert client.say_goodbye().code is grpc.StatusCode.OK
        client.stream.close()
    answer = daemon.flush()
    assert answer.backlog_rows == 0
    table = list(rows(server.url()).values())
    long_ones = {one.session_id for one in sessions if is_long(one)}
    assert Expected.found(table, long_ones) == Expected.after(sessions)
    status = daemon.status()
    assert (status.quarantined_rows, status.reports_rejected, status.sessions_abandoned) == (0, 0, 0)
    used = last_used(server.url())
    for row in table:
        assert used[row.workspace_id] >= min(row.ended, row.made)


def ended(number: int, place: int, requests: int = 1) -> Report:
    end = now_us() - MINUTE
    return report(number * 1_000_000 + place, end - 10 * MINUTE, end, requests, of=app(number * 1_000 + place % 50))


@pytest.fixture
def daemon(new_daemon: NewDaemon, database_url: str) -> DaemonProcess:
    daemon = new_daemon(database_url, "--report-interval=1h")
    daemon.start()
    return daemon


def test_of_5000_sessions_of_which_the_database_refuses_one_4999_land_and_one_is_in_quarantine(
    daemon: DaemonProcess, database_url: str
) -> None:
    [number] = fresh()
    with psycopg.connect(database_url, autocommit=True) as by_hand:
        by_hand.execute("ALTER TABLE workspace_app_stats ADD CONSTRAINT not_this_one CHECK (requests <> 4242)")
        with Client(daemon.target) as client:
            batch = [ended(number, place) for place in range(5_000)]
            batch[3_210] = ended(number, 3_210, requests=4242)
            assert client.report(*batch) == []
            assert daemon.flush().backlog_rows == 0
        assert {row.session_id for row in rows(database_url).values()} == {
            one.session_id for one in batch if one.requests != 4242
        }
        [refused] = daemon.quarantine()
        assert refused.session_id == batch[3_210].session_id
        assert refused.sqlstate == "23514"
        assert "not_this_one" in refused.message
        assert daemon.status().quarantined_rows == 1
        event = daemon.wait_for_event("a row goes to quarantine")
        assert "not_this_one" in event["reason"]

        by_hand.execute("ALTER TABLE workspace_app_stats DROP CONSTRAINT not_this_one")
        retry = wire.RetryQuarantineRequest(all=True)
        answer = daemon.call("/appstats.v1.QuarantineService/RetryQuarantine", retry, wire.RetryQuarantineResponse)
        assert answer.rows_retried == 1
        daemon.flush()
    assert len(rows(database_url)) == 5_000
    assert daemon.status().quarantined_rows == 0


def test_while_the_table_is_gone_nothing_is_quarantined_and_the_log_says_what_to_run(
    daemon: DaemonProcess, database_url: str
) -> None:
    [number] = fresh()
    with Client(daemon.target) as client:
        client.report(*(ended(number, place) for place in range(100)))
        daemon.flush()
        with psycopg.connect(database_url, autocommit=True) as by_hand:
            by_hand.execute("DROP TABLE workspace_app_stats")
            by_hand.execute("DELETE FROM appstatsd_migrations")
        for place in range(100, 103):
            client.report(ended(number, place))
            with pytest.raises(grpc.RpcError) as caught:
                daemon.flush()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "appstatsd migrate" in caught.value.details()
        status = daemon.status()
        assert (status.backlog_rows, status.quarantined_rows) == (3, 0)
        event = daemon.wait_for_event("rows cannot be written")
        assert "appstatsd migrate" in event["what_to_do"]
        migrate(database_url)
        daemon.flush()
        daemon.wait_for_event("rows can be written again")
    assert len(rows(database_url)) == 3
    assert daemon.status().quarantined_rows == 0


def test_two_daemons_and_somebody_else_at_the_same_workspaces_meet_no_failure(
    new_daemon: NewDaemon, database_url: str, shared_postgres: PostgresServer
) -> None:
    with psycopg.connect(database_url, autocommit=True) as by_hand:  # so that deadlocks are found at once
        by_hand.execute(f"ALTER DATABASE {by_hand.info.dbname} SET deadlock_timeout = '20ms'")
    daemons = [new_daemon(database_url, "--report-interval=100ms", "--flush-timeout=50s") for _ in range(2)]
    for daemon in daemons:
        daemon.start()
    [number] = fresh()
    apps = [app(number * 1_000 + place) for place in range(200)]
    all_is_written = threading.Event()

    def send(daemon: DaemonProcess, seed: int) -> set[bytes]:
        dice = random.Random(seed)
        start = now_us() - HOUR
        first = (number * 10 + seed) * 1_000_000
        reports = [  # each ends later than the one before it, so that its workspace is updated
            report(first + place, start, start + HOUR // 2 + place, of=dice.choice(apps)) for place in range(15_000)
        ]
        with Client(daemon.target) as client:
            for batch in in_batches(reports, 250):
                client.report(*batch)
        daemon.flush()
        return {one.session_id for one in reports}

    def meddle() -> None:
        dice = random.Random(number)
        workspaces = [UUID(bytes=each.workspace_id) for each in apps]
        with psycopg.connect(database_url, autocommit=True) as connection:
            while not all_is_written.is_set():
                # Against the daemons' order, so that there are deadlocks, in which sometimes this one makes way.
                with contextlib.suppress(psycopg.errors.DeadlockDetected), connection.transaction():
                    for workspace in sorted(dice.sample(workspaces, 2), reverse=True):
                        connection.execute(
                            "UPDATE workspaces SET last_used_at = last_used_at WHERE id = %s", [workspace]
                        )

    with ThreadPoolExecutor(3) as pool:
        meddling = pool.submit(meddle)
        try:
            sending = [pool.submit(send, daemon, seed) for seed, daemon in enumerate(daemons)]
            sent = set().union(*(each.result() for each in sending))
        finally:
            all_is_written.set()
        meddling.result()
    assert any("deadlock detected" in line for line in shared_postgres.log)
    for daemon in daemons:
        assert [event["reason"] for event in daemon.log if "cannot be written" in event["event"]] == []
        assert daemon.status().last_flush_error == ""
    assert {row.session_id for row in rows(database_url).values()} == sent
