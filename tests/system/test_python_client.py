"""The Python client and the example proxy against the real daemon and a real PostgreSQL: rows, exactly."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from aiohttp import ClientSession
from appstatsd_client import AccessMethod, App, AsyncClient, Client, Limits, events

from tests.support.daemon import COMMAND, PATIENCE_SECONDS, DaemonProcess, eventually

APP = App(UUID(int=1), UUID(int=2), UUID(int=3), AccessMethod.PATH, "code")
QUICK = Limits(linger_seconds=0.01, backoff_base_seconds=0.01, backoff_max_seconds=0.1)
EXAMPLES = Path(__file__).parents[2] / "clients/python/examples"
LATER_US = 600_000_000


class Site:
    """A daemon, its database, and the programs beside it."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, url
        self._programs: list[subprocess.Popen[str]] = []
        subprocess.run([COMMAND, "migrate", f"--database-url={url}"], check=True, capture_output=True)

    def daemon(self, *flags: str) -> DaemonProcess:
        """Starts the daemon, again if it was killed."""
        self.running = DaemonProcess(self._folder, self._url, "--enable-test-clock", *flags)
        self.running.start()
        return self.running

    def run(self, name: str, *arguments: str) -> tuple[subprocess.Popen[str], str]:
        """Starts a program of the examples; returns it and where it listens."""
        path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, EXAMPLES / f"{name}.py", "--listen", "127.0.0.1:0", *arguments]
        program = subprocess.Popen(command, env=path, stdout=subprocess.PIPE, text=True)
        self._programs.append(program)
        assert program.stdout
        return program, next(word for word in program.stdout.readline().split() if word.startswith("http://"))

    def flushed(self, columns: str) -> list[tuple[Any, ...]]:
        """What stands in the table ten minutes from now."""
        self.running.flush(time.time_ns() // 1000 + LATER_US)
        with psycopg.connect(self._url) as connection:
            return connection.execute(f"SELECT {columns} FROM workspace_app_stats ORDER BY 1").fetchall()  # type: ignore[arg-type]

    def end(self) -> None:
        self.running.kill()
        for program in self._programs:
            program.kill()
            program.communicate()


@pytest.fixture
def site(tmp_path: Path, postgres_url: str) -> Iterator[Site]:
    site = Site(tmp_path, postgres_url)
    try:
        yield site
    finally:
        site.end()


def test_short_sessions_of_both_clients_add_up_to_the_row(site: Site) -> None:
    daemon = site.daemon()

    async def report() -> bool:
        client = AsyncClient(daemon.target, limits=QUICK)
        for _ in range(3000):
            with client.begin(APP) as session:
                session.update()
        return await client.close(PATIENCE_SECONDS)

    assert asyncio.run(report())
    with Client(daemon.target, limits=QUICK) as client:
        for _ in range(3000):
            client.begin(APP, report_live=False).end()
    [total] = site.flushed("sum(sessions), sum(requests)")
    assert total == (6000, 9000)
    assert daemon.status().reports_rejected == 0


def test_a_session_is_live_in_the_table_until_it_ends(site: Site) -> None:
    daemon = site.daemon()
    client = Client(daemon.target, limits=QUICK)
    session = client.begin(APP)
    eventually(daemon.status, lambda status: status.live_sessions == 1)
    assert site.flushed("end_source, session_id") == [("live", session.session_id)]
    session.update(4)
    session.end()
    assert client.close(PATIENCE_SECONDS)
    assert site.flushed("end_source, session_id, requests") == [("reported", session.session_id, 5)]


def test_closing_leaves_no_session_live_and_no_client_waiting(site: Site) -> None:
    daemon = site.daemon()
    client = Client(daemon.target, limits=QUICK)
    for _ in range(50):
        client.begin(APP)
    assert client.close(PATIENCE_SECONDS)
    assert daemon.status().live_sessions == 0
    assert site.flushed("end_source, sum(sessions) OVER ()") == [("reported", 50)]


def test_a_daemon_killed_again_and_again_loses_and_doubles_nothing(site: Site) -> None:
    daemon = site.daemon("--durability=journal")
    client = Client(daemon.target, limits=QUICK)
    live = client.begin(APP)
    for _ in range(3):
        for _ in range(2000):
            client.begin(APP).end()
        eventually(daemon.status, lambda status: status.reports_accepted > 0)
        daemon.kill()
        for _ in range(500):
            client.begin(APP).end()
        daemon = site.daemon("--durability=journal")
    live.end()
    assert client.close(PATIENCE_SECONDS)
    [total] = site.flushed("sum(sessions), sum(requests)")
    assert total == (7501, 7501)
    assert client.stats().dropped_reports == 0


def test_a_daemon_without_a_journal_knows_live_sessions_again_after_a_restart(site: Site) -> None:
    daemon = site.daemon("--durability=memory")
    client = Client(daemon.target, limits=QUICK)
    sessions = [client.begin(APP) for _ in range(5)]
    eventually(daemon.status, lambda status: status.live_sessions == 5)
    daemon.kill()
    daemon = site.daemon("--durability=memory")
    eventually(daemon.status, lambda status: status.live_sessions == 5)
    for session in sessions:
        session.end()
    assert client.close(PATIENCE_SECONDS)
    [total] = site.flushed("sum(sessions)")
    assert total == (5,)


def test_a_session_id_used_for_another_app_is_rejected_and_told(site: Site) -> None:
    daemon = site.daemon()
    told: queue.Queue[events.Event] = queue.Queue()
    other = App(UUID(int=1), UUID(int=2), UUID(int=3), AccessMethod.TERMINAL, "")
    with Client(daemon.target, limits=QUICK, on_event=told.put) as client:
        first = client.begin(APP)
        client.begin(other, session_id=first.session_id)
        event = told.get(timeout=PATIENCE_SECONDS)
        while not isinstance(event, events.Rejected):
            event = told.get(timeout=PATIENCE_SECONDS)
    assert [(r.session_id, r.reason) for r in event.rejections] == [(first.session_id, "REJECTION_REASON_CONFLICT")]


def test_two_clients_of_one_client_id_both_get_through(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = site.daemon()
    monkeypatch.setattr("secrets.token_hex", _the_same_twice())
    clients = [Client(daemon.target, limits=QUICK) for _ in range(2)]
    for client in clients:
        client.begin(APP)
    eventually(daemon.status, lambda status: status.live_sessions == 2)
    assert all(client.close(PATIENCE_SECONDS) for client in clients)
    [total] = site.flushed("sum(sessions)")
    assert total == (2,)


def _the_same_twice() -> Callable[[int], str]:
    made: list[str] = []

    def token(size: int) -> str:
        made.append(f"{max(0, len(made) - 1):032x}")
        return made[-1]

    return token


def test_the_traffic_through_the_example_proxy_adds_up_in_the_table(site: Site) -> None:
    daemon = site.daemon()
    _, app_url = site.run("upstream")
    proxy, proxy_url = site.run("reverse_proxy", "--upstream", app_url, "--appstatsd", daemon.target)
    command = [sys.executable, EXAMPLES / "traffic.py", "--proxy", proxy_url, "--seconds", "2"]
    done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    proxy.send_signal(signal.SIGTERM)
    assert proxy.wait(PATIENCE_SECONDS) == 0
    [total] = site.flushed("sum(sessions), sum(requests), min(end_source), max(end_source)")
    assert total == (done["pages"] + done["websockets"],) * 2 + ("reported", "reported")
    assert min(done.values()) > 0
    methods = {method for (method,) in site.flushed("DISTINCT access_method")}
    assert methods == {"path", "subdomain", "terminal"}


def test_websockets_of_a_killed_proxy_end_where_it_died_and_stay_so(site: Site) -> None:
    daemon = site.daemon("--client-grace=0s")
    _, app_url = site.run("upstream")
    proxy, proxy_url = site.run("reverse_proxy", "--upstream", app_url, "--appstatsd", daemon.target)
    who = {f"X-{name}-Id": str(UUID(int=n)) for n, name in enumerate(("User", "Workspace", "Agent"), start=1)}

    async def kill_while_open() -> None:
        async with ClientSession(proxy_url) as http:
            socket = await http.ws_connect("/terminal", headers=who)
            await asyncio.to_thread(eventually, daemon.status, lambda status: status.live_sessions == 1)
            proxy.kill()
            await socket.receive()

    before_us = time.time_ns() // 1000
    asyncio.run(kill_while_open())
    eventually(daemon.status, lambda status: status.connected_streams == 0)
    after_us = time.time_ns() // 1000
    columns = "(extract(epoch FROM session_ended_at) * 1000000)::bigint, end_source"
    [(ended_us, source)] = first = site.flushed(columns)
    assert source == "inferred"
    assert before_us <= ended_us <= after_us
    assert site.flushed(columns) == first
