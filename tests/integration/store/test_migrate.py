"""Tables come to be once, however many hosts make them, and nobody else's table is touched."""

from __future__ import annotations

import threading

import pytest
from appstatsd.errors import StoreUnavailable
from appstatsd.store import schema
from appstatsd.store.migrate import migrate
from appstatsd.store.writer import PostgresReporter

from tests.integration.store.samples import FOREIGN_STATS, FOREIGN_WORKSPACES, count, one_row, query, role

STATS = ["workspace_app_stats 0001_create", "workspace_app_stats 0002_started_index"]
USAGE = "appstatsd_usage 0001_create"
RETENTION = "appstatsd_retention 0001_create"
ALL = [*STATS, "workspaces 0001_create", USAGE, RETENTION]


def definition(url: str, table: str) -> list[tuple[object, ...]]:
    return query(
        url,
        "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)"
        " FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        table,
    )


def test_an_empty_database_gets_the_tables_as_they_are_documented(postgres_url: str) -> None:
    assert migrate(postgres_url).applied == ALL
    time = "timestamp with time zone"
    assert definition(postgres_url, "workspace_app_stats") == [
        ("id", "bigint", True, None),
        ("user_id", "uuid", True, None),
        ("workspace_id", "uuid", True, None),
        ("agent_id", "uuid", True, None),
        ("access_method", "text", True, None),
        ("slug_or_port", "text", True, None),
        ("session_id", "uuid", True, None),
        ("session_started_at", time, True, None),
        ("session_ended_at", time, True, None),
        ("requests", "integer", True, None),
        ("sessions", "integer", True, "1"),
        ("end_source", "text", True, "'reported'::text"),
        ("updated_at", time, True, "now()"),
    ]
    assert definition(postgres_url, "workspaces") == [("id", "uuid", True, None), ("last_used_at", time, True, None)]
    indexes = [text for (text,) in query(postgres_url, "SELECT indexdef FROM pg_indexes WHERE tablename LIKE 'work%'")]
    for part in (
        "UNIQUE INDEX workspace_app_stats_user_id_agent_id_session_id_key ON",
        "USING btree (workspace_id)",
        "USING brin (session_ended_at)",
        "USING brin (session_started_at)",
        "WHERE (end_source = 'live'::text)",
    ):
        assert any(part in text for text in indexes), part
    assert query(postgres_url, "SELECT reloptions FROM pg_class WHERE relname = 'workspace_app_stats'") == [
        (["fillfactor=70"],)
    ]


def test_a_second_migration_does_nothing(postgres_url: str) -> None:
    migrate(postgres_url)
    again = migrate(postgres_url)
    assert (again.applied, again.advice) == ([], [])


def test_many_hosts_may_migrate_at_once(postgres_url: str) -> None:
    results: list[list[str]] = []
    start = threading.Barrier(6)

    def host() -> None:
        start.wait()
        results.append(migrate(postgres_url).applied)

    hosts = [threading.Thread(target=host, name=f"host-{n}") for n in range(6)]
    for thread in hosts:
        thread.start()
    for thread in hosts:
        thread.join()
    assert sorted(results) == [[]] * 5 + [ALL]


def test_a_migration_that_fails_leaves_nothing_behind(postgres_url: str) -> None:
    query(postgres_url, "CREATE TABLE other (id integer)")
    query(postgres_url, "CREATE INDEX workspace_app_stats_live_idx ON other (id)")
    with pytest.raises(StoreUnavailable):
        migrate(postgres_url)
    assert query(postgres_url, "SELECT 1 FROM pg_class WHERE relname ~ '^(appstatsd|workspace_app_stats$)'") == []


def test_tables_of_somebody_elses_are_left_as_they_are_with_advice(postgres_url: str) -> None:
    query(postgres_url, FOREIGN_STATS)
    query(postgres_url, FOREIGN_WORKSPACES)
    query(postgres_url, "CREATE INDEX ON workspace_app_stats (session_ended_at)")
    before = [definition(postgres_url, table) for table in ("workspace_app_stats", "workspaces")]
    done = migrate(postgres_url)
    assert done.applied == []
    assert [definition(postgres_url, table) for table in ("workspace_app_stats", "workspaces")] == before
    assert query(postgres_url, "SELECT to_regclass('appstatsd_migrations')::text") == [(None,)]
    text = "\n".join(done.advice)
    for word in ("sessions", "end_source", "updated_at", "fillfactor", "brin", "DROP INDEX", "--last-used-at"):
        assert word in text
    assert "UNIQUE" not in text


def test_advice_that_was_followed_is_not_given_again(postgres_url: str) -> None:
    query(postgres_url, FOREIGN_STATS)
    query(postgres_url, FOREIGN_WORKSPACES)
    statements = [line for line in migrate(postgres_url).advice if line.startswith(("ALTER", "CREATE"))]
    for statement in statements:
        query(postgres_url, statement)
    assert [line for line in migrate(postgres_url).advice if "workspace_app_stats" in line] == []
    with PostgresReporter(postgres_url) as reporter:
        reporter.report(one_row())
    assert query(postgres_url, "SELECT sessions, end_source FROM workspace_app_stats") == [(1, "reported")]


def test_a_foreign_table_that_lacks_what_a_row_needs_says_so(postgres_url: str) -> None:
    query(postgres_url, "CREATE TABLE workspace_app_stats (id bigint)")
    advice = migrate(postgres_url).advice
    assert any("needs a column session_id" in line for line in advice)


def test_a_foreign_table_beside_one_of_ours_stays_foreign(postgres_url: str) -> None:
    query(postgres_url, FOREIGN_WORKSPACES)
    assert migrate(postgres_url).applied == [*STATS, USAGE, RETENTION]
    with PostgresReporter(postgres_url) as reporter:
        reporter.report(one_row())
    assert count(postgres_url) == 1


def test_a_table_that_was_dropped_is_made_again(postgres_url: str) -> None:
    migrate(postgres_url)
    query(postgres_url, "DROP TABLE workspace_app_stats")
    assert migrate(postgres_url).applied == STATS
    assert migrate(postgres_url).applied == []


def test_a_table_that_replaced_ours_is_not_altered(postgres_url: str) -> None:
    migrate(postgres_url)
    query(postgres_url, "DROP TABLE workspace_app_stats")
    query(postgres_url, FOREIGN_STATS)
    done = migrate(postgres_url)
    assert done.applied == []
    assert any("ADD COLUMN sessions" in line for line in done.advice)


def test_a_table_behind_this_program_counts_as_unavailable_and_one_ahead_of_it_serves(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(postgres_url)
    query(postgres_url, "INSERT INTO appstatsd_migrations VALUES ('workspace_app_stats', 99, '0099_later')")
    with PostgresReporter(postgres_url) as reporter:
        reporter.probe()
    monkeypatch.setattr(schema, "migrations", lambda table: [(1, "0001_create"), (2, "0002_next")])
    with (
        PostgresReporter(postgres_url) as reporter,
        pytest.raises(StoreUnavailable, match=r"workspaces is not up to date: it is at version 1.*needs 2"),
    ):
        reporter.probe()


def test_who_may_not_create_tables_is_told_so(postgres_url: str) -> None:
    with role(postgres_url, "weak") as weak, pytest.raises(StoreUnavailable) as caught:
        migrate(weak)
    assert caught.value.sqlstate == "42501"


def test_a_daemon_reads_what_was_migrated_under_a_lesser_role(postgres_url: str) -> None:
    migrate(postgres_url)
    with role(postgres_url, "lesser") as lesser:
        name = lesser.partition("//")[2].partition("@")[0]
        query(postgres_url, f"GRANT SELECT, INSERT, UPDATE ON workspace_app_stats, workspaces TO {name}")
        with PostgresReporter(lesser) as reporter:
            reporter.report(one_row())
    assert query(postgres_url, "SELECT count(*) FROM workspaces") == [(1,)]


def test_an_unreachable_database_is_said_without_its_password() -> None:
    with pytest.raises(StoreUnavailable, match="refused") as caught:
        migrate("postgresql://ann:s3cret@127.0.0.1:1/none")
    assert "s3cret" not in str(caught.value)
