"""A primary dies, its standby takes over, and rows find it: by a URL that names both hosts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import psycopg
import pytest
from appstatsd.errors import StoreUnavailable
from appstatsd.store import launch
from appstatsd.store.migrate import migrate
from appstatsd.store.writer import PostgresReporter

from tests.integration.store.samples import count, one_row
from tests.support.daemon import eventually
from tests.support.postgres import PROGRAMS, PostgresServer


@pytest.fixture
def primary(new_postgres: Callable[[], PostgresServer]) -> PostgresServer:
    server = new_postgres()
    migrate(server.url())
    return server


@pytest.fixture
def standby(primary: PostgresServer) -> Iterator[PostgresServer]:
    """A server that follows the primary."""
    copy = primary.data.with_name("copy")
    subprocess.run(
        [PROGRAMS / "pg_basebackup", "-D", copy, "-d", primary.url(tcp=True), "-R", "-c", "fast", "--no-sync"],
        check=True,
        capture_output=True,
        env={"LC_ALL": "C"},
    )
    if owner := launch.account():
        subprocess.run(["chown", "-R", f"{owner[0]}:{owner[1]}", str(copy)], check=True)
    server = PostgresServer(primary.data.with_name("standby"), copy)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def both(primary: PostgresServer, standby: PostgresServer) -> str:
    return f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres?connect_timeout=2"


def test_rows_follow_the_primary(primary: PostgresServer, standby: PostgresServer) -> None:
    with PostgresReporter(both(primary, standby), pool_min_size=2) as store:
        store.report(one_row())
        eventually(lambda: count(standby.url()), lambda number: number == 1)
        primary.kill()
        with pytest.raises(StoreUnavailable) as caught:
            store.report(one_row())
        assert caught.value.sqlstate is None
        with psycopg.connect(standby.url(), autocommit=True) as connection:
            assert connection.execute("SELECT pg_promote()").fetchone() == (True,)
        store.report(one_row())
        store.report(one_row())
    assert count(standby.url()) == 3


def test_a_standby_alone_is_no_database_to_write_to(primary: PostgresServer, standby: PostgresServer) -> None:
    url = f"postgresql://postgres@127.0.0.1:{standby.port}/postgres"
    with PostgresReporter(url) as store, pytest.raises(StoreUnavailable, match="read-only") as caught:
        store.report(one_row())
    assert "name the primary" in caught.value.advice
