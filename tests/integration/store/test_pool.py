"""A connection that works, or the true reason why there is none, in bounded time."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from appstatsd.errors import StoreUnavailable
from appstatsd.store.migrate import migrate
from appstatsd.store.pool import Database, NoAnswer
from appstatsd.store.writer import PostgresReporter

from tests.integration.store.samples import count, one_row, query, role
from tests.support.postgres import PostgresServer


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_opening_waits_for_no_database(silent_port: int) -> None:
    with Database(f"postgresql://u@127.0.0.1:{silent_port}/d") as database:
        assert database.figures()["pool_size"] == 1


def test_a_server_that_says_nothing_is_given_up_in_time(silent_port: int) -> None:
    with (
        Database(f"postgresql://u@127.0.0.1:{silent_port}/d") as database,
        pytest.raises(psycopg.OperationalError, match="timeout"),
        database.connection(2),
    ):
        pass


def test_closing_ends_all_threads(postgres_url: str) -> None:
    def threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith("appstatsd-pool")}

    before = threads()
    with Database(postgres_url) as database:
        assert threads() - before
        with database.connection(5):
            pass
    assert threads() == before


def test_a_frozen_server_is_given_up_in_time_and_used_again_when_it_thaws(
    new_postgres: Callable[[], PostgresServer],
) -> None:
    server = new_postgres()
    migrate(server.url())
    with PostgresReporter(server.url(), flush_timeout_seconds=2) as reporter:
        reporter.report(one_row())
        with frozen(server):
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    reporter.report(one_row())
        reporter.report(one_row())
    assert count(server.url()) == 2


@contextlib.contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    """Stop the postmaster and all its children, as a hung machine does."""
    pids = [server.pid, *children(server.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_an_answer_that_does_not_come_ends_the_wait_by_the_deadline(postgres_url: str) -> None:
    with Database(postgres_url) as database:
        with pytest.raises(NoAnswer), database.connection(0.3) as connection:
            connection.execute("SELECT pg_sleep(60)")
        with database.connection(5) as connection:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_a_pool_whose_connections_are_all_out_says_so(postgres_url: str) -> None:
    migrate(postgres_url)
    with PostgresReporter(postgres_url, pool_max_size=1, flush_timeout_seconds=0.2) as reporter:
        with reporter._database.connection(5), pytest.raises(StoreUnavailable, match="no connection of the pool"):
            reporter.report(one_row())
        reporter.report(one_row())


def test_after_one_connection_met_an_outage_no_older_one_is_used(postgres_url: str) -> None:
    with Database(postgres_url, min_size=2) as database:
        with database.connection(5) as first, database.connection(5) as second:
            old = {first.info.backend_pid, second.info.backend_pid}
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), database.connection(5) as connection:
            connection.execute("SET TRANSACTION READ ONLY; CREATE TABLE never ()")
        for _ in range(4):
            with database.connection(5) as connection:
                assert connection.info.backend_pid not in old


def test_connections_bear_our_name(postgres_url: str) -> None:
    with Database(postgres_url) as database, database.connection(5):
        names = query(
            postgres_url,
            "SELECT DISTINCT application_name FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )
    assert names == [("appstatsd",)]


def test_a_pool_that_cannot_grow_tells_the_servers_reason(postgres_url: str) -> None:
    with role(postgres_url, "limited") as limited:
        name = limited.partition("//")[2].partition("@")[0]
        with Database(limited, min_size=0, max_size=2) as database, database.connection(5):
            query(postgres_url, f"ALTER ROLE {name} CONNECTION LIMIT 1")
            with pytest.raises(psycopg.OperationalError, match="too many connections"), database.connection(1):
                pass


def test_no_attempt_to_connect_lingers_after_an_outage(new_postgres: Callable[[], PostgresServer]) -> None:
    server = new_postgres()
    migrate(server.url())
    with PostgresReporter(server.url(), pool_max_size=1) as reporter:
        reporter.report(one_row())
        server.stop()
        with pytest.raises(StoreUnavailable):
            reporter.report(one_row())
        deadline = time.monotonic() + 30
        while reporter.figures()["pool_size"]:
            assert time.monotonic() < deadline, "the pool still tries by itself"
        server.start()
        reporter.report(one_row())
    assert count(server.url()) == 2


def test_a_probe_tells_up_from_down(new_postgres: Callable[[], PostgresServer]) -> None:
    server = new_postgres()
    migrate(server.url())
    with PostgresReporter(server.url()) as reporter:
        reporter.probe()
        server.stop()
        with pytest.raises(StoreUnavailable):
            reporter.probe()
        server.start()
        reporter.probe()
