"""What the views of docs/usage.md say is what a slow and obvious count of the same rows says."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from appstatsd.collect.rows import EndSource
from appstatsd.store.migrate import migrate
from appstatsd.store.writer import PostgresReporter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.store.samples import FOREIGN_STATS, app, query, rows

TICK = timedelta(seconds=10)
"""All times of the hand-made rows are a whole number of these, so that use can be counted tick by tick."""
BEGIN = datetime(2026, 3, 28, 20, tzinfo=UTC)
TICKS = 3 * 24 * 360
SINCE, UNTIL = 5 * 360 + 7, 60 * 360 + 3
"""A span that begins and ends in the midst of minutes, days and half hours."""


@dataclass(frozen=True)
class Made:
    """One row, its times in ticks since `BEGIN`."""

    user: int
    workspace: int
    slug: str
    start: int
    end: int
    sessions: int
    requests: int

    def ticks(self, since: int = 0, until: int = TICKS * 9) -> range:
        return range(max(self.start, since), min(self.end, until))

    def opened(self, since: int, until: int) -> bool:
        return since <= self.start < until


def at(tick: int) -> datetime:
    return BEGIN + tick * TICK


def day(tick: int) -> date:
    return at(tick).date()


def spans() -> st.SearchStrategy[tuple[int, int]]:
    """Starts and ends anywhere, and often where something begins: a day, a half hour, the span that is asked for."""
    edges = [SINCE - 1, SINCE, UNTIL - 1, UNTIL, 4 * 360, 28 * 360, 28 * 360 + 180, SINCE + 180, SINCE + 8 * 360]
    ticks = st.one_of(st.sampled_from(edges), st.integers(0, TICKS))
    any_two = st.tuples(ticks, ticks).map(lambda both: (min(both), max(both)))
    short = st.tuples(ticks, st.integers(0, 20)).map(lambda both: (both[0], both[0] + both[1]))
    rolled_up = st.integers(0, TICKS // 6).map(lambda minute: (minute * 6, minute * 6 + 6))
    return st.one_of(any_two, short, rolled_up)


@st.composite
def made(draw: st.DrawFn) -> Made:
    start, end = draw(spans())
    return Made(
        draw(st.integers(1, 2)),
        draw(st.integers(1, 2)),
        draw(st.sampled_from(["code", "8080"])),
        start,
        end,
        draw(st.integers(1, 4)),
        draw(st.integers(0, 9)),
    )


@pytest.fixture
def connection(postgres_url: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    migrate(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


INSERT = """
INSERT INTO workspace_app_stats (
    user_id, workspace_id, agent_id, access_method, slug_or_port, session_id,
    session_started_at, session_ended_at, requests, sessions, end_source, updated_at
) VALUES (%s, %s, %s, 'path', %s, %s, %s, %s, %s, %s, %s, %s)
"""


def insert(
    connection: psycopg.Connection[Any],
    row: Made,
    number: int,
    *,
    source: str = "reported",
    updated_at: datetime = BEGIN,
) -> None:
    connection.execute(
        INSERT,
        (
            *(UUID(int=row.user), UUID(int=row.workspace), UUID(int=7), row.slug, UUID(int=1000 + number)),
            *(at(row.start), at(row.end), row.requests, row.sessions, source, updated_at),
        ),
    )


def usage(rows: list[Made], since: int, until: int) -> dict[Any, tuple[int, int, int]]:
    """Ticks, sessions and requests by day, user, workspace and slug."""
    found: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        for tick in row.ticks(since, until):
            found[day(tick), row.user, row.workspace, row.slug][0] += 1
        if row.opened(since, until):
            counts = found[day(row.start), row.user, row.workspace, row.slug]
            counts[1] += row.sessions
            counts[2] += row.requests
    return {key: (ticks, sessions, requests) for key, (ticks, sessions, requests) in found.items()}


def app_usage(rows: list[Made], since: int, until: int) -> dict[Any, tuple[int, int, int, int]]:
    """Users, minutes touched, times opened and requests by day and slug."""
    minutes = defaultdict(set)
    users = defaultdict(set)
    opened: Counter[Any] = Counter()
    requests: Counter[Any] = Counter()
    for row in rows:
        inside = row.ticks(since, until)
        for tick in [*inside, row.start] if row.opened(since, until) else inside:
            minutes[day(tick), row.slug].add((row.user, tick // 6))
            users[day(tick), row.slug].add(row.user)
        if row.opened(since, until):
            opened[day(row.start), row.slug] += row.sessions
            requests[day(row.start), row.slug] += row.requests
    return {key: (len(users[key]), len(minutes[key]), opened[key], requests[key]) for key in minutes}


def time_spent(rows: list[Made], since: int, until: int, ticks_a_bucket: int) -> dict[Any, int]:
    """Ticks by bucket and user in which at least one session was there."""
    spent = defaultdict(set)
    shift = int((BEGIN.timestamp() // 10) % ticks_a_bucket)
    for row in rows:
        for tick in row.ticks(since, until):
            spent[(tick + shift) // ticks_a_bucket * ticks_a_bucket - shift, row.user].add(tick)
    return {key: len(ticks) for key, ticks in spent.items()}


def concurrency(rows: list[Made], since: int, until: int, step: int) -> dict[int, tuple[int, int]]:
    """By bucket, the most rows and the most sessions at one tick."""
    found = {}
    for bucket in range(since, until, step):
        ticks = range(bucket, min(bucket + step, until))
        open_at = [[row for row in rows if row.start <= tick < row.end] for tick in ticks]
        found[bucket] = max(len(rows) for rows in open_at), max(sum(row.sessions for row in rows) for rows in open_at)
    return found


def all_of(connection: psycopg.Connection[Any], query: str, *values: object) -> list[tuple[Any, ...]]:
    return connection.execute(query.encode(), values or None).fetchall()


def ticks_of(seconds: object) -> int:
    ticks = float(str(seconds)) / TICK.total_seconds()
    assert ticks == int(ticks)
    return int(ticks)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(made(), max_size=8),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]),
    rest=st.sampled_from([0, 5]),
)
def test_each_view_of_a_span_says_what_a_count_tick_by_tick_says(
    connection: psycopg.Connection[Any], rows: list[Made], zone: str, rest: int
) -> None:
    span = at(SINCE), at(UNTIL)
    with connection.transaction(force_rollback=True):
        connection.execute(f"SET LOCAL timezone = '{zone}'")  # what the session's zone is must not matter
        for number, row in enumerate(rows):
            insert(connection, row, number)

        def used(call: str, *values: object) -> dict[Any, tuple[int, int, int]]:
            columns = "day, user_id, workspace_id, slug_or_port, seconds, sessions, requests"
            return {
                (day, user.int, workspace.int, slug): (ticks_of(seconds), sessions, requests)
                for day, user, workspace, slug, seconds, sessions, requests in all_of(
                    connection, f"SELECT {columns} FROM {call}", *values
                )
            }

        assert used("appstatsd_usage") == usage(rows, 0, TICKS * 9)
        assert used("appstatsd_usage(%s, %s)", *span) == usage(rows, SINCE, UNTIL)

        def apps(call: str, *values: object) -> dict[Any, tuple[int, int, int, int]]:
            columns = "day, slug_or_port, users, minutes_touched, times_opened, requests"
            found = all_of(connection, f"SELECT {columns} FROM {call}", *values)
            return {(day, slug): (users, minutes, *rest) for day, slug, users, minutes, *rest in found}

        assert apps("appstatsd_app_usage") == app_usage(rows, 0, TICKS * 9)
        assert apps("appstatsd_app_usage(%s, %s)", *span) == app_usage(rows, SINCE, UNTIL)

        def spent(call: str, *values: object) -> dict[Any, int]:
            found = all_of(connection, f"SELECT bucket, user_id, seconds FROM {call}", *values)
            return {((b - BEGIN) // TICK, user.int): ticks_of(seconds) for b, user, seconds in found if seconds}

        half_hour = timedelta(minutes=30)
        assert spent("appstatsd_time_spent(%s, %s, %s)", *span, half_hour) == time_spent(rows, SINCE, UNTIL, 180)
        assert spent("appstatsd_time_spent_30m") == time_spent(rows, 0, TICKS * 9, 180)
        by_day = all_of(connection, "SELECT day, user_id, seconds FROM appstatsd_time_spent")
        assert {(day, user.int): ticks_of(seconds) for day, user, seconds in by_day if seconds} == {
            (day(bucket), user): ticks for (bucket, user), ticks in time_spent(rows, 0, TICKS * 9, 8640).items()
        }
        until = SINCE + 8 * 360 + rest
        found = all_of(
            connection,
            "SELECT bucket, peak_at_least, peak_at_most FROM appstatsd_concurrency(%s, %s, %s)",
            *(at(SINCE), at(until), timedelta(minutes=30)),
        )
        peaks = {(bucket - BEGIN) // TICK: (at_least, at_most) for bucket, at_least, at_most in found}
        assert peaks == concurrency(rows, SINCE, until, 180)


def test_times_are_summed_to_the_microsecond(connection: psycopg.Connection[Any]) -> None:
    begin = datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC)
    for number, (start, end) in enumerate(
        [(begin, begin + timedelta(microseconds=2)), (begin, begin + timedelta(microseconds=1))]
    ):
        connection.execute(
            INSERT,
            (
                *(UUID(int=1), UUID(int=1), UUID(int=1), "code", UUID(int=number + 1)),
                *(start, end, 1, 1, "reported", begin),
            ),
        )
    by_day = all_of(connection, "SELECT day::text, seconds::text FROM appstatsd_usage ORDER BY day")
    assert by_day == [("2026-03-01", "0.000002"), ("2026-03-02", "0.000001")]
    spent = all_of(connection, "SELECT day::text, seconds::text FROM appstatsd_time_spent ORDER BY day")
    assert spent == [("2026-03-01", "0.000001"), ("2026-03-02", "0.000001")]


def test_a_row_that_ends_before_it_starts_is_passed_over(connection: psycopg.Connection[Any]) -> None:
    insert(connection, Made(1, 1, "code", 100, 50, 1, 1), 1)
    insert(connection, Made(1, 1, "code", 100, 106, 1, 1), 2)
    assert all_of(connection, "SELECT seconds::int, sessions FROM appstatsd_usage") == [(60, 1)]
    assert all_of(connection, "SELECT seconds::int FROM appstatsd_time_spent_30m") == [(60,)]
    assert all_of(connection, "SELECT * FROM appstatsd_concurrency") != []


def test_live_sessions_and_orphans_are_told_by_when_they_were_written(connection: psycopg.Connection[Any]) -> None:
    now = datetime.now(UTC)
    insert(connection, Made(1, 1, "code", 0, 60, 1, 3), 1, source="live", updated_at=now - timedelta(seconds=80))
    insert(connection, Made(2, 1, "8080", 0, 60, 1, 4), 2, source="live", updated_at=now - timedelta(seconds=200))
    insert(connection, Made(2, 2, "8080", 0, 60, 1, 4), 3)
    insert(connection, Made(2, 2, "8080", 0, 60, 1, 4), 4, source="inferred")
    live = all_of(connection, "SELECT slug_or_port, since, requests, last_seen_at FROM appstatsd_live ORDER BY 3")
    assert live == [
        ("code", BEGIN, 3, now - timedelta(seconds=80)),
        ("8080", BEGIN, 4, now - timedelta(seconds=200)),
    ]
    assert all_of(connection, "SELECT slug_or_port FROM appstatsd_orphans") == [("8080",)]
    assert all_of(connection, "SELECT 1 FROM appstatsd_orphans(interval '2 minutes')") == []
    assert len(all_of(connection, "SELECT 1 FROM appstatsd_orphans(interval '10 seconds')")) == 2


def test_the_last_use_of_a_workspace_is_its_latest_end(connection: psycopg.Connection[Any]) -> None:
    insert(connection, Made(1, 1, "first", 0, 60, 1, 1), 1)
    insert(connection, Made(2, 1, "last", 10, 90, 1, 1), 2, source="live")
    insert(connection, Made(1, 1, "third", 40, 80, 1, 1), 3)
    insert(connection, Made(3, 2, "other", 0, 6, 1, 1), 4)
    found = all_of(
        connection, "SELECT workspace_id, user_id, slug_or_port, last_used_at, live FROM appstatsd_last_use ORDER BY 1"
    )
    assert found == [
        (UUID(int=1), UUID(int=2), "last", at(90), True),
        (UUID(int=2), UUID(int=3), "other", at(6), False),
    ]


def test_concurrency_of_the_last_day_comes_in_steps_of_five_minutes(connection: psycopg.Connection[Any]) -> None:
    assert len(all_of(connection, "SELECT * FROM appstatsd_concurrency")) == 288


FILL = """
INSERT INTO workspace_app_stats (
    user_id, workspace_id, agent_id, access_method, slug_or_port, session_id,
    session_started_at, session_ended_at, requests, sessions, end_source, updated_at
)
SELECT
    lpad(to_hex(n % 500 + 1), 32, '0')::uuid, lpad(to_hex(n % 700 + 1), 32, '0')::uuid, lpad('7', 32, '0')::uuid,
    'path', 'app' || n % 7, lpad(to_hex(n), 32, '0')::uuid,
    timestamptz '2026-01-01 00:00Z' + n * interval '1 minute',
    timestamptz '2026-01-01 00:00Z' + n * interval '1 minute' + (CASE WHEN n % 9 = 0 THEN n % 900 ELSE 1 END)
        * interval '1 minute',
    n % 100, 1 + n % 3, CASE WHEN n % 10000 = 0 THEN 'live' ELSE 'reported' END, timestamptz '2026-06-01 00:00Z'
FROM generate_series(1, 200000) AS n;
"""

USER = "'00000000-0000-0000-0000-000000000009'"
NARROW = [
    "appstatsd_usage('2026-02-01', '2026-02-02')",
    f"appstatsd_usage WHERE user_id = {USER}",
    f"appstatsd_usage WHERE workspace_id = {USER}",
    "appstatsd_app_usage('2026-02-01', '2026-02-02')",
    "appstatsd_time_spent('2026-02-01', '2026-02-02', '30 minutes')",
    f"appstatsd_time_spent WHERE user_id = {USER}",
    f"appstatsd_time_spent_30m WHERE user_id = {USER}",
    "appstatsd_concurrency('2026-02-01', '2026-02-02', '5 minutes')",
    "appstatsd_concurrency",
    "appstatsd_live",
    f"appstatsd_live WHERE workspace_id = {USER}",
    "appstatsd_orphans",
    f"appstatsd_last_use WHERE workspace_id = {USER}",
]


def looked_at(plan: dict[str, Any]) -> int:
    """How many rows of the table the plan read, those that it then left out included."""
    here = 0
    if plan.get("Relation Name") == "workspace_app_stats":
        left_out = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        here = int((plan["Actual Rows"] + left_out) * plan["Actual Loops"])
    return here + sum(looked_at(part) for part in plan.get("Plans", []))


def test_a_narrow_question_looks_at_few_of_many_rows(connection: psycopg.Connection[Any]) -> None:
    connection.execute(FILL.encode())
    connection.execute("VACUUM ANALYZE workspace_app_stats")
    connection.execute("SET max_parallel_workers_per_gather = 0")  # whose loops would have to be added up otherwise
    for question in NARROW:
        [(answer,)] = all_of(connection, f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) SELECT * FROM {question}")
        [plan] = json.loads(answer) if isinstance(answer, str) else answer
        assert looked_at(plan["Plan"]) < 20_000, question


def test_the_views_keep_nobody_from_dropping_or_altering_the_table(connection: psycopg.Connection[Any]) -> None:
    connection.execute("ALTER TABLE workspace_app_stats ALTER COLUMN slug_or_port TYPE varchar(300)")
    assert all_of(connection, "SELECT * FROM appstatsd_usage") == []
    connection.execute("DROP TABLE workspace_app_stats")


def test_views_do_not_depend_on_the_callers_search_path(connection: psycopg.Connection[Any]) -> None:
    insert(connection, Made(1, 1, "code", 0, 60, 1, 1), 1)
    connection.execute("SET search_path = pg_catalog")
    assert len(all_of(connection, "SELECT * FROM public.appstatsd_usage")) == 1


def test_a_table_of_somebody_elses_gets_views_only_when_they_are_asked_for(postgres_url: str) -> None:
    query(postgres_url, FOREIGN_STATS)
    refused = migrate(postgres_url)
    assert refused.applied == ["workspaces 0001_create"]
    assert any("--usage-views" in line for line in refused.advice)
    given = migrate(postgres_url, usage_views=True)
    assert given.applied == ["appstatsd_usage 0001_create"]
    assert not any("--usage-views" in line for line in given.advice)
    with PostgresReporter(postgres_url) as reporter:
        reporter.report(rows([app(user=1), app(user=2)]))
    assert query(postgres_url, "SELECT sum(seconds)::int, sum(sessions)::int FROM appstatsd_usage") == [(120, 2)]
    assert query(postgres_url, "SELECT live FROM appstatsd_last_use") == [(False,)]
    assert query(postgres_url, "SELECT * FROM appstatsd_live") == []
    assert query(postgres_url, "SELECT * FROM appstatsd_orphans") == []
    assert len(query(postgres_url, "SELECT * FROM appstatsd_concurrency")) == 288


def test_views_follow_the_columns_that_a_foreign_table_gets(postgres_url: str) -> None:
    query(postgres_url, FOREIGN_STATS)
    migrate(postgres_url, usage_views=True)
    query(postgres_url, "ALTER TABLE workspace_app_stats ADD COLUMN sessions integer NOT NULL DEFAULT 5")
    query(postgres_url, "ALTER TABLE workspace_app_stats ADD COLUMN end_source text NOT NULL DEFAULT 'live'")
    assert migrate(postgres_url, usage_views=True).applied == ["appstatsd_usage 0001_create"]
    with PostgresReporter(postgres_url) as reporter:
        reporter.report(rows([app()], source=EndSource.LIVE))
    assert query(postgres_url, "SELECT slug_or_port FROM appstatsd_live") == [("code",)]


def test_views_that_somebody_dropped_are_made_again(postgres_url: str) -> None:
    migrate(postgres_url)
    query(postgres_url, "DROP VIEW appstatsd_usage")
    assert migrate(postgres_url).applied == ["appstatsd_usage 0001_create"]
    assert query(postgres_url, "SELECT * FROM appstatsd_usage") == []
