"""Rule 4 of the collector, in PostgreSQL and beside it: any sequence of rows of one key ends the same."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import psycopg
import pytest
from appstatsd.collect.merge import merged
from appstatsd.collect.rows import CELLS, Cells, EndSource, Rows
from appstatsd.store.migrate import migrate
from appstatsd.store.writer import PostgresReporter
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.store.samples import FOREIGN_STATS, NOW_US, SKEW_US, app, microseconds, query, uuid_bytes


@dataclass(frozen=True)
class Row:
    started_us: int
    ended_us: int
    requests: int
    sessions: int
    source: EndSource
    made_us: int


def stamps() -> st.SearchStrategy[int]:
    """Moments around the edges that the skew makes."""
    return st.builds(lambda steps, off: NOW_US + steps * SKEW_US + off, st.integers(-2, 2), st.sampled_from((-1, 0, 1)))


ROWS = st.builds(
    Row,
    started_us=st.integers(NOW_US - 9, NOW_US),
    ended_us=st.integers(NOW_US, NOW_US + 9),
    requests=st.sampled_from((0, 1, 2, 2**31 - 1)),
    sessions=st.sampled_from((1, 2, 3)),
    source=st.sampled_from(EndSource),
    made_us=stamps(),
)


def outcome(there: Row | None, row: Row) -> Row:
    """The rule, as SPEC says it."""
    if there is None:
        return row
    requests, sessions = max(there.requests, row.requests), max(there.sessions, row.sessions)
    made_at_an_earlier_now = row.made_us < there.made_us
    far_ahead = there.made_us > row.made_us + SKEW_US
    winner = there if made_at_an_earlier_now and not far_ahead else row
    return Row(there.started_us, winner.ended_us, requests, sessions, winner.source, winner.made_us)


def cells(session: int, row: Row) -> Cells:
    return np.array(
        [
            (
                uuid_bytes(session),
                row.started_us,
                row.ended_us,
                row.requests,
                row.sessions,
                row.source,
                row.made_us,
            )
        ],
        CELLS,
    )


def in_table(connection: psycopg.Connection, session: int) -> Row:
    ((started, ended, requests, sessions, source, made),) = connection.execute(
        "SELECT session_started_at, session_ended_at, requests, sessions, end_source, updated_at"
        " FROM workspace_app_stats WHERE session_id = %s",
        (uuid_bytes(session).hex(),),
    ).fetchall()
    return Row(
        microseconds(started), microseconds(ended), requests, sessions, EndSource[source.upper()], microseconds(made)
    )


def test_upserts_in_any_order_leave_what_the_rule_says(postgres_url: str) -> None:
    migrate(postgres_url)
    session = itertools.count(1)

    with (
        psycopg.connect(postgres_url, autocommit=True) as connection,
        PostgresReporter(postgres_url, max_clock_skew_us=SKEW_US) as reporter,
    ):

        @settings(max_examples=150, deadline=None, database=None)
        @given(st.lists(ROWS, min_size=1, max_size=6))
        def check(sequence: list[Row]) -> None:
            number, expected, waiting = next(session), None, None
            for row in sequence:
                reporter.report(Rows([app()], cells(number, row)))
                expected = outcome(expected, row)
                cell = cells(number, row)
                waiting = cell if waiting is None else merged(waiting, cell, SKEW_US)
                assert in_table(connection, number) == expected
                assert waiting.tolist() == cells(number, expected).tolist()

        check()


@pytest.mark.parametrize("columns", [set(), {"sessions"}, {"end_source"}, {"updated_at"}, {"end_source", "updated_at"}])
def test_a_table_without_our_columns_takes_the_row_written_last_and_counts_never_fall(
    postgres_url: str, columns: set[str]
) -> None:
    types = {"sessions": "integer", "end_source": "text", "updated_at": "timestamptz"}
    query(postgres_url, FOREIGN_STATS)
    for column in columns:
        query(postgres_url, f"ALTER TABLE workspace_app_stats ADD COLUMN {column} {types[column]}")
    query(postgres_url, "CREATE TABLE workspaces (id uuid PRIMARY KEY, last_used_at timestamptz NOT NULL)")
    written = [
        Row(NOW_US, NOW_US + 5, 7, 3, EndSource.LIVE, NOW_US + 1),
        Row(NOW_US, NOW_US + 2, 4, 1, EndSource.INFERRED, NOW_US),
    ]
    with PostgresReporter(postgres_url, max_clock_skew_us=SKEW_US) as reporter:
        for row in written:
            reporter.report(Rows([app()], cells(1, row)))
    last = written[0] if "updated_at" in columns else written[1]
    expected = {"sessions": 3, "end_source": last.source.name.lower(), "updated_at": last.made_us}
    ((ended, requests, *others),) = query(
        postgres_url, "SELECT " + ", ".join(["session_ended_at", "requests", *columns]) + " FROM workspace_app_stats"
    )
    assert (microseconds(ended), requests) == (last.ended_us, 7)
    assert [microseconds(v) if n == "updated_at" else v for n, v in zip(columns, others, strict=True)] == [
        expected[name] for name in columns
    ]


def test_rows_of_a_foreign_table_that_have_no_stamp_yet_take_the_newer_row(postgres_url: str) -> None:
    query(postgres_url, FOREIGN_STATS)
    query(postgres_url, "CREATE TABLE workspaces (id uuid PRIMARY KEY, last_used_at timestamptz NOT NULL)")
    with PostgresReporter(postgres_url) as reporter:
        reporter.report(Rows([app()], cells(1, Row(NOW_US, NOW_US, 1, 1, EndSource.LIVE, NOW_US))))
    query(postgres_url, "ALTER TABLE workspace_app_stats ADD COLUMN updated_at timestamptz")
    with PostgresReporter(postgres_url) as reporter:
        reporter.report(Rows([app()], cells(1, Row(NOW_US, NOW_US + 9, 1, 1, EndSource.LIVE, NOW_US + 9))))
    ((ended, made),) = query(postgres_url, "SELECT session_ended_at, updated_at FROM workspace_app_stats")
    assert (microseconds(ended), microseconds(made)) == (NOW_US + 9, NOW_US + 9)
