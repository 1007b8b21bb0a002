"""What the real PostgreSQL says, and what it is taken for: only the content of a row can cost a row."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from appstatsd.errors import RowsRefused, StoreUnavailable
from appstatsd.store.errors import classified, ends_connection
from appstatsd.store.migrate import migrate
from appstatsd.store.schema import LastUsedAt
from appstatsd.store.writer import PostgresReporter

from tests.integration.store.samples import (
    FOREIGN_STATS,
    FOREIGN_WORKSPACES,
    NOW_US,
    app,
    count,
    database_name,
    one_row,
    query,
    role,
    rows,
)
from tests.support.postgres import PostgresServer


@pytest.fixture
def url(postgres_url: str) -> str:
    """A database with both tables, made by our migration."""
    migrate(postgres_url)
    return postgres_url


@contextlib.contextmanager
def holding(url: str, *statements: str) -> Iterator[psycopg.Connection]:
    """Somebody else's open transaction."""
    with psycopg.connect(url) as connection:
        for statement in statements:
            connection.execute(statement.encode())
        yield connection
        connection.rollback()


def wait_for_waiter(holder: psycopg.Connection) -> None:
    """Until somebody waits for a row that the holder's transaction has locked."""
    deadline = time.monotonic() + 30
    while holder.execute("SELECT 1 FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))").rowcount == 0:
        assert time.monotonic() < deadline, "nobody waits"


def refusal(reporter: PostgresReporter, slug: str = "code", requests: int = 1) -> RowsRefused:
    with pytest.raises(RowsRefused) as caught:
        reporter.report(one_row(slug, requests))
    return caught.value


def trouble(reporter: PostgresReporter) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as caught:
        reporter.report(one_row())
    return caught.value


# The content of a row


@pytest.mark.parametrize(("slug", "sqlstate"), [("a\0b", "22021"), ("x" * 257, "22001")])
def test_text_that_no_column_holds_costs_the_row(url: str, slug: str, sqlstate: str) -> None:
    with PostgresReporter(url) as reporter:
        assert refusal(reporter, slug).sqlstate == sqlstate


def test_text_that_is_not_utf_8_costs_the_row(url: str) -> None:
    broken = one_row()
    broken.apps[0] = type(broken.apps[0])(broken.apps[0][:49] + b"\xff\xfe")
    with PostgresReporter(url) as reporter, pytest.raises(RowsRefused) as caught:
        reporter.report(broken)
    assert caught.value.sqlstate == "22021"


def test_a_count_that_a_check_forbids_costs_the_row_with_the_servers_own_words(url: str) -> None:
    with PostgresReporter(url) as reporter:
        refused = refusal(reporter, requests=-1)
    assert refused.sqlstate == "23514"
    assert 'violates check constraint "workspace_app_stats_requests_check"; Failing row contains' in refused.message


def test_an_id_that_a_foreign_key_does_not_know_costs_the_row(url: str) -> None:
    query(url, "CREATE TABLE users (id uuid PRIMARY KEY)")
    query(url, "ALTER TABLE workspace_app_stats ADD FOREIGN KEY (user_id) REFERENCES users")
    with PostgresReporter(url) as reporter:
        assert refusal(reporter).sqlstate == "23503"


def test_a_session_that_another_unique_index_holds_costs_the_row(url: str) -> None:
    query(url, "CREATE UNIQUE INDEX ON workspace_app_stats (session_id)")
    with PostgresReporter(url) as reporter:
        reporter.report(rows([app(user=1)]))
        with pytest.raises(RowsRefused) as caught:
            reporter.report(rows([app(user=2)]))
    assert caught.value.sqlstate == "23505"


def test_what_the_client_library_itself_refuses_costs_the_row(url: str) -> None:
    # By binary COPY the server refuses a NUL (22021). By text it is the library, and without a SQLSTATE.
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TEMPORARY TABLE texts (text text)")
        connection.commit()
        for text, kind in (("a\0b", psycopg.DataError), ("\ud800", UnicodeEncodeError)):
            with (
                pytest.raises(kind) as caught,
                connection.transaction(),
                connection.cursor().copy("COPY texts FROM STDIN") as copy,
            ):
                copy.write_row((text,))
            assert isinstance(caught.value, psycopg.Error | UnicodeError)
            refused = classified(caught.value, "")
            assert isinstance(refused, RowsRefused)
            assert refused.sqlstate is None
            assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_an_exception_during_copy_looks_like_a_time_out_to_the_server_alone(
    new_postgres: Callable[[], PostgresServer],
) -> None:
    server = new_postgres()
    server.set("log_error_verbosity", "verbose")
    with psycopg.connect(server.url()) as connection:
        connection.execute("CREATE TEMPORARY TABLE texts (text text)")
        with pytest.raises(psycopg.DataError) as caught, connection.cursor().copy("COPY texts FROM STDIN") as copy:
            copy.write_row(("a\0b",))
    server.stop()
    assert any("57014" in line and "COPY from stdin failed" in line for line in server.log)
    assert isinstance(classified(caught.value, ""), RowsRefused)


# The table, which no row can help


def test_a_missing_table_says_what_to_run(url: str) -> None:
    with PostgresReporter(url) as reporter:
        reporter.report(one_row())
        query(url, "DROP TABLE workspace_app_stats")
        first, second = trouble(reporter), trouble(reporter)
        migrate(url)
        reporter.report(one_row())
    assert first.sqlstate == "42P01"
    for error in (first, second):
        assert error.advice == f"run: appstatsd migrate --database-url '{url}'"


def test_a_missing_column_says_what_to_run(url: str) -> None:
    query(url, "ALTER TABLE workspace_app_stats DROP COLUMN requests")
    with PostgresReporter(url) as reporter:
        error = trouble(reporter)
    assert "no column requests" in error.message
    assert "appstatsd migrate" in error.advice


def test_a_missing_unique_index_says_what_to_create(url: str) -> None:
    query(url, "ALTER TABLE workspace_app_stats DROP CONSTRAINT workspace_app_stats_user_id_agent_id_session_id_key")
    with PostgresReporter(url) as reporter:
        error = trouble(reporter)
    assert error.sqlstate == "42P10"
    assert "unique index" in error.advice


def test_a_column_of_another_type_is_the_tables_doing(url: str) -> None:
    query(url, "ALTER TABLE workspace_app_stats ALTER COLUMN access_method TYPE bytea USING ''")
    with PostgresReporter(url) as reporter:
        assert trouble(reporter).sqlstate == "42804"


@pytest.mark.parametrize("table", ["workspace_app_stats", "workspaces"])
def test_a_column_of_somebody_elses_that_must_be_filled_costs_no_row(postgres_url: str, table: str) -> None:
    query(postgres_url, FOREIGN_STATS)
    query(postgres_url, FOREIGN_WORKSPACES)
    query(postgres_url, f"ALTER TABLE {table} ADD COLUMN theirs text NOT NULL")
    with PostgresReporter(postgres_url, last_used_at=LastUsedAt.UPSERT) as reporter:
        error = trouble(reporter)
    assert error.sqlstate == "23502"
    assert "--last-used-at=update" in error.advice


def test_a_missing_privilege_says_what_to_grant(url: str) -> None:
    with role(url, "weak") as weak, PostgresReporter(weak) as reporter:
        error = trouble(reporter)
        assert error.sqlstate == "42501"
        assert "INSERT" in error.advice
        name = weak.partition("//")[2].partition("@")[0]
        query(url, f"GRANT SELECT, INSERT, UPDATE ON workspace_app_stats, workspaces TO {name}")
        reporter.report(one_row())


# The server


def test_a_statement_that_takes_too_long_costs_no_row(url: str) -> None:
    query(
        url, "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'"
    )
    query(url, "CREATE TRIGGER slow BEFORE INSERT ON workspace_app_stats FOR EACH ROW EXECUTE FUNCTION slow()")
    with PostgresReporter(url, flush_timeout_seconds=0.5) as reporter:
        error = trouble(reporter)
        query(url, "DROP TRIGGER slow ON workspace_app_stats")
        reporter.report(one_row())
    assert error.sqlstate == "57014"


def test_a_lock_that_somebody_holds_too_long_costs_no_row(url: str) -> None:
    with PostgresReporter(url, flush_timeout_seconds=0.5) as reporter:
        reporter.report(one_row())
        with holding(url, "LOCK TABLE workspaces"):
            assert trouble(reporter).sqlstate == "55P03"
        reporter.report(one_row())


def test_a_deadlock_with_somebody_careless_is_no_trouble_but_tried_again_at_once(url: str) -> None:
    with PostgresReporter(url) as reporter:
        reporter.report(rows([app(workspace=1), app(workspace=2)]))
        met: list[StoreUnavailable] = []

        def report() -> None:
            try:
                later = NOW_US + 1
                reporter.report(rows([app(workspace=1), app(workspace=2)], made_us=later, ended_us=later))
            except StoreUnavailable as error:
                met.append(error)

        with holding(
            url,
            "SET deadlock_timeout = '100s'",  # so that it is the reporter that finds out
            "UPDATE workspaces SET last_used_at = last_used_at WHERE id = '00000000-0000-0000-0000-000000000002'",
        ) as other:
            thread = threading.Thread(target=report, name="reporter")
            thread.start()
            wait_for_waiter(other)
            other.execute(
                "UPDATE workspaces SET last_used_at = last_used_at WHERE id = '00000000-0000-0000-0000-000000000001'"
            )
            other.commit()
            thread.join()
    assert met == []
    assert query(url, "SELECT count(*) FROM workspaces WHERE last_used_at > to_timestamp(%s)", NOW_US / 1e6) == [(2,)]


def test_a_database_that_defaults_to_serializable_is_written_all_the_same(url: str) -> None:
    query(url, f"ALTER DATABASE {database_name(url)} SET default_transaction_isolation = 'serializable'")
    query(
        url,
        "CREATE FUNCTION only_read_committed() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
        "IF current_setting('transaction_isolation') = 'read committed' THEN RETURN new; END IF; "
        "RAISE EXCEPTION 'not read committed'; END$$",
    )
    query(
        url,
        "CREATE TRIGGER only_read_committed BEFORE INSERT ON workspace_app_stats "
        "FOR EACH ROW EXECUTE FUNCTION only_read_committed()",
    )
    with PostgresReporter(url) as reporter:
        reporter.report(rows([app()]))
        with holding(url, "UPDATE workspaces SET last_used_at = last_used_at") as other:
            thread = threading.Thread(
                target=lambda: reporter.report(rows([app()], made_us=NOW_US + 1, ended_us=NOW_US + 1)), name="reporter"
            )
            thread.start()
            wait_for_waiter(other)
            other.commit()
            thread.join()
    assert query(url, "SELECT count(*) FROM workspaces WHERE last_used_at > to_timestamp(%s)", NOW_US / 1e6) == [(1,)]


@pytest.mark.parametrize(
    ("raised", "advised"),
    [
        ("40001", ""),  # serialization failure
        ("53100", "free disk space"),  # disk full
        ("53200", "resource"),  # out of memory
        ("58030", "log"),  # an I/O error of the server's
        ("XX001", "damaged"),  # data corrupted
        ("P0001", ""),  # a trigger of somebody's raises
    ],
)
def test_what_only_the_server_can_mend_costs_no_row(url: str, raised: str, advised: str) -> None:
    query(
        url,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$BEGIN RAISE EXCEPTION 'as if' USING ERRCODE = '{raised}'; END$$",
    )
    query(url, "CREATE TRIGGER fail BEFORE INSERT ON workspace_app_stats FOR EACH ROW EXECUTE FUNCTION fail()")
    with PostgresReporter(url) as reporter:
        error = trouble(reporter)
    assert error.sqlstate == raised
    assert advised in error.advice


def test_a_server_that_became_read_only_is_left_and_found_again(new_postgres: Callable[[], PostgresServer]) -> None:
    server = new_postgres()
    url = server.url()
    migrate(url)
    with PostgresReporter(f"{url}&target_session_attrs=any") as reporter:
        reporter.report(one_row())
        server.set_read_only(True)
        error = trouble(reporter)
        assert error.sqlstate == "25006"
        assert "primary" in error.advice
        server.set_read_only(False)
        reporter.report(one_row())
        assert reporter.figures()["connections_num"] > 1
    with PostgresReporter(url) as reporter:
        reporter.report(one_row())
        server.set_read_only(True)
        assert trouble(reporter).sqlstate == "25006"
        assert "read-only" in trouble(reporter).message
        server.set_read_only(False)
        reporter.report(one_row())
    assert count(url) == 4


def test_connections_that_an_administrator_ended_are_replaced_unseen(url: str) -> None:
    with PostgresReporter(url) as reporter:
        reporter.report(one_row())
        query(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'appstatsd'")
        reporter.report(one_row())
    assert count(url) == 2


def test_a_connection_ended_in_the_middle_of_a_call_costs_no_row(url: str) -> None:
    query(
        url,
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NEW; END'",
    )
    query(url, "CREATE TRIGGER die BEFORE INSERT ON workspace_app_stats FOR EACH ROW EXECUTE FUNCTION die()")
    with PostgresReporter(url) as reporter:
        error = trouble(reporter)
        query(url, "DROP TRIGGER die ON workspace_app_stats")
        reporter.report(one_row())
    assert error.sqlstate == "57P01"


def test_a_restart_between_two_calls_goes_unseen(new_postgres: Callable[[], PostgresServer]) -> None:
    server = new_postgres()
    migrate(server.url())
    with PostgresReporter(server.url(), pool_min_size=3) as reporter:
        reporter.report(one_row())
        server.restart()
        reporter.report(one_row())
        server.stop_hard()
        down = trouble(reporter)
        server.start()
        reporter.report(one_row())
    assert down.sqlstate is None
    assert "connection" in down.message
    assert count(server.url()) == 3


def test_a_refused_connection_is_said_at_once() -> None:
    with PostgresReporter("postgresql://ann:s3cret@127.0.0.1:1/none", flush_timeout_seconds=60) as reporter:
        error = trouble(reporter)
        assert reporter.figures().get("requests_num", 0) == 0, "it waited for the pool"
    assert "refused" in error.message
    assert "s3cret" not in str(error)


def test_a_full_server_says_what_to_raise(new_postgres: Callable[[], PostgresServer]) -> None:
    server = new_postgres()
    migrate(server.url())
    query(server.url(), "CREATE ROLE plain LOGIN IN ROLE pg_write_all_data, pg_read_all_data")
    plain = server.url().replace("postgres@", "plain@")
    with contextlib.ExitStack() as others:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                others.enter_context(psycopg.connect(plain))
        with PostgresReporter(plain) as reporter:
            error = trouble(reporter)
            others.close()
            reporter.report(one_row())
    assert "max_connections" in error.advice


@pytest.mark.parametrize(
    ("user", "password", "database", "advised"),
    [
        ("nobody_knows", "", "", "correct user or password"),
        ("secretive", ":wrong", "", "correct user or password"),
        ("secretive", "", "", "correct user or password"),
        ("postgres", "", "no_such", "create the database"),
    ],
)
def test_a_connection_that_is_refused_for_its_parameters_says_which(
    new_postgres: Callable[[], PostgresServer], user: str, password: str, database: str, advised: str
) -> None:
    server = new_postgres()
    query(server.url(), "CREATE ROLE secretive LOGIN PASSWORD 'right'")
    rules = server.data / "pg_hba.conf"
    rules.write_text("host all secretive all scram-sha-256\n" + rules.read_text())
    query(server.url(), "SELECT pg_reload_conf()")
    url = f"postgresql://{user}{password}@127.0.0.1:{server.port}/{database or 'postgres'}"
    with PostgresReporter(url) as reporter:
        error = trouble(reporter)
    assert advised in error.advice
    assert "wrong" not in str(error)


def test_a_connection_is_given_up_for_what_its_server_met_and_kept_for_what_a_row_met() -> None:
    for sqlstate, ends in (
        ("08006", True),
        ("57P01", True),
        ("57P03", True),
        ("25006", True),
        ("57014", False),
        ("22021", False),
        ("40P01", False),
    ):
        assert ends_connection(psycopg.errors.lookup(sqlstate)("")) is ends
    assert ends_connection(psycopg.OperationalError("server closed the connection unexpectedly"))
    assert not ends_connection(psycopg.DataError("a NUL"))
    assert not ends_connection(KeyError())
