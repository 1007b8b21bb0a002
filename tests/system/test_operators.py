"""What operators ask a running daemon for: flush, status, health, and which services there are."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import appstatsd
import grpc
import psycopg
import pytest
from appstatsd.addresses import UnixAddress
from appstatsd.collect.rows import EndSource
from appstatsd.store.migrate import migrate
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.support.daemon import COMMAND, Caller, DaemonProcess, connected, eventually
from tests.support.postgres import PostgresServer
from tests.support.raw_client import Client, RawStream, fresh, now_us, request
from tests.support.reports import HOUR, MINUTE, Report, app, report, user, workspace
from tests.support.table import rows, rows_of
from tests.system.conftest import NewDaemon, Service

REPORTS = "appstats.v1.SessionReportService"
QUARANTINE = "appstats.v1.QuarantineService"


@pytest.fixture
def number() -> int:
    [number] = fresh()
    return number


def ended(number: int, place: int = 0) -> Report:
    end = now_us() - MINUTE
    return report(number * 1_000 + place, end - 10 * MINUTE, end, of=app(number))


def live(number: int, place: int = 0, start: int | None = None) -> Report:
    return report(number * 1_000 + place, now_us() - HOUR if start is None else start, of=app(number))


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """The status that a call ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


class TestFlush:
    def test_every_report_acknowledged_before_is_in_the_database_when_it_answers(
        self, service: Service, number: int
    ) -> None:
        with Client(service.target) as client:
            for place in range(20):
                client.report(ended(number, place))
                service.daemon.flush()
                assert len(rows_of(service.url, workspace(number))) == place + 1

    def test_it_says_how_many_rows_it_wrote_and_how_many_wait(self, service: Service, number: int) -> None:
        with Client(service.target) as client:
            client.report(*(ended(number, place) for place in range(5)))
            answer = service.daemon.flush()
        assert answer.rows_written >= 5
        assert answer.backlog_rows == 0

    def test_a_clock_of_the_callers_own_is_refused(self, service: Service) -> None:
        code, details = refused(lambda: service.daemon.flush(as_of_us=now_us()))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "runs without --enable-test-clock" in details

    def test_with_a_test_clock_it_sees_the_time_that_the_caller_says(
        self, new_daemon: NewDaemon, database_url: str, number: int
    ) -> None:
        daemon = new_daemon(database_url, "--enable-test-clock")
        daemon.start()
        start = now_us()
        with Client(daemon.target) as client:
            client.report(live(number, start=start))
            daemon.flush(as_of_us=start + MINUTE)
            assert rows(database_url) == {}
            daemon.flush(as_of_us=start + HOUR)
            [row] = rows(database_url).values()
            assert (row.ended, row.made, row.end_source) == (start + HOUR, start + HOUR, EndSource.LIVE)
            daemon.flush(as_of_us=start + HOUR - MINUTE)  # now does not run backwards
            [row] = rows(database_url).values()
            assert row.made == start + HOUR

    def test_calls_that_wait_are_joined(self, new_daemon: NewDaemon, database_url: str, number: int) -> None:
        daemon = new_daemon(database_url, "--report-interval=1h")
        daemon.start()
        with (
            Client(daemon.target) as client,
            psycopg.connect(database_url) as other,
            connected(daemon.target) as channel,
        ):
            flush = channel.unary_unary(f"/{REPORTS}/Flush", response_deserializer=wire.FlushResponse.FromString)
            status = channel.unary_unary(f"/{REPORTS}/GetStatus")
            client.report(live(number))
            other.execute("LOCK TABLE workspace_app_stats IN EXCLUSIVE MODE")
            first = flush.future(b"", timeout=60)
            eventually(lambda: waiting_for_a_lock(database_url), lambda count: count > 0)
            calls = [first, *(flush.future(b"", timeout=60) for _ in range(20))]
            status(b"", timeout=60)  # which the daemon answers once it has all that came before on this connection
            other.rollback()
            for call in calls:
                call.result()
        # The first was under way when the others came; what all of those made was written once.
        assert daemon.status().rows_written == 2

    def test_while_the_database_is_away_it_is_unavailable_and_says_why_then_it_is_ok(
        self, new_daemon: NewDaemon, new_postgres: Callable[[], PostgresServer], number: int
    ) -> None:
        server = new_postgres()
        migrate(server.url())
        daemon = new_daemon(server.url(), "--report-interval=1h", "--flush-timeout=5s")
        daemon.start()
        with Client(daemon.target) as client:
            client.report(ended(number))
            server.stop()
            for _ in range(3):  # which also makes the backoff longer than anybody would wait
                code, details = refused(daemon.flush)
                assert code is grpc.StatusCode.UNAVAILABLE
                assert "connection" in details
            status = daemon.status()
            assert (status.backlog_rows, status.database_state) == (1, "down")
            assert "connection" in status.last_flush_error
            client.report(ended(number, 1))
            server.start()
            answer = daemon.flush()
        assert (answer.rows_written, answer.backlog_rows) == (2, 0)
        assert len(rows(server.url())) == 2
        assert daemon.status().last_flush_error == ""

    def test_while_the_database_hangs_it_is_unavailable_within_the_flush_timeout(
        self, new_daemon: NewDaemon, new_postgres: Callable[[], PostgresServer], number: int
    ) -> None:
        server = new_postgres()
        migrate(server.url())
        daemon = new_daemon(server.url(), "--report-interval=1h", "--flush-timeout=2s")
        daemon.start()
        with Client(daemon.target) as client:
            client.report(ended(number))
            daemon.flush()
            client.report(ended(number, 1))
            with server.frozen():
                assert refused(daemon.flush)[0] is grpc.StatusCode.UNAVAILABLE
                # Whoever asks for something else, or reports, does not wait for it.
                client.report(ended(number, 2))
                assert daemon.status().connected_streams == 1
            daemon.flush()
        assert len(rows(server.url())) == 3


def waiting_for_a_lock(url: str) -> int:
    with psycopg.connect(url) as connection:
        [[count]] = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchall()
    return int(count)


class TestStatus:
    def test_it_says_what_the_daemon_holds(self, new_daemon: NewDaemon, database_url: str, number: int) -> None:
        daemon = new_daemon(database_url, "--report-interval=1h", "--client-grace=0s")
        before = now_us()
        daemon.start()
        empty = daemon.status()
        assert empty.version == appstatsd.__version__
        assert before <= empty.started_at_unix_nano // 1000 <= now_us()
        assert (empty.last_flush_at_unix_nano, empty.rows_written, list(empty.clients)) == (0, 0, [])

        with Client(daemon.target) as client, Client(daemon.target) as other:
            start = now_us() - HOUR
            mine = [live(number, 0, start), live(number, 1, start), ended(number, 2), live(number, 3, start=1)]
            client.report(*mine)
            client.stream.send(request(1, mine[:1]))  # with other content, so that the stream ends
            client.stream.end()
            client.stream.close()
            [another] = fresh()
            other.stream.send(request(1, [live(another)], dropped=7))
            other.stream.acked(1)
            flushed_after = now_us()
            daemon.flush()
            status = daemon.status()
            seen = now_us()

        assert (status.live_sessions, status.groups, status.sessions_abandoned) == (1, 3, 2)
        assert (status.reports_accepted, status.reports_rejected, status.reports_duplicate) == (4, 1, 0)
        assert (status.rows_written, status.backlog_rows, status.oldest_backlog_age_seconds) == (4, 0, 0)
        assert (status.quarantined_rows, status.journal_bytes, status.journal_damage) == (0, 0, "")
        assert flushed_after <= status.last_flush_at_unix_nano // 1000 <= seen
        assert (status.last_flush_error, status.database_state) == ("", "up")
        assert (status.connected_streams, status.reports_dropped_by_clients) == (1, 7)
        clients = {each.client_id: each for each in status.clients}
        mine, others = clients[client.client_id], clients[other.client_id]
        assert (mine.connected, mine.acked_sequence, mine.live_sessions, mine.dropped_reports) == (False, 1, 0, 0)
        assert (others.connected, others.acked_sequence, others.live_sessions, others.dropped_reports) == (
            True,
            1,
            1,
            7,
        )
        assert before < mine.last_sign_of_life_unix_nano // 1000 <= flushed_after
        assert flushed_after <= others.last_sign_of_life_unix_nano // 1000 <= seen

    def test_it_counts_streams_that_have_not_said_whose_they_are(self, service: Service) -> None:
        before = service.daemon.status().connected_streams
        with RawStream(service.target):
            eventually(lambda: service.daemon.status().connected_streams, lambda count: count == before + 1)
        eventually(lambda: service.daemon.status().connected_streams, lambda count: count == before)

    def test_the_age_of_the_backlog_is_that_of_its_oldest_row(self, new_daemon: NewDaemon, number: int) -> None:
        daemon = new_daemon("postgresql://nobody@127.0.0.1:1/none", "--report-interval=1h")
        daemon.start()
        with Client(daemon.target) as client:
            client.report(ended(number))
            assert refused(daemon.flush)[0] is grpc.StatusCode.UNAVAILABLE
            eventually(lambda: daemon.status().oldest_backlog_age_seconds, lambda age: age >= 1)

    def test_no_password_of_the_database_is_in_it(self, new_daemon: NewDaemon) -> None:
        daemon = new_daemon("postgresql://me:secret@127.0.0.1:1/none")
        daemon.start()
        assert "127.0.0.1" in daemon.status().database_url
        assert "secret" not in str(daemon.status())


class TestHealth:
    def test_the_service_and_the_database_have_names_of_their_own(self, service: Service) -> None:
        assert [service.daemon.health(name) for name in ("", REPORTS)] == ["SERVING"] * 2
        assert eventually(lambda: service.daemon.health("database"), lambda health: health == "SERVING")
        assert service.daemon.health("nonsense") == "NOT_FOUND"

    def test_an_unreachable_database_does_not_make_proxies_stop_sending(
        self, new_daemon: NewDaemon, new_postgres: Callable[[], PostgresServer], number: int
    ) -> None:
        server = new_postgres()
        migrate(server.url())
        daemon = new_daemon(server.url(), "--report-interval=1h")
        daemon.start()
        with Client(daemon.target) as client, connected(daemon.target) as channel:
            watch = channel.unary_stream(
                "/grpc.health.v1.Health/Watch",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )(health_pb2.HealthCheckRequest(service="database"), timeout=120)
            seen = (health_pb2.HealthCheckResponse.ServingStatus.Name(each.status) for each in watch)
            assert next(each for each in seen if each == "SERVING")
            server.stop()
            client.report(ended(number))
            assert refused(daemon.flush)[0] is grpc.StatusCode.UNAVAILABLE
            assert next(seen) == "NOT_SERVING"
            assert [daemon.health(name) for name in ("", REPORTS, "database")] == ["SERVING", "SERVING", "NOT_SERVING"]
            client.report(ended(number, 1))
            server.start()
            daemon.flush()
            assert next(seen) == "SERVING"
            watch.cancel()


def reflected(target: str) -> list[str]:
    with connected(target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        names = sorted(database.get_services())
        assert "StreamReports" in str(database.FindFileContainingSymbol(REPORTS))
        return names


def test_reflection_lists_the_services_and_describes_them(service: Service) -> None:
    assert {REPORTS, QUARANTINE, "appstats.v1.ErasureService", "grpc.health.v1.Health"} <= set(
        reflected(service.target)
    )


@pytest.fixture(scope="module")
def split(module_daemons: NewDaemon, module_database_url: str) -> DaemonProcess:
    """A daemon with one address for proxies, and another for operators."""
    daemon = module_daemons(module_database_url)
    daemon.arguments.append(f"--admin-listen=unix:{daemon.folder}/admin.sock")
    daemon.start()
    return daemon


class TestAdminListen:
    def admin(self, split: DaemonProcess) -> Caller:
        return Caller(UnixAddress(split.folder / "admin.sock").target)

    def test_what_operators_ask_for_is_served_there_alone(self, split: DaemonProcess, number: int) -> None:
        admin = self.admin(split)
        admin.flush()
        assert admin.status().version == appstatsd.__version__
        assert admin.quarantine() == []
        assert REPORTS in reflected(admin.target)
        assert admin.forget(user(number), dry_run=True).live_sessions == 0
        calls: list[Callable[[], Any]] = [split.flush, split.status, split.quarantine, lambda: split.forget(b"")]
        assert [refused(call)[0] for call in calls] == [grpc.StatusCode.UNIMPLEMENTED] * 4
        assert refused(lambda: reflected(split.target))[0] is grpc.StatusCode.UNIMPLEMENTED

    def test_reports_are_taken_on_the_other_address_alone(self, split: DaemonProcess, number: int) -> None:
        with Client(split.target) as client:
            client.report(ended(number))
        with RawStream(self.admin(split).target) as stream:
            assert stream.end().code is grpc.StatusCode.UNIMPLEMENTED

    def test_both_answer_for_their_health(self, split: DaemonProcess) -> None:
        assert (split.health(), self.admin(split).health()) == ("SERVING", "SERVING")

    def test_the_ready_line_names_both(self, split: DaemonProcess) -> None:
        assert set(split.addresses) == {f"unix:{split.socket}", f"unix:{split.folder}/admin.sock"}

    def test_commands_find_it(self, split: DaemonProcess) -> None:
        flags = [f"--listen=unix:{split.socket}", f"--admin-listen=unix:{split.folder}/admin.sock"]
        done = subprocess.run([COMMAND, "flush", *flags], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
