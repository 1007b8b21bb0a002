"""NOTIFY reaches whoever listens, through a pooler too, and never stands in the way of rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from appstatsd.activity.notices import Notice, NotTold, Teller, ToldReporter
from appstatsd.activity.notify import CHANNEL, PostgresNotify
from appstatsd.store.migrate import migrate
from appstatsd.store.writer import PostgresReporter

from tests.integration.store.samples import NOW_US, app, count, rows
from tests.support.postgres import PostgresServer

PATIENCE_SECONDS = 30.0


@pytest.fixture
def listening(postgres_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"LISTEN {CHANNEL}")
        yield connection


def heard(connection: psycopg.Connection, number: int) -> list[dict[str, str]]:
    """The next notices."""
    return [json.loads(notice.payload) for notice in connection.notifies(timeout=PATIENCE_SECONDS, stop_after=number)]


def test_each_workspace_of_committed_rows_is_told_once(postgres_url: str, listening: psycopg.Connection) -> None:
    migrate(postgres_url)
    teller = Teller("notify", PostgresNotify(lambda: postgres_url), 3600.0)
    teller.start()
    with PostgresReporter(postgres_url) as store:
        ToldReporter(store, [teller]).report(rows([app(workspace=1), app(workspace=2), app(workspace=1, slug="x")]))
    notices = heard(listening, 2)
    teller.stop(PATIENCE_SECONDS)
    at = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=NOW_US)).isoformat(timespec="microseconds")
    assert sorted(notice["workspace_id"][-1] for notice in notices) == ["1", "2"]
    assert {notice["last_used_at"] for notice in notices} == {at.replace("+00:00", "Z")}
    assert teller.figures().told == 2


def test_a_pooler_may_stand_between(pooled_url: str, listening: psycopg.Connection) -> None:
    for number in range(4):
        PostgresNotify(lambda: pooled_url)([Notice(bytes([number]) * 16, 0)])
    assert len(heard(listening, 4)) == 4


def test_a_database_that_does_not_answer_is_given_up_in_time(new_postgres: Callable[[], PostgresServer]) -> None:
    server = new_postgres()
    notify = PostgresNotify(lambda: server.url(), seconds=0.5)
    notify([Notice(bytes(16), 0)])
    with server.frozen(), pytest.raises(NotTold):
        notify([Notice(bytes(16), 0)])
    server.stop()
    with pytest.raises(NotTold):
        notify([Notice(bytes(16), 0)])
    with pytest.raises(NotTold, match="does not run yet"):
        PostgresNotify(lambda: "")([Notice(bytes(16), 0)])


def test_rows_are_written_while_nobody_takes_notices(postgres_url: str) -> None:
    migrate(postgres_url)
    teller = Teller("notify", PostgresNotify(lambda: "postgresql://127.0.0.1:1/none"), 0.0)
    teller.start()
    with PostgresReporter(postgres_url) as store:
        for number in range(5):
            ToldReporter(store, [teller]).report(rows([app()], first_session=number + 1))
    teller.stop(PATIENCE_SECONDS)
    assert count(postgres_url) == 5
    assert teller.figures().told == 0
    assert teller.figures().dropped >= 1
