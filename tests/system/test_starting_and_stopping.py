"""How a daemon process starts, stops, and what it does with what is under way (SPEC section 2 rule 8, section 6)."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psycopg
import pytest
from appstatsd.collect.rows import EndSource
from appstatsd.store.migrate import migrate

from tests.support.daemon import DaemonProcess, eventually
from tests.support.postgres import PostgresServer
from tests.support.processes import Watched, children
from tests.support.raw_client import Client, Ended, RawStream, fresh, now_us, request
from tests.support.reports import HOUR, MINUTE, Report, app, report
from tests.support.table import rows
from tests.system.conftest import NewDaemon

STOPPED = Ended(grpc.StatusCode.UNAVAILABLE, "the daemon stops; it will be back", {"appstats-retry-delay-ms": "1000"})


@pytest.fixture
def number() -> int:
    [number] = fresh()
    return number


def ended(number: int, place: int = 0) -> Report:
    end = now_us() - MINUTE
    return report(number * 1_000 + place, end - 10 * MINUTE, end, of=app(number))


def live(number: int, place: int, start: int) -> Report:
    return report(number * 1_000 + place, start, of=app(number))


@pytest.fixture
def daemon(new_daemon: NewDaemon, database_url: str) -> DaemonProcess:
    daemon = new_daemon(database_url, "--report-interval=1h")
    daemon.start()
    return daemon


@pytest.fixture
def table_lock(database_url: str) -> Iterator[Callable[[], None]]:
    """Nothing can be written until this is called."""
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE workspace_app_stats IN EXCLUSIVE MODE")
        yield connection.rollback


def writes_wait(url: str) -> None:
    """Wait until a write is held back by the lock."""

    def waiting() -> int:
        with psycopg.connect(url) as connection:
            [[count]] = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchall()
        return int(count)

    eventually(waiting, lambda count: count > 0)


NEEDED_BY_OTHERS = {
    *("appstatsd.cli.demo", "appstatsd.cli.usage", "appstatsd.backfill", "rich.console", "matplotlib"),
    *("appstatsd.observe.metrics", "prometheus_client", "http.server", "wsgiref.simple_server"),  # --metrics-listen
    *("appstatsd.activity.hook", "appstatsd.activity.notify", "http.client", "urllib.request"),  # --activity-*
    *("appstatsd.ingest.access_logs", "envoy"),  # --als-*
    *("tomllib", "difflib"),  # --config, and names that are misspelled
    "_hashlib",  # hashlib and secrets, which bring OpenSSL for what xxhash and the kernel do as well
    "numpy.ma",  # np.unique and its like, which are slow besides
}
"""What takes its time and its memory to load, and is of no use to a daemon with every other setting at its default."""


class TestStarting:
    def test_it_loads_nothing_that_only_others_need_not_even_for_a_flush(
        self, tmp_path: Path, database_url: str
    ) -> None:
        daemon = DaemonProcess(tmp_path, database_url, environment={"PYTHONPROFILEIMPORTTIME": "1"})
        daemon.start()
        daemon.flush()
        daemon.kill()
        loaded = {line.rpartition("|")[2].strip() for line in daemon.output if line.startswith("import time:")}
        assert loaded > {"grpc", "numpy", "psycopg", "appstatsd.daemon"}
        assert loaded & NEEDED_BY_OTHERS == set()


class TestStopping:
    @pytest.mark.parametrize("number_of_signal", [signal.SIGTERM, signal.SIGINT])
    def test_it_writes_what_it_has_ends_its_streams_and_leaves_nothing(
        self, daemon: DaemonProcess, database_url: str, number: int, number_of_signal: signal.Signals
    ) -> None:
        processes = Watched(daemon.pid, *children(daemon.pid))
        with Client(daemon.target) as client, RawStream(daemon.target) as silent:
            client.report(ended(number, 1), ended(number, 2))
            eventually(lambda: daemon.status().connected_streams, lambda count: count == 2)
            daemon.signal(number_of_signal)
            assert client.stream.end() == STOPPED
            assert silent.end() == STOPPED
            assert daemon.wait() == 0
        assert len(rows(database_url)) == 2
        assert processes.living() == []
        processes.close()
        assert {each.name for each in daemon.folder.iterdir()} == {"a.sock.lock", "state"}
        assert daemon.log[-1]["event"] == "Stopped"

    def test_it_serves_while_it_flushes_and_writes_what_came_in_meanwhile(
        self, daemon: DaemonProcess, database_url: str, number: int, table_lock: Callable[[], None]
    ) -> None:
        with Client(daemon.target) as client:
            client.report(ended(number, 1))
            daemon.signal(signal.SIGTERM)
            writes_wait(database_url)
            client.report(ended(number, 2))
            with Client(daemon.target) as other:
                other.report(ended(number, 3))
                table_lock()
                assert client.stream.end() == STOPPED
                assert other.stream.end() == STOPPED
        assert daemon.wait() == 0
        assert len(rows(database_url)) == 3

    def test_the_socket_goes_last_and_whoever_comes_late_is_told_when_to_come_back(
        self, new_daemon: NewDaemon, new_postgres: Callable[[], PostgresServer], number: int
    ) -> None:
        server = new_postgres()
        migrate(server.url())
        daemon = new_daemon(server.url(), "--report-interval=1h", "--flush-timeout=3s")
        daemon.start()
        with Client(daemon.target) as client:
            client.report(ended(number, 1))
            with server.frozen():  # so that the last flush takes its time
                daemon.signal(signal.SIGTERM)
                assert client.stream.end() == STOPPED
                with RawStream(daemon.target) as late:
                    assert late.end() == STOPPED
        assert daemon.wait() == 0
        assert not daemon.socket.exists()

    def test_live_sessions_that_still_wait_are_not_written(
        self, daemon: DaemonProcess, database_url: str, number: int
    ) -> None:
        with Client(daemon.target) as client:
            client.report(live(number, 1, now_us()), live(number, 2, now_us() - HOUR))
            assert daemon.stop() == 0
        [row] = rows(database_url).values()
        assert row.end_source is EndSource.LIVE

    def test_a_client_that_reads_nothing_does_not_keep_it_from_its_last_flush(
        self, daemon: DaemonProcess, database_url: str, number: int, table_lock: Callable[[], None]
    ) -> None:
        bad = request(1, [report(place, of=app(1, slug="é" * 257)) for place in range(2_000)])
        with RawStream(daemon.target, reads=False) as stuck, Client(daemon.target) as client:
            stuck.send(request(client_id=f"stuck-{number}"))
            for sequence in range(1, 81):
                bad.sequence = sequence
                stuck.send(bad)
            eventually(lambda: daemon.status().reports_rejected, lambda count: count >= 32 * 2_000)
            client.report(ended(number, 1))
            daemon.signal(signal.SIGTERM)
            writes_wait(database_url)
            client.report(ended(number, 2))
            table_lock()
            assert client.stream.end() == STOPPED
            assert daemon.wait() == 0
        assert len(rows(database_url)) == 2

    def test_a_second_signal_stops_it_at_once(
        self, daemon: DaemonProcess, database_url: str, number: int, table_lock: Callable[[], None]
    ) -> None:
        processes = Watched(daemon.pid, *children(daemon.pid))
        with Client(daemon.target) as client:
            client.report(ended(number))
            daemon.signal(signal.SIGTERM)
            writes_wait(database_url)
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == 1
        assert daemon.log[-1]["event"] == "Stopping at once, as asked for a second time"
        assert processes.living() == []
        processes.close()
        table_lock()
        assert rows(database_url) == {}


class TestWithoutDatabase:
    def test_it_starts_and_takes_reports_and_writes_them_once_the_database_is_there(
        self, new_daemon: NewDaemon, new_postgres: Callable[[], PostgresServer], number: int
    ) -> None:
        server = new_postgres()
        migrate(server.url())
        server.stop()
        daemon = new_daemon(server.url(), "--report-interval=1h")
        daemon.start()
        daemon.wait_for_event("database")
        with Client(daemon.target) as client:
            client.report(ended(number))
            server.start()
            daemon.flush()
            assert len(rows(server.url())) == 1

    def test_tables_that_are_not_there_count_as_a_database_that_is_away(
        self, new_daemon: NewDaemon, postgres_url: str, number: int
    ) -> None:
        daemon = new_daemon(postgres_url, "--report-interval=1h")
        daemon.start()
        with Client(daemon.target) as client:
            client.report(ended(number))
            with pytest.raises(grpc.RpcError) as caught:
                daemon.flush()
            assert "appstatsd migrate" in caught.value.details()
            migrate(postgres_url)
            daemon.flush()
            assert len(rows(postgres_url)) == 1

    def test_a_clean_stop_says_what_is_lost_without_a_journal(
        self, new_daemon: NewDaemon, new_postgres: Callable[[], PostgresServer], number: int
    ) -> None:
        server = new_postgres()
        migrate(server.url())
        daemon = new_daemon(server.url(), "--report-interval=1h")
        daemon.start()
        with Client(daemon.target) as client:
            client.report(ended(number))
            server.stop()
            assert daemon.stop() == 0
        event = daemon.wait_for_event("could not be written")
        assert event["backlog_rows"] == 1

    def test_one_that_never_answers_holds_back_neither_start_nor_stop(self, new_daemon: NewDaemon, number: int) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            daemon = new_daemon(
                f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/none",
                "--report-interval=1h",
                "--flush-timeout=2s",
            )
            daemon.start()
            with Client(daemon.target) as client:
                client.report(ended(number))
                assert daemon.stop() == 0


def test_what_could_not_be_written_before_a_stop_is_written_after_the_next_start_with_a_journal(
    new_daemon: NewDaemon, new_postgres: Callable[[], PostgresServer], number: int
) -> None:
    server = new_postgres()
    migrate(server.url())
    daemon = new_daemon(server.url(), "--report-interval=1h", "--durability=journal")
    daemon.start()
    with Client(daemon.target) as client:
        client.report(ended(number))
        server.stop()
        assert daemon.stop() == 0
    server.start()
    daemon.start()
    daemon.flush()
    assert len(rows(server.url())) == 1


def test_without_a_database_url_it_brings_its_own_and_takes_it_along_when_it_stops(
    new_daemon: NewDaemon, number: int
) -> None:
    daemon = new_daemon(None, "--report-interval=1h")
    for place in range(2):
        daemon.start()
        with Client(daemon.target) as client:
            client.report(ended(number, place))
            daemon.flush()
            url = daemon.status().database_url
            assert len(rows(url)) == place + 1
        processes = Watched(*descendants(daemon.pid))
        assert daemon.stop() == 0
        assert processes.living() == []
        processes.close()


def descendants(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        found += [child for thread in Path(f"/proc/{each}/task").iterdir() for child in _children(thread)]
    return found


def _children(thread: Path) -> list[int]:
    return [int(word) for word in (thread / "children").read_text().split()]


def test_a_wrong_setting_stops_the_start_with_status_2_and_one_line(new_daemon: NewDaemon) -> None:
    daemon = new_daemon("postgresql://nobody@127.0.0.1:1/none", "--max-streams=none")
    daemon.launch()
    assert daemon.wait() == 2
    [line] = daemon.output
    assert "max-streams" in line
    assert "'none'" in line
    daemon.output.clear()


def test_what_speaks_to_systemd_missing_under_it_is_a_wrong_setup_that_no_restart_mends(
    new_daemon: NewDaemon, tmp_path: Path
) -> None:
    (tmp_path / "cysystemd").mkdir()
    (tmp_path / "cysystemd/__init__.py").touch()  # takes the place of the real one, and has nothing in it
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    daemon = new_daemon("postgresql://nobody@127.0.0.1:1/none", NOTIFY_SOCKET=str(tmp_path / "notify"), PYTHONPATH=path)
    daemon.launch()
    assert daemon.wait() == 2
    [event] = [event for event in daemon.log if event["level"] == "critical"]
    daemon.log.remove(event)
    assert "pip install 'appstatsd[systemd]'" in event["error"]


def test_it_is_ready_only_once_it_accepts_streams(new_daemon: NewDaemon) -> None:
    daemon = new_daemon("postgresql://nobody@127.0.0.1:1/none")
    daemon.start()
    with RawStream(daemon.target, ("grpc.enable_retries", 0)) as stream:
        stream.send(request(client_id=f"c-{os.getpid()}"))
        stream.receive()
    assert daemon.addresses == [f"unix:{daemon.socket}"]
