"""Rows that are reported stand in the tables: all of a call, in key order, and every workspace moves forward."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta

import numpy as np
import psycopg
import pytest
from appstatsd.collect.rows import MAX_REQUESTS, EndSource, Rows
from appstatsd.errors import RowsRefused, StoreUnavailable
from appstatsd.store.migrate import migrate
from appstatsd.store.schema import LastUsedAt
from appstatsd.store.writer import PostgresReporter

from tests.integration.store.samples import (
    FOREIGN_STATS,
    FOREIGN_WORKSPACES,
    MINUTE_US,
    NOW_US,
    app,
    count,
    database_name,
    moment,
    one_row,
    query,
    rows,
    uuid_bytes,
)


@pytest.fixture
def url(postgres_url: str) -> str:
    """A database with both tables, made by our migration."""
    migrate(postgres_url)
    return postgres_url


def last_used(url: str) -> dict[int, int]:
    """By workspace number, microseconds since NOW_US."""
    return {
        uuid.UUID(str(key)).int: (at - moment(NOW_US)) // timedelta(microseconds=1)
        for key, at in query(url, "SELECT id, last_used_at FROM workspaces")
    }


def test_a_row_stands_in_the_table_as_it_was_made(url: str) -> None:
    with PostgresReporter(url) as reporter:
        reporter.report(rows([app(user=1, workspace=2, agent=3, method=3, slug="")], first_session=4, requests=5))
    assert query(
        url,
        "SELECT user_id, workspace_id, agent_id, access_method, slug_or_port, session_id, session_started_at,"
        " session_ended_at, requests, sessions, end_source, updated_at FROM workspace_app_stats",
    ) == [
        (
            uuid.UUID(int=1),
            uuid.UUID(int=2),
            uuid.UUID(int=3),
            "terminal",
            "",
            uuid.UUID(int=4),
            moment(NOW_US - MINUTE_US),
            moment(NOW_US),
            5,
            1,
            "reported",
            moment(NOW_US),
        )
    ]


def test_a_saturated_count_comes_back_through_the_real_copy(url: str) -> None:
    report = rows([app()], requests=MAX_REQUESTS)
    report.cells["sessions"] = MAX_REQUESTS
    with PostgresReporter(url) as reporter:
        reporter.report(report)
    assert query(url, "SELECT requests, sessions FROM workspace_app_stats") == [(2**31 - 1, 2**31 - 1)]


def test_rows_are_written_in_key_order(url: str) -> None:
    places = np.random.default_rng(1).permutation(500)
    shuffled = rows([app(user=1 + n % 7, agent=1 + n % 5) for n in range(500)]).take(places)
    with PostgresReporter(url) as reporter:
        reporter.report(shuffled)
    keys = query(url, "SELECT user_id, agent_id, session_id FROM workspace_app_stats ORDER BY id")
    assert keys == sorted(keys)


def test_no_rows_need_no_database() -> None:
    with PostgresReporter("postgresql://127.0.0.1:1/none") as reporter:
        reporter.report(Rows.empty())


def test_a_call_commits_all_rows_or_none(url: str) -> None:
    report = rows([app(slug="good"), app(slug="bad\0"), app(slug="good")])
    with PostgresReporter(url) as reporter, pytest.raises(RowsRefused):
        reporter.report(report)
    assert count(url) == 0
    assert query(url, "SELECT 1 FROM workspaces") == []


def test_a_call_after_a_refused_one_works_on_the_same_connection(url: str) -> None:
    with PostgresReporter(url, pool_max_size=1) as reporter:
        for slug in ("bad\0", "good", "bad\0", "good"):
            try:
                reporter.report(one_row(slug))
            except RowsRefused:
                assert slug == "bad\0"
        figures = reporter.figures()
    assert count(url) == 2
    assert (figures["connections_num"], figures.get("returns_bad", 0)) == (1, 0)


def test_a_row_written_twice_makes_no_second_version(url: str) -> None:
    report = rows([app()], source=EndSource.LIVE)
    with PostgresReporter(url) as reporter:
        reporter.report(report)
        (before,) = query(url, "SELECT s.ctid, w.ctid FROM workspace_app_stats s, workspaces w")
        reporter.report(report)
    assert query(url, "SELECT s.ctid, w.ctid FROM workspace_app_stats s, workspaces w") == [before]


def test_a_key_twice_in_one_call_is_said_to_be_our_mistake_and_costs_no_row(url: str) -> None:
    twice = Rows.join([rows([app()]), rows([app()], made_us=NOW_US + 1)])
    with PostgresReporter(url) as reporter, pytest.raises(StoreUnavailable, match="error of appstatsd") as caught:
        reporter.report(twice)
    assert caught.value.sqlstate == "21000"


def test_nothing_of_a_call_outlives_its_transaction(url: str) -> None:
    with PostgresReporter(url, pool_max_size=1) as reporter:
        reporter.report(one_row())
        with reporter._database.connection(5) as connection:
            left = connection.execute(
                "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
                " current_setting('idle_in_transaction_session_timeout'),"
                " (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),"
                " (SELECT count(*) FROM pg_prepared_statements),"
                " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')"
            ).fetchall()
    assert left == [("0", "0", "0", 0, 0, 0)]


@pytest.mark.parametrize("mode", [LastUsedAt.UPSERT, LastUsedAt.UPDATE])
def test_workspaces_move_to_their_latest_end_but_not_past_the_flush(url: str, mode: LastUsedAt) -> None:
    for number in (1, 2) if mode is LastUsedAt.UPDATE else ():
        query(url, "INSERT INTO workspaces VALUES (%s, '2001-01-01')", uuid_bytes(number).hex())
    with PostgresReporter(url, last_used_at=mode) as reporter:
        reporter.report(
            Rows.join(
                [
                    rows([app(workspace=1)], first_session=1, ended_us=NOW_US - 5),
                    rows([app(workspace=1)], first_session=2, ended_us=NOW_US - 3),
                    rows([app(workspace=2)], first_session=3, ended_us=NOW_US + 7, made_us=NOW_US + 1),
                ]
            )
        )
    assert last_used(url) == {1: -3, 2: 1}


@pytest.mark.parametrize("mode", [LastUsedAt.UPSERT, LastUsedAt.UPDATE])
def test_workspaces_never_move_back(url: str, mode: LastUsedAt) -> None:
    query(url, "INSERT INTO workspaces VALUES (%s, %s)", uuid_bytes(1).hex(), moment(NOW_US + 1))
    query(url, "INSERT INTO workspaces VALUES (%s, %s)", uuid_bytes(2).hex(), moment(NOW_US - 1))
    with PostgresReporter(url, last_used_at=mode) as reporter:
        reporter.report(rows([app(workspace=1), app(workspace=2)]))
    assert last_used(url) == {1: 1, 2: 0}


@pytest.mark.parametrize("mode", [LastUsedAt.UPSERT, LastUsedAt.UPDATE])
def test_a_workspace_that_would_not_move_is_not_waited_for(url: str, mode: LastUsedAt) -> None:
    query(url, "INSERT INTO workspaces VALUES (%s, %s)", uuid_bytes(1).hex(), moment(NOW_US))
    with (
        psycopg.connect(url) as other,
        PostgresReporter(url, last_used_at=mode) as reporter,
    ):
        other.execute("SELECT 1 FROM workspaces FOR UPDATE")
        reporter.report(rows([app(workspace=1)]))
    assert count(url) == 1


@pytest.mark.parametrize(("mode", "made"), [("auto", {1, 2}), ("upsert", {1, 2}), ("update", {1}), ("off", set())])
def test_each_mode_touches_what_it_says(url: str, mode: str, made: set[int]) -> None:
    query(url, "INSERT INTO workspaces VALUES (%s, '2001-01-01')", uuid_bytes(1).hex())
    with PostgresReporter(url, last_used_at=LastUsedAt(mode)) as reporter:
        reporter.report(rows([app(workspace=1), app(workspace=2)]))
    assert {number for number, at in last_used(url).items() if at == 0} == made


def test_somebody_elses_workspaces_are_updated_and_never_made(postgres_url: str) -> None:
    query(postgres_url, FOREIGN_STATS)
    query(postgres_url, FOREIGN_WORKSPACES)
    query(postgres_url, "INSERT INTO workspaces (id, owner_name) VALUES (%s, 'ann')", uuid_bytes(1).hex())
    query(postgres_url, f"ALTER DATABASE {database_name(postgres_url)} SET timezone = 'Asia/Tokyo'")
    with PostgresReporter(postgres_url) as reporter:
        reporter.report(rows([app(workspace=1), app(workspace=2)]))
    assert query(postgres_url, "SELECT owner_name, last_used_at FROM workspaces") == [
        ("ann", moment(NOW_US).replace(tzinfo=None))
    ]
    assert count(postgres_url) == 2


def test_a_workspaces_that_replaced_ours_counts_as_somebody_elses(url: str) -> None:
    query(url, "DROP TABLE workspaces")
    query(url, FOREIGN_WORKSPACES)
    with PostgresReporter(url) as reporter:
        reporter.report(one_row())
    assert query(url, "SELECT 1 FROM workspaces") == []


@pytest.mark.parametrize("workspaces", [1_024, 100_000])
@pytest.mark.parametrize("mode", [LastUsedAt.UPSERT, LastUsedAt.UPDATE])
def test_every_workspace_of_a_flush_gets_its_last_used_at(url: str, workspaces: int, mode: LastUsedAt) -> None:
    if mode is LastUsedAt.UPDATE:
        query(
            url,
            "INSERT INTO workspaces SELECT lpad(to_hex(n), 32, '0')::uuid, '2001-01-01' FROM generate_series(1, %s) n",
            workspaces,
        )
    flush = rows([app(workspace=1 + n) for n in range(workspaces)])
    with PostgresReporter(url, last_used_at=mode) as reporter:
        for batch in flush.batches(1_024) if mode is LastUsedAt.UPSERT else [flush]:
            reporter.report(batch)
    assert query(url, "SELECT count(*), count(*) FILTER (WHERE last_used_at = %s) FROM workspaces", moment(NOW_US)) == [
        (workspaces, workspaces)
    ]


def test_rows_of_live_sessions_are_rewritten_in_place(url: str) -> None:
    apps = [app(user=1 + n, slug=f"slug-{n}") for n in range(1_024)]
    with PostgresReporter(url) as reporter:
        for flush in range(21):
            now = NOW_US + flush * 30_000_000
            reporter.report(rows(apps, made_us=now, ended_us=now, source=EndSource.LIVE))
    query(url, "SELECT pg_stat_force_next_flush()")
    ((updated, hot),) = query(
        url, "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'workspace_app_stats'"
    )
    assert updated == 20 * len(apps)
    assert hot > 0.8 * updated


def test_what_is_known_of_the_tables_is_asked_again_after_an_error_about_them(url: str) -> None:
    with PostgresReporter(url) as reporter:
        reporter.report(one_row())
        query(url, "ALTER TABLE workspace_app_stats DROP COLUMN end_source")
        with pytest.raises(StoreUnavailable) as caught:
            reporter.report(one_row())
        assert caught.value.sqlstate == "42703"
        reporter.report(one_row())
    assert count(url) == 2


def test_a_database_that_is_not_migrated_counts_as_unavailable_until_it_is(postgres_url: str) -> None:
    with PostgresReporter(postgres_url) as reporter:
        for ask in (reporter.probe, lambda: reporter.report(one_row())):
            with pytest.raises(StoreUnavailable, match="run: appstatsd migrate --database-url"):
                ask()
        migrate(postgres_url)
        reporter.probe()
        reporter.report(one_row())
    assert count(postgres_url) == 1


def test_reports_from_several_threads_do_not_meet(url: str) -> None:
    failures: list[BaseException] = []

    def write(first: int) -> None:
        try:
            for step in range(10):
                reporter.report(rows([app(user=1 + n) for n in range(50)], first_session=first + 50 * step))
        except StoreUnavailable as error:
            failures.append(error)

    with PostgresReporter(url, pool_max_size=2) as reporter:
        threads = [threading.Thread(target=write, args=(1 + 1_000 * n,), name=f"writer-{n}") for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert count(url) == 4 * 10 * 50


@pytest.mark.parametrize("mode", [LastUsedAt.UPSERT, LastUsedAt.UPDATE])
def test_two_daemons_and_a_third_party_on_the_same_workspaces_never_deadlock(url: str, mode: LastUsedAt) -> None:
    workspaces, steps = 200, 40
    if mode is LastUsedAt.UPDATE:
        query(
            url,
            "INSERT INTO workspaces SELECT lpad(to_hex(n), 32, '0')::uuid, '2001-01-01'"
            " FROM generate_series(1, %s) n ORDER BY random()",
            workspaces,
        )
    failures: list[BaseException] = []
    done = threading.Event()

    def daemon(number: int) -> None:
        order = np.random.default_rng(number)
        try:
            with PostgresReporter(url, last_used_at=mode) as reporter:
                for step in range(steps):
                    touched = order.choice(workspaces, 120, replace=False) + 1
                    now = NOW_US + step * 1_000 + number
                    reporter.report(
                        rows(
                            [app(user=number, workspace=int(n)) for n in touched],
                            first_session=1 + number * 10**6 + step * 1_000,
                            made_us=now,
                            ended_us=now,
                        )
                    )
        except StoreUnavailable as error:
            failures.append(error)

    def third_party() -> None:
        order = np.random.default_rng(9)
        with psycopg.connect(url) as connection:
            while not done.is_set():
                chosen = [uuid.UUID(int=int(n) + 1) for n in order.choice(workspaces, 50, replace=False)]
                try:
                    locked = connection.execute(
                        "SELECT id FROM workspaces WHERE id = ANY (%s) ORDER BY id FOR NO KEY UPDATE", (chosen,)
                    ).fetchall()
                    # Not those that a daemon has made since: they would be locked out of order.
                    connection.execute(
                        "UPDATE workspaces SET last_used_at = last_used_at - interval '1 s' WHERE id = ANY (%s)",
                        ([found for (found,) in locked],),
                    )
                    connection.commit()
                except psycopg.Error as error:
                    failures.append(error)
                    return

    daemons = [threading.Thread(target=daemon, args=(n,), name=f"daemon-{n}") for n in (1, 2)]
    third = threading.Thread(target=third_party, name="third-party")
    for thread in (third, *daemons):
        thread.start()
    for thread in daemons:
        thread.join()
    done.set()
    third.join()
    assert failures == []
    assert count(url) == 2 * steps * 120
    assert len(last_used(url)) == workspaces
