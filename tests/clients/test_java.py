"""The Java client: its own tests, the lines of its README, and its example proxy with real traffic, as rows."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from aiohttp import ClientSession, WSMsgType

from tests.support.daemon import COMMAND, PATIENCE_SECONDS, DaemonProcess, eventually

ROOT = Path(__file__).parents[2]
JAVA = ROOT / "clients/java"
PYTHON_EXAMPLES = ROOT / "clients/python/examples"
LATER_US = 600_000_000
BUILD_SECONDS = 600
IDS = tuple(UUID(int=n) for n in (1, 2, 3))
WHO = {f"X-{name}-Id": str(value) for name, value in zip(("User", "Workspace", "Agent"), IDS, strict=True)}
NOTHING_USED = (
    ("/apps/code/redirect", WHO, 302),
    ("/apps/code/missing", WHO, 404),
    ("/nothing", WHO, 404),
    ("/apps/code/", {}, 401),
    ("/apps/code/", WHO | {"X-User-Id": "me"}, 401),
    ("/apps//page/one", WHO, 400),  # Jetty takes no empty part of a path
)
"""Path, headers, and what the proxy answers."""
PLACE = "unix:/run/appstatsd/appstatsd.sock"

MISSING = [program for program in ("java", "javac", "mvn") if shutil.which(program) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
    pytest.mark.timeout(2 * BUILD_SECONDS),
]


def maven(*words: str) -> subprocess.CompletedProcess[str]:
    """Without the network, and with it where something is not there yet. One build at a time."""
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build/conformance.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for mode in (["--offline"], []):
            command = ["mvn", "--quiet", "--batch-mode", *mode, *words]
            done = subprocess.run(command, cwd=JAVA, capture_output=True, text=True, timeout=BUILD_SECONDS)
            if done.returncode == 0 or "offline" not in done.stdout:
                return done
    return done


@pytest.fixture(scope="module")
def built() -> None:
    """Everything is compiled."""
    done = maven("package", "-DskipTests")
    assert done.returncode == 0, done.stdout[-8000:]


@pytest.fixture
def site(tmp_path: Path, postgres_url: str) -> Iterator[Site]:
    site = Site(tmp_path, postgres_url)
    try:
        yield site
    finally:
        site.end()


class Site:
    """A daemon, its database, and the programs beside it."""

    def __init__(self, folder: Path, url: str) -> None:
        subprocess.run([COMMAND, "migrate", f"--database-url={url}"], check=True, capture_output=True)
        self._url = url
        self._programs: list[subprocess.Popen[str]] = []
        self.daemon = DaemonProcess(folder, url, "--enable-test-clock")
        self.daemon.start()

    def run(self, *command: str | Path) -> tuple[subprocess.Popen[str], str]:
        """Starts a program; returns it and the URL that it says it listens on."""
        path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
        program = subprocess.Popen(command, env=path, stdout=subprocess.PIPE, text=True)
        self._programs.append(program)
        assert program.stdout
        return program, next(word for word in program.stdout.readline().split() if word.startswith("http://"))

    def flushed(self, columns: str) -> list[tuple[Any, ...]]:
        """What stands in the table ten minutes from now."""
        self.daemon.flush(time.time_ns() // 1000 + LATER_US)
        with psycopg.connect(self._url) as connection:
            return connection.execute(f"SELECT {columns} FROM workspace_app_stats ORDER BY 1").fetchall()  # type: ignore[arg-type]

    def end(self) -> None:
        self.daemon.kill()
        for program in self._programs:
            program.kill()
            program.communicate()


def class_path(module: str) -> str:
    # The client's classes come before its jar, which a build beside this test may be writing.
    classes = f"{JAVA / module / 'target/classes'}:{JAVA / 'client/target/classes'}"
    return f"{classes}:{(JAVA / module / 'target/classpath').read_text()}"


def test_it_builds_and_its_own_tests_pass() -> None:
    done = maven("verify")
    assert done.returncode == 0, done.stdout[-8000:]
    assert list((JAVA / "client/target/surefire-reports").glob("TEST-*.xml"))


@pytest.mark.usefixtures("built")
def test_the_lines_of_the_readme_work(site: Site, tmp_path: Path) -> None:
    [lines] = re.findall(r"```java\n(.*?)```", (JAVA / "README.md").read_text(), re.DOTALL)
    assert PLACE in lines
    demo = tmp_path / "Demo.java"
    # On a busy machine a virtual machine that has just begun may take longer than `close` waits by itself.
    patient = lines.replace(
        "        } // leaving", f"client.close(java.time.Duration.ofSeconds({PATIENCE_SECONDS:.0f})); }} // leaving"
    )
    assert patient != lines
    demo.write_text(patient.replace(PLACE, site.daemon.target))
    subprocess.run(["java", "-cp", class_path("client"), demo], check=True, capture_output=True)
    assert site.flushed("access_method, slug_or_port, sessions, requests, end_source") == [
        ("subdomain", "code", 1, 2, "reported")
    ]
    [client] = site.daemon.status().clients
    assert not client.connected


async def used(proxy_url: str, daemon: DaemonProcess) -> None:
    """Every kind of request, and WebSockets by path and of a terminal; each ends before this does."""
    body = os.urandom(300_000)
    async with ClientSession(proxy_url) as http:
        async with http.get("/apps/code/page/one?q=1", headers=WHO) as answer:
            assert (answer.status, await answer.text()) == (200, "<h1>/page/one</h1>\n")
        async with http.get("/page/two", headers=WHO | {"Host": "jupyter.apps.example"}) as answer:
            assert await answer.text() == "<h1>/page/two</h1>\n"
        async with http.post("/apps/code/save", data=body, headers=WHO) as answer:
            assert (answer.status, await answer.read()) == (201, body)
        for path, headers, status in NOTHING_USED:
            async with http.get(path, headers=headers, allow_redirects=False) as answer:
                assert (path, answer.status) == (path, status)
        for path in ("/apps/code/socket", "/terminal"):
            async with http.ws_connect(path, headers=WHO, protocols=["other", "echo"]) as socket:
                assert socket.protocol == "echo"
                await socket.send_str("text")
                await socket.send_bytes(b"bytes")
                assert (await socket.receive_str(), await socket.receive_bytes()) == ("text", b"bytes")
                await asyncio.to_thread(eventually, daemon.status, lambda status: status.live_sessions == 1)
            await asyncio.to_thread(eventually, daemon.status, lambda status: status.live_sessions == 0)
        async with http.ws_connect("/apps/code/socket", headers=WHO) as socket:
            await socket.send_str("close")
            assert (await socket.receive()).type is WSMsgType.CLOSE
            assert socket.close_code == 1000


async def left_open(proxy_url: str, proxy: subprocess.Popen[str], daemon: DaemonProcess) -> None:
    """A WebSocket that is open when the proxy is terminated."""
    async with ClientSession(proxy_url) as http, http.ws_connect("/terminal", headers=WHO):
        await asyncio.to_thread(eventually, daemon.status, lambda status: status.live_sessions == 1)
        proxy.send_signal(signal.SIGTERM)
        await asyncio.to_thread(eventually, daemon.status, lambda status: status.live_sessions == 0)


@pytest.mark.usefixtures("built")
def test_what_was_used_through_the_example_proxy_is_in_the_table_and_nothing_else(site: Site) -> None:
    _, app_url = site.run(sys.executable, PYTHON_EXAMPLES / "upstream.py", "--listen", "127.0.0.1:0")
    main = ["java", "-cp", class_path("examples"), "io.appstatsd.examples.ReverseProxy"]
    proxy, proxy_url = site.run(*main, "127.0.0.1:0", app_url, site.daemon.target)
    asyncio.run(used(proxy_url, site.daemon))
    asyncio.run(left_open(proxy_url, proxy, site.daemon))
    assert proxy.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM  # as the virtual machine ends after its hooks
    rows = site.flushed("access_method, slug_or_port, end_source, user_id, workspace_id, agent_id, sessions, requests")
    sums: Counter[tuple[Any, ...]] = Counter()
    for *kept, sessions, requests in rows:
        assert sessions == requests
        sums[tuple(kept)] += sessions
    assert sums == {
        ("path", "code", "reported", *IDS): 4,
        ("subdomain", "jupyter", "reported", *IDS): 1,
        ("terminal", "", "reported", *IDS): 2,
    }
