"""Twenty daemons write to one PostgreSQL through one PgBouncer in transaction mode, at the same moments.

They share workspaces, all of them keep the same retention, and the sessions that go on are written again each time. No
row is lost, nobody deadlocks, and the server has no more connections than the pooler lets through. `pytest -s` shows
the figures; docs/scaling.md has them from a quiet machine.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from appstatsd.collect.batch import ReportedApp
from appstatsd.store.migrate import migrate

from tests.integration.conftest import pooled
from tests.support.daemon import DaemonProcess, eventually
from tests.support.postgres import PostgresServer
from tests.support.raw_client import Client, now_us
from tests.support.reports import HOUR, MINUTE, PATH, Report, Row, agent, report, user, workspace
from tests.support.table import last_used, rows
from tests.system.conftest import NewDaemon

DAEMONS = 20
ROUNDS = 5
LIVE = ENDED = 200
"""Sessions of a daemon that go on all the time, and that end in each round."""
WORKSPACES = 50
POOL = 8
"""Connections that the pooler has to the server."""
OLD = 2_000


@dataclass
class Connections:
    """The most there were at once."""

    to_pooler: int = 0
    to_server: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def counted(self, server: PostgresServer, pooler: str) -> Iterator[None]:
        """Look again and again meanwhile."""
        thread = threading.Thread(target=self._look, args=(server.url(), pooler), name="connections")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _look(self, server: str, pooler: str) -> None:
        console = psycopg.connect(pooler, autocommit=True, cursor_factory=psycopg.ClientCursor)
        with console, psycopg.connect(server, autocommit=True) as connection:
            while not self._stop.wait(0.1):
                clients = console.execute("SHOW CLIENTS").fetchall()
                self.to_pooler = max(self.to_pooler, len(clients) - 1)  # without this one
                [(backends,)] = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                ).fetchall()
                self.to_server = max(self.to_server, backends - 1)


def app(number: int, place: int) -> ReportedApp:
    """An app of this daemon's own in a workspace that all have."""
    return ReportedApp(user(number), workspace(place % WORKSPACES), agent(number), PATH, "code")


def reports(number: int, round_: int, start: int) -> list[Report]:
    """What the proxy of this daemon says in this round."""
    first = number * 1_000_000
    ended = first + 100_000 + round_ * ENDED
    return [
        *(report(first + place, start, requests=round_ + 1, of=app(number, place)) for place in range(LIVE)),
        *(report(ended + place, start, start + 10 * MINUTE, 3, of=app(number, place)) for place in range(ENDED)),
    ]


def make_old_rows(server: PostgresServer) -> None:
    with server.connect() as connection:
        connection.execute(
            "INSERT INTO workspace_app_stats (user_id, workspace_id, agent_id, access_method, slug_or_port, session_id,"
            " session_started_at, session_ended_at, requests) SELECT gen_random_uuid(), gen_random_uuid(),"
            " gen_random_uuid(), 'path', 'code', gen_random_uuid(), at, at, 1 FROM generate_series(1, %s),"
            " (SELECT now() - interval '100 days' AS at) AS age",
            (OLD,),
        )


def started(new_daemon: NewDaemon, url: str) -> list[DaemonProcess]:
    flags = (
        "--durability=journal",
        "--report-interval=4m",
        "--flush-timeout=1m",
        "--retention=90d",
        "--batch-size=200",
    )
    daemons = [new_daemon(url, *flags) for _ in range(DAEMONS)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(DaemonProcess.start, daemons))
    return daemons


def test_a_fleet_loses_no_row_and_does_not_get_in_its_own_way(
    new_daemon: NewDaemon, new_postgres: Callable[[], PostgresServer], tmp_path: Path
) -> None:
    server = new_postgres()
    migrate(server.url())
    make_old_rows(server)
    more = (f"default_pool_size = {POOL}", "max_client_conn = 500", "admin_users = postgres")
    connections = Connections()
    start = now_us() - HOUR
    together = threading.Barrier(DAEMONS)
    with pooled(server.url(), tmp_path, *more) as url:
        daemons = started(new_daemon, url)

        def proxy(number: int) -> None:
            with Client(daemons[number].target) as client:
                for round_ in range(ROUNDS):
                    assert client.report(*reports(number + 1, round_, start)) == []
                    together.wait(60)
                    daemons[number].flush()

        with connections.counted(server, url.rpartition("/")[0] + "/pgbouncer"):
            began = time.monotonic()
            with ThreadPoolExecutor(DAEMONS) as pool:
                list(pool.map(proxy, range(DAEMONS)))
            seconds = time.monotonic() - began
        written = sum(daemon.status().rows_written for daemon in daemons)
        passes = eventually(lambda: events(daemons, "Old rows were removed"), bool)

    table = {key: row for key, row in rows(server.url()).items() if row.agent_id[0] == agent(1)[0]}
    by_daemon = Counter(row.agent_id for row in table.values())
    assert by_daemon == {agent(number + 1): LIVE + ROUNDS * ENDED for number in range(DAEMONS)}
    assert Counter(row.requests for row in table.values()) == {ROUNDS: DAEMONS * LIVE, 3: DAEMONS * ROUNDS * ENDED}
    assert last_used(server.url()) == latest(list(table.values()))
    assert [line for line in server.log if "deadlock" in line] == []
    assert [event for daemon in daemons for event in daemon.log if event["level"] in ("warning", "error")] == []
    assert [event["rows"] for event in passes] == [OLD]
    assert len(events(daemons, "Old rows were removed")) == 1
    assert connections.to_server <= POOL
    print(
        f"{DAEMONS} daemons: {written:,} rows in {seconds:.1f} s, {written / seconds:,.0f} rows/s; at most "
        f"{connections.to_pooler} connections to the pooler, {connections.to_server} to the server"
    )


def events(daemons: list[DaemonProcess], name: str) -> list[dict[str, Any]]:
    """What the daemons have logged under this name."""
    return [event for daemon in daemons for event in daemon.log if event["event"] == name]


def latest(table: list[Row]) -> dict[bytes, int]:
    """By workspace, the end of its latest row."""
    ends: dict[bytes, int] = defaultdict(int)
    for row in table:
        ends[row.workspace_id] = max(ends[row.workspace_id], min(row.ended, row.made))
    return dict(ends)
