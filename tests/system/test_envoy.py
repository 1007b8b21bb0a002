"""Does a stock Envoy, configured as docs/envoy.md says, make rows that tell what its users did?

Envoy's own binary, real servers behind it, the daemon as a process. The configurations of both are those of the docs, but
for addresses and intervals. Rows are checked against what the traffic did.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid5

import pytest
from appstatsd.collect.rows import EndSource

from tests.support.behind_envoy import Open, Traffic, Upstream
from tests.support.daemon import DaemonProcess, eventually
from tests.support.envoy import DOCS, Envoy, HotRestarts, configuration, free_port
from tests.support.raw_client import now_us
from tests.support.reports import MINUTE, SECOND, Row
from tests.support.table import rows

NAMESPACE = UUID("3f1c9a52-7a0e-4b7e-9a53-0f5b1f6c8d11")
MILLISECOND = 1_000
HOST = "code--main--dev--{}.apps.example.com"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


class Site:
    """A daemon, Envoys that report to it, and users."""

    def __init__(self, folder: Path, url: str, daemon: DaemonProcess, upstream: Upstream) -> None:
        self.folder = folder
        self.url = url
        self.daemon = daemon
        self.upstream = upstream
        self.envoys: list[Envoy] = []
        self.traffic = Traffic(upstream, lambda: self.envoys[-1].ports)

    def envoy(self, *flags: str, ports: tuple[int, int] = (0, 0)) -> Envoy:
        """An Envoy that does not run yet; the traffic goes to the last one."""
        upstream = self.upstream
        text = configuration("envoy.yaml", upstream.http_port, upstream.tcp_port, self.daemon.socket, ports)
        folder = self.folder / f"e{len(self.envoys)}"
        folder.mkdir()
        self.envoys.append(Envoy(folder, text, *flags))
        return self.envoys[-1]

    def run(self) -> None:
        self.daemon.start()
        self.envoy().start()

    def told(self, reports: int) -> None:
        """Wait until the daemon has taken so many reports since it started."""
        eventually(lambda: self.daemon.status().reports_accepted, lambda count: count >= reports)

    def lives(self, count: int) -> None:
        """Wait until so many sessions are live."""
        eventually(lambda: self.daemon.status().live_sessions, lambda live: live == count)

    def flush(self, later_us: int = 0) -> int:
        """Flush, as of so much later; the time that it was done for."""
        as_of_us = now_us() + later_us
        self.daemon.flush(as_of_us)
        return as_of_us

    def flush_until_none_lives(self) -> None:
        """Flush again and again: graces and time-outs are on the monotonic clock, which no test moves."""

        def live() -> int:
            self.flush(2 * MINUTE)
            return self.daemon.status().live_sessions

        eventually(live, lambda count: count == 0)

    def rows_of(self, user: str) -> list[Row]:
        """The rows of this user, each with the names that the test gave."""
        found = [row for row in rows(self.url).values() if row.user_id == uuid5(NAMESPACE, user).bytes]
        for row in found:
            assert row.workspace_id == uuid5(NAMESPACE, "dev").bytes
            assert row.agent_id == uuid5(NAMESPACE, "main").bytes
        return found

    def row_of(self, user: str) -> Row:
        """The one row of this user."""
        (found,) = self.rows_of(user)
        return found

    def closes(self, connection: Open, user: str) -> None:
        """Its user closes the only live connection, and the row says from when to when it was open."""
        closing = connection.close()
        self.lives(0)
        self.flush(5 * MINUTE)
        row = self.row_of(user)
        assert (row.requests, row.sessions, row.end_source) == (1, 1, EndSource.REPORTED)
        # Envoy reads its two clocks one after the other, and notices a little later.
        assert connection.began[0] - MILLISECOND <= row.started <= connection.began[1]
        assert closing - MILLISECOND <= row.ended <= now_us()

    def reaches(self, user: str) -> None:
        """Wait until what this user does reaches the daemon: Envoy opens a stream again only when it has to tell."""
        before = self.daemon.status().reports_accepted

        def told() -> int:
            self.traffic.get(HOST.format(user))
            return self.daemon.status().reports_accepted

        eventually(told, lambda count: count > before)


NewSite = Callable[..., Site]


@pytest.fixture
def new_site(
    tmp_path: Path, database_url: str, new_daemon: Callable[..., DaemonProcess], upstream: Upstream
) -> Iterator[NewSite]:
    made: list[Site] = []

    def new(*flags: str) -> Site:
        daemon = new_daemon(database_url, f"--config={DOCS / 'appstatsd.toml'}", "--enable-test-clock", *flags)
        made.append(Site(tmp_path, database_url, daemon, upstream))
        return made[-1]

    yield new
    for site in made:
        for envoy in site.envoys:
            envoy.kill()


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text: str = answer.read().decode()
        return text


@pytest.fixture
def site(new_site: NewSite) -> Site:
    """A daemon and an Envoy that run."""
    site = new_site()
    site.run()
    return site


def test_every_request_over_http_1_and_http_2_is_a_short_session(site: Site) -> None:
    before = now_us()
    site.traffic.get(HOST.format("alice"), 30)
    site.traffic.get_http_2(HOST.format("bob"), 20)
    after = now_us()
    site.told(50)
    site.flush()
    for user, count in (("alice", 30), ("bob", 20)):
        found = site.rows_of(user)
        assert sum(row.requests for row in found) == sum(row.sessions for row in found) == count
        for row in found:
            assert (row.access_method, row.slug_or_port, row.end_source) == (2, "code", EndSource.REPORTED)
            assert row.started % MINUTE == 0
            assert row.ended - row.started == MINUTE
            assert row.started <= after
            assert row.ended >= before
    assert site.daemon.status().live_sessions == 0


def test_redirects_refusals_and_what_is_not_there_are_no_sessions_and_other_answers_are(site: Site) -> None:
    for status in (301, 302, 303, 307, 308, 401, 403, 404, 502, 503, 504):
        site.traffic.get(HOST.format("bob"), status=status)
    answered = (201, 206, 304, 400, 409, 422, 500)
    for status in answered:
        site.traffic.get(HOST.format("alice"), status=status)
    site.told(len(answered))
    site.flush()
    assert sum(row.sessions for row in rows(site.url).values()) == len(answered)
    assert sum(row.sessions for row in site.rows_of("alice")) == len(answered)


def test_a_websocket_is_live_for_minutes_and_then_has_its_end(site: Site) -> None:
    socket = site.traffic.open_socket(HOST.format("alice"))
    site.lives(1)
    for minutes in (2, 5):
        told = site.daemon.status().reports_accepted
        site.told(told + 1)
        site.flush(minutes * MINUTE)
        row = site.row_of("alice")
        assert (row.requests, row.sessions, row.end_source) == (1, 1, EndSource.LIVE)
        # It ends at what was told last, which was just now.
        assert socket.began[1] < row.ended <= now_us()
        assert row.ended > now_us() - 10 * SECOND
    site.closes(socket, "alice")


def test_a_plain_tcp_connection_is_a_session_from_its_begin_to_its_end(site: Site) -> None:
    terminal = site.traffic.open_terminal()
    site.lives(1)
    site.flush(2 * MINUTE)
    row = site.row_of("alice")
    assert (row.access_method, row.slug_or_port, row.end_source) == (3, "", EndSource.LIVE)
    site.closes(terminal, "alice")


def test_requests_that_claim_the_same_request_id_are_sessions_of_their_own(site: Site) -> None:
    claimed = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    site.traffic.get(HOST.format("alice"), 4, x_request_id=claimed)
    site.traffic.get_http_2(HOST.format("alice"), 4, x_request_id=claimed)
    sockets = [site.traffic.open_socket(HOST.format("alice"), x_request_id=claimed) for _ in range(2)]
    site.lives(2)
    for socket in sockets:
        socket.close()
    site.lives(0)
    site.flush()
    assert sum(row.sessions for row in site.rows_of("alice")) == 10
    assert site.daemon.status().reports_rejected == 0


def test_requests_without_the_needed_names_are_counted_and_make_no_rows(new_site: NewSite) -> None:
    port = free_port()
    site = new_site(f"--metrics-listen=127.0.0.1:{port}")
    site.run()
    site.traffic.get("www.example.com", 3)
    site.traffic.get(HOST.format("alice"), 2)
    site.told(2)
    event = site.daemon.wait_for_event("tells of no session")
    assert (event["reason"], event["host"]) == ("no name of a user", "www.example.com")
    counted = 'appstatsd_access_log_entries_skipped_total{reason="no_user"} 3.0'
    eventually(lambda: scrape(port), lambda text: counted in text)
    site.flush()
    assert sum(row.sessions for row in rows(site.url).values()) == 2


def test_sessions_of_an_envoy_that_is_killed_end_when_it_was(new_site: NewSite) -> None:
    site = new_site("--client-grace=1s")
    site.run()
    socket, terminal = site.traffic.open_socket(HOST.format("bob")), site.traffic.open_terminal()
    site.lives(2)
    site.flush(2 * MINUTE)
    before = now_us()
    site.envoys[0].kill()
    eventually(lambda: [client.connected for client in site.daemon.status().clients], lambda here: not any(here))
    gone = now_us()
    site.flush_until_none_lives()
    for user in ("alice", "bob"):
        row = site.row_of(user)
        assert row.end_source == EndSource.INFERRED
        assert before <= row.ended <= gone
    for connection in (socket, terminal):
        connection.close()


def test_an_envoy_that_is_restarted_cold_goes_on_and_what_was_open_has_an_end(new_site: NewSite) -> None:
    site = new_site("--als-interval=1s")
    site.run()
    socket = site.traffic.open_socket(HOST.format("bob"))
    site.lives(1)
    site.flush(2 * MINUTE)
    before = now_us()
    site.envoys[0].stop()
    site.envoys[0].start()
    socket.close()
    site.reaches("carol")
    told = site.daemon.status().reports_accepted
    site.traffic.get(HOST.format("alice"), 10)
    site.told(told + 10)
    # It came back within its grace, and never told the end: three intervals after it last told of it, that is the end.
    site.flush_until_none_lives()
    assert sum(row.sessions for row in site.rows_of("alice")) == 10
    row = site.row_of("bob")
    assert before - 10 * SECOND <= row.ended <= now_us()


def test_over_a_hot_restart_two_envoys_are_one_client_and_what_is_open_stays_one_session(new_site: NewSite) -> None:
    site = new_site("--als-interval=1s")
    site.daemon.start()
    ports = free_port(), free_port()
    timing = "--parent-shutdown-time-s", "8", "--drain-time-s", "1"
    with HotRestarts(site.folder) as restarts:
        old = site.envoy(*restarts.flags(0), *timing, ports=ports)
        old.start()
        socket = site.traffic.open_socket(HOST.format("bob"))
        site.lives(1)
        new = site.envoy(*restarts.flags(1), *timing, ports=ports)
        new.start()
        # Both are there: the old one still tells of the WebSocket, the new one of what is new.
        site.reaches("alice")
        told = site.daemon.status().reports_accepted
        site.told(told + 2)
        (client,) = site.daemon.status().clients
        assert (client.client_id, client.connected) == ("als/edge-1/apps", True)
        assert site.daemon.status().connected_streams >= 2
        site.flush(2 * MINUTE)
        live = site.row_of("bob")
        assert live.end_source == EndSource.LIVE
        old.wait()
        # The client is there, so no grace runs; whether the old one tells of the end or not, there is one.
        site.flush_until_none_lives()
        ended = site.row_of("bob")
        assert ended.session_id == live.session_id
        assert ended.end_source in (EndSource.REPORTED, EndSource.INFERRED)
        assert live.started < ended.ended <= now_us()
        socket.close()
        new.kill()


def test_a_daemon_that_is_restarted_goes_on_with_what_is_open(new_site: NewSite) -> None:
    site = new_site("--durability=journal")
    site.run()
    socket = site.traffic.open_socket(HOST.format("bob"))
    site.lives(1)
    site.flush(2 * MINUTE)
    live = site.row_of("bob")
    assert site.daemon.stop() == 0
    site.daemon.start()
    # It was not told anew yet, and is live still.
    assert site.daemon.status().live_sessions == 1
    eventually(lambda: [client.connected for client in site.daemon.status().clients], any)
    site.flush(3 * MINUTE)
    again = site.row_of("bob")
    assert (again.session_id, again.end_source) == (live.session_id, EndSource.LIVE)
    assert again.ended > live.ended
    site.closes(socket, "bob")


def test_an_envoy_needs_no_daemon_and_what_it_does_once_there_is_one_counts(new_site: NewSite) -> None:
    site = new_site()
    site.envoy().start()
    site.traffic.get(HOST.format("alice"), 20)
    socket = site.traffic.open_socket(HOST.format("bob"))
    site.daemon.start()
    # What goes on is told again by itself.
    site.lives(1)
    site.reaches("carol")
    told = site.daemon.status().reports_accepted
    site.traffic.get(HOST.format("dave"), 20)
    site.told(told + 20)
    site.flush(2 * MINUTE)
    assert sum(row.sessions for row in site.rows_of("dave")) == 20
    # What ended while nobody was there may be lost, and is never counted twice.
    assert sum(row.sessions for row in site.rows_of("alice")) <= 20
    site.closes(socket, "bob")
