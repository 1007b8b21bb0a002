"""From the outbox to a real PostgreSQL: what a person would see in the table, the quarantine and the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from appstatsd.collect.rows import Rows
from appstatsd.store.migrate import migrate
from appstatsd.store.writer import PostgresReporter
from structlog.testing import capture_logs

from tests.support.postgres import PostgresServer
from tests.support.scripted_database import Delivery
from tests.support.waiting_rows import T0, app, block

FLUSH_TIMEOUT_SECONDS = 5.0


@pytest.fixture
def url(postgres_url: str) -> str:
    migrate(postgres_url)
    return postgres_url


def execute(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def totals(url: str) -> tuple[int, int]:
    """Rows, and the sum of their requests."""
    [row] = execute(url, "SELECT count(*), coalesce(sum(requests), 0) FROM workspace_app_stats")
    return row[0], row[1]


def deliver_to(url: str, batch_size: int = 1024) -> Iterator[Delivery]:
    with PostgresReporter(url, flush_timeout_seconds=FLUSH_TIMEOUT_SECONDS) as reporter:
        delivery = Delivery(batch_size, waits=True, reporter=reporter)
        with delivery.running():
            yield delivery


@pytest.fixture
def delivery(url: str) -> Iterator[Delivery]:
    yield from deliver_to(url)


@pytest.mark.parametrize("bad", [0, 2345, 4999])
def test_of_5000_rows_with_one_that_a_check_refuses_4999_land_and_one_is_quarantined_with_the_message(
    url: str, delivery: Delivery, bad: int
) -> None:
    execute(url, "ALTER TABLE workspace_app_stats ADD CONSTRAINT odd CHECK (requests <> 13)")
    rows = block(range(5000))
    rows.cells["requests"][bad] = 13
    outcome = delivery.flush(rows)
    assert (outcome.error, outcome.rows_written, outcome.backlog_rows) == (None, 4999, 0)
    assert totals(url) == (4999, 4999)
    [row] = delivery.quarantine.page(0, 9)
    assert 'violates check constraint "odd"' in row.message
    assert row.sqlstate == "23514"
    assert row.cells["session_id"].tobytes() == block([bad]).cells["session_id"].tobytes()

    execute(url, "ALTER TABLE workspace_app_stats DROP CONSTRAINT odd")
    assert delivery.flush(delivery.quarantine.take([row.id])).error is None
    assert totals(url) == (5000, 4999 + 13)


def test_rows_of_many_owners_that_a_foreign_key_refuses_are_quarantined_and_the_others_land(
    url: str, delivery: Delivery
) -> None:
    execute(url, "CREATE TABLE owners (id uuid PRIMARY KEY)")
    execute(url, "INSERT INTO owners SELECT lpad(to_hex(n + 1), 32, '0')::uuid FROM generate_series(0, 19, 2) n")
    execute(url, "ALTER TABLE workspace_app_stats ADD FOREIGN KEY (user_id) REFERENCES owners")
    blocks = [block(range(number * 10, number * 10 + 10), of=app(number)) for number in range(20)]
    outcome = delivery.flush(Rows.join(blocks))
    assert outcome.error is None
    assert totals(url) == (100, 100)
    assert len(delivery.quarantine) == 100
    assert {row.app for row in delivery.quarantine.page(0, 1000)} == {app(number) for number in range(1, 20, 2)}


def test_a_table_that_refuses_every_row_costs_none(url: str, delivery: Delivery) -> None:
    execute(url, "ALTER TABLE workspace_app_stats ADD CONSTRAINT nothing CHECK (requests < 0) NOT VALID")
    error = delivery.flush(block(range(5000))).error
    assert error is not None
    assert '"nothing"' in error.message
    assert "nothing is quarantined" in error.advice
    execute(url, "ALTER TABLE workspace_app_stats DROP CONSTRAINT nothing")
    delivery.ask(1)
    assert delivery.outcome().error is None
    assert totals(url) == (5000, 5000)
    assert len(delivery.quarantine) == 0


def test_while_the_table_is_gone_nothing_is_quarantined_and_the_log_says_what_to_run(url: str) -> None:
    with capture_logs() as logs:
        for delivery in deliver_to(url):
            assert delivery.flush(block(range(2000))).error is None
            execute(url, "DROP TABLE workspace_app_stats")
            for number in range(3):
                rows = block(range(1000 + number * 1000, 4000 + number * 1000), requests=number + 2)
                error = delivery.flush(rows).error
                assert error is not None
                assert "appstatsd migrate" in error.advice
            assert len(delivery.quarantine) == 0
            assert len(delivery.outbox) == 5000
            migrate(url)
            delivery.ask(delivery.outbox.last_serial)
            assert delivery.outcome().error is None
    assert totals(url) == (5000, 1000 * 2 + 1000 * 3 + 3000 * 4)
    told = [each for each in logs if "appstatsd migrate" in each.get("what_to_do", "")]
    assert len(told) == 1
    assert told[0]["log_level"] == "error"


def test_a_server_that_stops_and_starts_gets_all_rows_the_newest_of_each_key(
    new_postgres: Callable[[], PostgresServer],
) -> None:
    server = new_postgres()
    migrate(server.url())
    for delivery in deliver_to(server.url()):
        assert delivery.flush(block(range(3000))).error is None
        server.stop_hard()
        for number in range(1, 4):
            rows = block(range(number * 1000, number * 1000 + 3000), requests=number + 1, made_us=T0 + number)
            assert delivery.flush(rows).error is not None
        assert len(delivery.outbox) == 5000
        server.start()
        delivery.ask(4)
        assert delivery.outcome().error is None
        assert len(delivery.quarantine) == 0
    assert totals(server.url()) == (6000, 1000 * 1 + 1000 * 2 + 1000 * 3 + 3000 * 4)


def test_a_server_that_becomes_read_only_as_after_a_failover_costs_no_row(
    new_postgres: Callable[[], PostgresServer],
) -> None:
    server = new_postgres()
    migrate(server.url())
    for delivery in deliver_to(server.url()):
        assert delivery.flush(block(range(10))).error is None
        server.set("default_transaction_read_only", "on")
        error = delivery.flush(block(range(20))).error
        assert error is not None
        with psycopg.connect(server.url(), autocommit=True, options="-c default_transaction_read_only=off") as admin:
            admin.execute("ALTER SYSTEM SET default_transaction_read_only = off")
            admin.execute("SELECT pg_reload_conf()")
        while (outcome := ask_again(delivery)).error is not None:
            assert outcome.error.sqlstate in ("25006", None)
        assert len(delivery.quarantine) == 0
    assert totals(server.url()) == (20, 20)


def ask_again(delivery: Delivery) -> Any:
    delivery.ask(2)
    return delivery.outcome()


def test_a_rolled_up_row_and_an_own_row_that_share_a_session_id_land_in_one_statement(
    url: str, delivery: Delivery
) -> None:
    assert delivery.flush(Rows.join([block([7], of=app(1)), block([7], of=app(2))])).error is None
    assert totals(url) == (2, 2)


def test_after_an_outage_the_backlog_comes_with_a_pause_after_each_batch_but_the_last(
    new_postgres: Callable[[], PostgresServer],
) -> None:
    server = new_postgres()
    migrate(server.url())
    with PostgresReporter(server.url(), flush_timeout_seconds=FLUSH_TIMEOUT_SECONDS) as reporter:
        delivery = Delivery(100, reporter=reporter)
        server.stop()
        with delivery.running():
            delivery.add(block(range(1000)))
            delivery.wait_for_a_wait()
            assert delivery.deliverer.figures().database_state == "down"
            server.start()
            delivery.ask(1, urgent=False)
            while delivery.outcome().error is not None:
                delivery.ask(1, urgent=False)
            backoffs = delivery.deliverer.figures().errors["none"]
            assert len(delivery.waited) - backoffs == 9
    assert totals(server.url()) == (1000, 1000)
