"""Old rows leave a real PostgreSQL: by a daemon, and by hand."""

from __future__ import annotations

import socket
import subprocess
import urllib.request

import psycopg
import pytest

from tests.support.daemon import COMMAND, eventually
from tests.support.raw_client import Client, fresh, now_us
from tests.support.reports import HOUR, SECOND, app, report
from tests.support.table import rows
from tests.system.conftest import NewDaemon


def old_and_new(url: str, old: int, new: int) -> None:
    """Write so many rows that ended 100 days ago, so many that ended just now, and one that goes on since then."""
    with psycopg.connect(url) as connection:
        for days, number, source in ((100, old, "reported"), (0, new, "reported"), (100, 1, "live")):
            connection.execute(
                "INSERT INTO workspace_app_stats (user_id, workspace_id, agent_id, access_method, slug_or_port,"
                " session_id, session_started_at, session_ended_at, requests, end_source)"
                " SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'path', 'code', gen_random_uuid(),"
                " at, at, 1, %s FROM generate_series(1, %s), (SELECT now() - make_interval(days => %s) AS at) AS age",
                (source, number, days),
            )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_a_daemon_removes_what_is_older_than_its_retention_and_says_so(
    new_daemon: NewDaemon, database_url: str
) -> None:
    old_and_new(database_url, 5_000, 20)
    port = free_port()
    first = new_daemon(database_url, "--retention=90d", "--report-interval=1h", f"--metrics-listen=127.0.0.1:{port}")
    first.start()
    event = first.wait_for_event("Old rows were removed")
    assert event["rows"] == 5_000
    assert len(rows(database_url)) == 21
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
        assert "appstatsd_rows_removed_total 5000.0" in response.read().decode()

    old_and_new(database_url, 10, 0)
    second = new_daemon(database_url, "--retention=90d", "--report-interval=1h")
    second.start()
    with Client(second.target) as client:  # which writes meanwhile, and finds that no pass is due
        [number] = fresh()
        client.report(report(number, now_us() - HOUR, now_us() - HOUR + SECOND, of=app(number)))
        second.flush()
    assert len(rows(database_url)) == 33
    assert second.stop() == first.stop() == 0


def test_without_it_nothing_is_removed(new_daemon: NewDaemon, database_url: str) -> None:
    old_and_new(database_url, 10, 0)
    daemon = new_daemon(database_url, "--report-interval=1h")
    daemon.start()
    eventually(lambda: daemon.health("database"), lambda health: health == "SERVING")
    assert daemon.stop() == 0
    assert len(rows(database_url)) == 11


@pytest.mark.parametrize("where", ["flag", "file"])
def test_by_hand_it_counts_first_and_removes_then(
    database_url: str, where: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    old_and_new(database_url, 3_000, 20)
    path = tmp_path_factory.mktemp("url") / "url"
    path.write_text(database_url)
    flag = f"--database-url={database_url}" if where == "flag" else f"--database-url-file={path}"

    def prune(*flags: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [COMMAND, "prune", "--older-than", "90d", flag, *flags],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    status, out, err = prune("--dry-run")
    assert (status, out) == (0, "3,000 rows would be removed\n")
    assert err.endswith("100 % of the table, 3,000 rows so far\n")
    assert len(rows(database_url)) == 3_021
    assert prune()[:2] == (0, "3,000 rows removed\n")
    assert prune()[:2] == (0, "0 rows removed\n")
    assert len(rows(database_url)) == 21


def test_what_is_asked_for_by_hand_must_make_sense(database_url: str) -> None:
    for flags, words in (
        ((f"--database-url={database_url}",), "--older-than"),
        (("--older-than=90", f"--database-url={database_url}"), "allowed is a duration from 1h to 36500d"),
        (("--older-than=5m", f"--database-url={database_url}"), "allowed is a duration from 1h to 36500d"),
        (("--older-than=90d",), "--database-url is not set"),
    ):
        done = subprocess.run([COMMAND, "prune", *flags], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert words in done.stderr
    gone = subprocess.run(
        [COMMAND, "prune", "--older-than=90d", "--database-url=postgresql://nobody@127.0.0.1:1/none"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (gone.returncode, gone.stderr.count("\n")) == (1, 1), gone.stderr
