"""Through a transaction-pooling proxy, where every transaction may meet another session, and none may leave a trace."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from appstatsd.errors import StoreUnavailable
from appstatsd.store import launch
from appstatsd.store.migrate import migrate
from appstatsd.store.writer import PostgresReporter
from psycopg.conninfo import conninfo_to_dict

from tests.integration.store.samples import NOW_US, app, count, query, rows

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="needs pgbouncer (Debian package pgbouncer)")


@pytest.fixture
def pooled_url(postgres_url: str, tmp_path: Path) -> Iterator[str]:
    """The test's database through a PgBouncer with two sessions for all clients."""
    assert PGBOUNCER is not None
    target = conninfo_to_dict(postgres_url)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = tmp_path / "pgbouncer.ini"
    (tmp_path / "users.txt").write_text('"postgres" ""\n')
    settings.write_text(
        f"""[databases]
* = host={target["host"]} port={target["port"]}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {tmp_path / "users.txt"}
pool_mode = transaction
default_pool_size = 2
"""
    )
    process = subprocess.Popen(
        launch.command(Path(PGBOUNCER), [str(settings)], death_signal=signal.SIGKILL, account=launch.account()),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = f"postgresql://postgres@127.0.0.1:{port}/{target['dbname']}"
        wait_until_it_answers(url, process)
        yield url
    finally:
        process.kill()
        process.communicate()


def wait_until_it_answers(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(url).close()
            return
    process.kill()
    pytest.fail(f"PgBouncer does not answer: {process.communicate()[1]}")


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
