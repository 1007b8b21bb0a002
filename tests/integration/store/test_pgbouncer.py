"""Through a transaction-pooling proxy, where every transaction may meet another session, and none may leave a trace."""

from __future__ import annotations

import threading

import psycopg
from appstatsd.errors import StoreUnavailable
from appstatsd.store.migrate import migrate
from appstatsd.store.writer import PostgresReporter

from tests.integration.store.samples import NOW_US, app, count, query, rows


def test_migrating_and_writing_work_and_leave_nothing_in_the_sessions(postgres_url: str, pooled_url: str) -> None:
    failures: list[StoreUnavailable] = []

    def daemon(number: int) -> None:
        try:
            migrate(pooled_url)
            with PostgresReporter(pooled_url) as reporter:
                for step in range(20):
                    now = NOW_US + step
                    reporter.report(
                        rows(
                            [app(user=number, workspace=1 + n) for n in range(50)],
                            first_session=number * 1_000,
                            made_us=now,
                            ended_us=now,
                            requests=step,
                        )
                    )
        except StoreUnavailable as error:
            failures.append(error)

    daemons = [threading.Thread(target=daemon, args=(n,), name=f"daemon-{n}") for n in range(1, 5)]
    for thread in daemons:
        thread.start()
    for thread in daemons:
        thread.join()
    assert failures == []
    assert count(postgres_url) == 4 * 50
    assert query(postgres_url, "SELECT DISTINCT requests FROM workspace_app_stats") == [(19,)]
    with psycopg.connect(pooled_url, prepare_threshold=None) as connection:
        left = connection.execute(
            "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
            " (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),"
            " (SELECT count(*) FROM pg_class WHERE relpersistence = 't')"
        ).fetchall()
    assert left == [("0", "0", 0, 0, 0)]
