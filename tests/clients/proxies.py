"""How is an example proxy of any language tried? As a program beside a real daemon, with the traffic of Python's examples.

A proxy knows who asks by the headers, and what for by the URLs, that `clients/python/examples/reverse_proxy.py` describes;
it prints where it listens, and ends in order on SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import psycopg
from aiohttp import ClientSession
from appstatsd.store.migrate import migrate

from tests.support.daemon import PATIENCE_SECONDS, DaemonProcess, eventually

EXAMPLES = Path(__file__).parents[2] / "clients/python/examples"
WHO = {f"X-{name}-Id": str(UUID(int=n)) for n, name in enumerate(("User", "Workspace", "Agent"), start=1)}

LATER_US = 600_000_000

_ROWS = """
SELECT access_method, slug_or_port, end_source, sum(sessions)::int, sum(requests)::int
FROM workspace_app_stats GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
Rows = list[tuple[str, str, str, int, int]]


class Site:
    """A daemon, its database, an app, and the proxy in front of the app."""

    def __init__(self, daemon: DaemonProcess, database_url: str, proxy: subprocess.Popen[str], url: str) -> None:
        self.daemon = daemon
        self.proxy = proxy
        self.url = url
        """Where the proxy listens."""
        self._database_url = database_url

    def stop_proxy(self) -> None:
        self.proxy.send_signal(signal.SIGTERM)
        assert self.proxy.wait(PATIENCE_SECONDS) == 0

    def rows(self) -> Rows:
        """What stands in the table when all windows are over."""
        self.daemon.flush(time.time_ns() // 1000 + LATER_US)
        with psycopg.connect(self._database_url) as connection:
            return connection.execute(_ROWS).fetchall()


def traffic(site: Site, seconds: float = 4.0) -> dict[str, int]:
    """Real HTTP and WebSocket traffic of a few users; what was done."""
    command = [sys.executable, EXAMPLES / "traffic.py", "--proxy", site.url, "--seconds", str(seconds)]
    done: dict[str, int] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return done


@contextmanager
def running(folder: Path, database_url: str, proxy: Sequence[str | Path]) -> Iterator[Site]:
    """Daemon, app and proxy. In the proxy's command, `{upstream}` and `{appstatsd}` stand for where these are."""
    migrate(database_url)
    daemon = DaemonProcess(folder, database_url, "--enable-test-clock", "--client-grace=0s")
    programs: list[subprocess.Popen[str]] = []

    def start(*command: str | Path) -> tuple[subprocess.Popen[str], str]:
        path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
        program = subprocess.Popen(command, env=path, stdout=subprocess.PIPE, text=True)
        programs.append(program)
        assert program.stdout
        return program, next(word for word in program.stdout.readline().split() if word.startswith("http://"))

    try:
        daemon.start()
        _, upstream = start(sys.executable, EXAMPLES / "upstream.py", "--listen", "127.0.0.1:0")
        places = {"{upstream}": upstream, "{appstatsd}": daemon.target}
        yield Site(daemon, database_url, *start(*(places.get(str(word), word) for word in proxy)))
    finally:
        for program in programs:
            program.kill()
            program.communicate()
        daemon.kill()


def check_traffic(site: Site) -> None:
    """What was done adds up in the table, each app and access method for itself."""
    done = traffic(site)
    site.stop_proxy()
    rows = site.rows()
    assert {row[:2] for row in rows} == {
        ("path", "code"),
        ("path", "jupyter"),
        ("subdomain", "jupyter"),
        ("terminal", ""),
    }
    assert {row[2] for row in rows} == {"reported"}
    assert [sum(row[3] for row in rows), sum(row[4] for row in rows)] == [done["pages"] + done["websockets"]] * 2
    assert min(done[kind] for kind in ("pages", "redirects", "missing", "websockets", "messages")) > 0


def check_websocket(site: Site) -> None:
    """A WebSocket is in use while it is open, and ends with its browser, or when the proxy stops in order."""

    async def live(count: int) -> None:
        await asyncio.to_thread(eventually, site.daemon.status, lambda status: status.live_sessions == count)

    async def use() -> None:
        async with ClientSession(site.url) as http:
            async with http.ws_connect("/terminal", headers=WHO, protocols=["echo"]) as socket:
                await socket.send_str("hello")
                assert await socket.receive_str() == "hello"
                await live(1)
            await live(0)
            async with http.ws_connect("/apps/code/socket", headers=WHO):
                await live(1)
                site.proxy.send_signal(signal.SIGTERM)
                await live(0)

    asyncio.run(use())
    assert site.proxy.wait(PATIENCE_SECONDS) == 0
    assert site.rows() == [("path", "code", "reported", 1, 1), ("terminal", "", "reported", 1, 1)]
