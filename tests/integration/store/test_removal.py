"""Rows leave the database: old ones, and those of one person; and nobody who writes has to wait for that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import psycopg
import pytest
from appstatsd.collect.rows import EndSource, Rows
from appstatsd.errors import StoreUnavailable
from appstatsd.store import removal
from appstatsd.store.migrate import migrate
from appstatsd.store.removal import OldRows, RowsOfPerson
from appstatsd.store.writer import PostgresReporter

from tests.integration.store.samples import (
    FOREIGN_STATS,
    FOREIGN_WORKSPACES,
    app,
    count,
    query,
    role,
    rows,
    uuid_bytes,
)
from tests.support.daemon import eventually
from tests.support.raw_client import now_us

DAY_US = 86_400_000_000
AGE_US = 90 * DAY_US


@pytest.fixture
def url(postgres_url: str) -> str:
    migrate(postgres_url)
    return postgres_url


@pytest.fixture
def store(url: str) -> Iterator[PostgresReporter]:
    with PostgresReporter(url) as reporter:
        yield reporter


def some(number: int, age_us: int, *, first: int = 1, user: int = 1, source: EndSource = EndSource.REPORTED) -> Rows:
    """So many rows that ended so long ago."""
    ended = now_us() - age_us
    return rows([app(user=user)] * number, first_session=first, ended_us=ended, made_us=ended, source=source)


def sessions(url: str) -> list[int]:
    return [number.int for (number,) in query(url, "SELECT session_id FROM workspace_app_stats ORDER BY 1")]


def test_rows_that_are_old_go_and_no_others(store: PostgresReporter, url: str) -> None:
    store.report(some(3, AGE_US + DAY_US, first=1))
    store.report(some(3, AGE_US - DAY_US, first=11))
    store.report(some(3, 0, first=21))
    assert sum(progress.rows for progress in OldRows(store.connection, AGE_US).remove()) == 3
    assert sessions(url) == [11, 12, 13, 21, 22, 23]


def test_a_row_of_a_session_that_goes_on_has_no_age(store: PostgresReporter, url: str) -> None:
    store.report(some(2, 2 * AGE_US, source=EndSource.LIVE))
    store.report(some(2, 2 * AGE_US, first=11, source=EndSource.INFERRED))
    assert sum(progress.rows for progress in OldRows(store.connection, AGE_US).remove()) == 2
    assert sessions(url) == [1, 2]


def test_counting_finds_the_same_rows_and_removes_none(store: PostgresReporter, url: str) -> None:
    store.report(some(5, 2 * AGE_US))
    store.report(some(5, 0, first=11))
    assert sum(progress.rows for progress in OldRows(store.connection, AGE_US).count()) == 5
    assert count(url) == 10


def test_it_goes_by_chunks_and_tells_how_far_it_is(
    store: PostgresReporter, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "CHUNK_PAGES", 3)
    store.report(some(1_000, 2 * AGE_US))
    told = list(OldRows(store.connection, AGE_US).remove())
    assert sum(each.rows for each in told) == 1_000
    assert len(told) > 5
    assert all(one.pages + 3 >= other.pages > one.pages for one, other in pairwise(told))
    assert told[-1].pages == told[-1].of_pages
    assert max(each.rows for each in told) < 250


def test_each_chunk_is_committed_and_a_pass_goes_on_from_where_it_was(
    store: PostgresReporter, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "CHUNK_PAGES", 3)
    store.report(some(1_000, 2 * AGE_US))
    first = next(OldRows(store.connection, AGE_US).remove())
    assert count(url) == 1_000 - first.rows
    assert sum(each.rows for each in OldRows(store.connection, AGE_US).remove(first.pages)) == 1_000 - first.rows
    assert count(url) == 0


def test_an_empty_table_is_gone_over_at_once(store: PostgresReporter) -> None:
    assert list(OldRows(store.connection, AGE_US).remove()) == []


def test_a_row_that_somebody_writes_is_passed_over_without_waiting(store: PostgresReporter, url: str) -> None:
    store.report(some(3, 2 * AGE_US))
    with psycopg.connect(url) as other:
        other.execute("UPDATE workspace_app_stats SET requests = 9 WHERE session_id = %s", (uuid_of(2),))
        assert sum(progress.rows for progress in OldRows(store.connection, AGE_US).remove()) == 2
    assert sessions(url) == [2]


def uuid_of(number: int) -> str:
    return uuid_bytes(number).hex()


def test_whoever_writes_meanwhile_loses_nothing_and_waits_for_nobody(
    store: PostgresReporter, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "CHUNK_PAGES", 1)
    store.report(some(2_000, 2 * AGE_US))
    failures: list[BaseException] = []

    def writer(number: int) -> None:
        try:
            for step in range(15):
                store.report(some(100, 0, first=number * 100_000 + step * 100))
                store.report(some(100, 2 * AGE_US, first=1 + step * 100))  # old rows again, some as they go
        except StoreUnavailable as failure:
            failures.append(failure)

    writers = [threading.Thread(target=writer, args=(number,), name=f"writer-{number}") for number in (1, 2)]
    for thread in writers:
        thread.start()
    for _ in range(5):
        list(OldRows(store.connection, AGE_US).remove())
    for thread in writers:
        thread.join()
    list(OldRows(store.connection, AGE_US).remove())
    assert failures == []
    assert count(url) == 2 * 15 * 100


def test_one_at_a_time(store: PostgresReporter, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "LOCK_SECONDS", 0.1)
    store.report(some(3, 2 * AGE_US))
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (removal._LOCK,))
        with pytest.raises(StoreUnavailable) as caught:
            list(OldRows(store.connection, AGE_US).remove())
        assert caught.value.sqlstate == "55P03"
        assert count(url) == 3
    assert len(list(OldRows(store.connection, AGE_US).remove())) == 1


def test_a_statement_that_takes_too_long_is_given_up(
    store: PostgresReporter, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "STATEMENT_SECONDS", 0.2)
    query(
        url,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(60); RETURN old; END$$;"
        "CREATE TRIGGER slow BEFORE DELETE ON workspace_app_stats FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    store.report(some(1, 2 * AGE_US))
    for work in (
        lambda: list(OldRows(store.connection, AGE_US).remove()),
        RowsOfPerson(store.connection, uuid_bytes(1)).remove_some,
    ):
        with pytest.raises(StoreUnavailable) as caught:
            work()
        assert caught.value.sqlstate == "57014"
    assert count(url) == 1


def test_of_many_daemons_one_begins_a_pass_and_only_so_often(store: PostgresReporter, url: str) -> None:
    claimed: list[bool] = []
    start = threading.Barrier(4)

    def daemon() -> None:
        start.wait()
        claimed.append(OldRows(store.connection, AGE_US).claim(DAY_US))

    daemons = [threading.Thread(target=daemon, name=f"daemon-{number}") for number in range(4)]
    for thread in daemons:
        thread.start()
    for thread in daemons:
        thread.join()
    assert sorted(claimed) == [False, False, False, True]
    query(url, "UPDATE appstatsd_retention SET pass_began_at = now() - interval '25 hours'")
    assert OldRows(store.connection, AGE_US).claim(DAY_US)


def test_a_table_of_somebody_elses_serves_as_it_is(postgres_url: str) -> None:
    query(postgres_url, FOREIGN_STATS)
    query(postgres_url, FOREIGN_WORKSPACES)
    with PostgresReporter(postgres_url) as store:
        store.report(some(2, 2 * AGE_US))
        store.report(some(2, 0, first=11))
        old = OldRows(store.connection, AGE_US)
        assert old.claim(DAY_US)
        assert sum(progress.rows for progress in old.remove()) == 2
        assert RowsOfPerson(store.connection, uuid_bytes(1)).remove_some() == 2
    assert count(postgres_url) == 0


def test_a_partitioned_table_is_gone_over_whole(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "CHUNK_PAGES", 2)
    query(postgres_url, FOREIGN_STATS.replace("PRIMARY KEY", "").rstrip() + " PARTITION BY HASH (agent_id)")
    query(postgres_url, FOREIGN_WORKSPACES)
    for part in range(3):
        query(
            postgres_url,
            f"CREATE TABLE part_{part} PARTITION OF workspace_app_stats FOR VALUES WITH (MODULUS 3, REMAINDER {part})",
        )
    with PostgresReporter(postgres_url) as store:
        for age, first in ((2 * AGE_US, 1), (0, 5_001)):
            ended = now_us() - age
            apps = [app(agent=1 + number % 20) for number in range(500)]
            store.report(rows(apps, first_session=first, ended_us=ended, made_us=ended))
        assert sum(progress.rows for progress in OldRows(store.connection, AGE_US).remove()) == 500
    assert count(postgres_url) == 500


def test_a_persons_rows_go_in_batches_and_nobody_elses(
    store: PostgresReporter, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "PERSON_ROWS", 4)
    store.report(some(10, 0))
    store.report(some(3, 0, first=101, user=2))
    person = RowsOfPerson(store.connection, uuid_bytes(1))
    assert person.count() == 10
    assert [person.remove_some() for _ in range(4)] == [4, 4, 2, 0]
    assert sessions(url) == [101, 102, 103]
    assert person.count() == 0


def test_a_persons_row_that_somebody_writes_is_waited_for(store: PostgresReporter, url: str) -> None:
    store.report(some(3, 0))
    removed: list[int] = []
    with psycopg.connect(url) as other:
        other.execute("UPDATE workspace_app_stats SET requests = 9 WHERE session_id = %s", (uuid_of(2),))
        thread = threading.Thread(
            target=lambda: removed.append(RowsOfPerson(store.connection, uuid_bytes(1)).remove_some()), name="removing"
        )
        thread.start()
        eventually(lambda: query(url, "SELECT count(*) FROM pg_locks WHERE NOT granted"), lambda found: found[0][0] > 0)
        other.commit()
        thread.join()
    assert removed == [3]


@contextmanager
def lesser(url: str) -> Iterator[PostgresReporter]:
    """A store under a role that may write and not delete."""
    with role(url, "lesser") as weak:
        name = weak.partition("//")[2].partition("@")[0]
        query(url, f"GRANT SELECT, INSERT, UPDATE ON workspace_app_stats, workspaces TO {name}")
        with PostgresReporter(weak) as store:
            yield store


def test_whoever_may_not_delete_is_told_what_to_grant(url: str) -> None:
    with lesser(url) as store:
        store.report(some(1, 2 * AGE_US))
        for work in (
            lambda: OldRows(store.connection, AGE_US).claim(DAY_US),
            lambda: list(OldRows(store.connection, AGE_US).remove()),
            RowsOfPerson(store.connection, uuid_bytes(1)).remove_some,
        ):
            with pytest.raises(StoreUnavailable) as caught:
                work()
            assert "DELETE on workspace_app_stats" in caught.value.advice
