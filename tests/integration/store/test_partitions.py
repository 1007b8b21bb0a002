"""The partitioned table of docs/scaling.md serves: what stands there is what is tried here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from appstatsd.store.migrate import migrate
from appstatsd.store.removal import OldRows, RowsOfPerson
from appstatsd.store.writer import PostgresReporter

from tests.integration.store.samples import app, count, query, rows, uuid_bytes
from tests.support.raw_client import now_us

PAGE = (Path(__file__).parents[3] / "docs/scaling.md").read_text()
AGE_US = 90 * 86_400_000_000


@pytest.fixture
def url(postgres_url: str) -> str:
    """A database with the table that the page has, in four partitions."""
    [text] = [block for block in re.findall("```sql\n(.*?)```", PAGE, re.DOTALL) if "PARTITION BY" in block]
    table, partition = text.split("-- and for each of")
    query(postgres_url, table)
    partition = partition.partition("\n")[2].replace("MODULUS 32", "MODULUS 4")
    for number in range(4):
        query(
            postgres_url,
            partition.replace("stats_00", f"stats_0{number}").replace("REMAINDER 0", f"REMAINDER {number}"),
        )
    migrate(postgres_url)
    return postgres_url


def test_rows_are_written_written_again_and_removed(url: str) -> None:
    apps = [app(user=1 + number % 3, agent=1 + number % 40) for number in range(200)]
    now = now_us()
    with PostgresReporter(url) as store:
        store.report(rows(apps, ended_us=now, made_us=now))
        store.report(rows(apps, ended_us=now + 1, made_us=now + 1, requests=7))
        store.report(rows(apps, first_session=1_001, ended_us=now - 2 * AGE_US, made_us=now - 2 * AGE_US))
        assert count(url) == 400
        assert sum(progress.rows for progress in OldRows(store.connection, AGE_US).remove()) == 200
        assert RowsOfPerson(store.connection, uuid_bytes(1)).remove_some() == 67
    assert query(url, "SELECT DISTINCT requests, end_source FROM workspace_app_stats") == [(7, "reported")]
    assert count(url) == 133
    used = "SELECT count(DISTINCT tableoid) FROM workspace_app_stats"
    assert query(url, used) == [(4,)]


def test_migrating_has_no_advice_that_would_not_fit_it(url: str) -> None:
    assert [line for line in migrate(url).advice if "workspace_app_stats" in line] == []
