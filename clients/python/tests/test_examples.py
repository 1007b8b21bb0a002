"""The example proxy with real HTTP and WebSocket traffic: what reaches the daemon is what was used."""

from __future__ import annotations

import asyncio
import os
import signal
import socket as sockets
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError
from aiohttp.test_utils import TestServer, unused_port
from appstatsd_client import AsyncClient, Limits
from model_daemon import Held
from scripted_daemon import DEADLINE_SECONDS, ScriptedDaemon

EXAMPLES = Path(__file__).parent.parent / "examples"
USER, WORKSPACE, AGENT = (UUID(int=n) for n in (1, 2, 3))
WHO = {"X-User-Id": str(USER), "X-Workspace-Id": str(WORKSPACE), "X-Agent-Id": str(AGENT)}
QUICK = Limits(linger_seconds=0.001)


def example(name: str) -> ModuleType:
    spec = util.spec_from_file_location(f"appstatsd_example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reverse_proxy, upstream, traffic = example("reverse_proxy"), example("upstream"), example("traffic")


@asynccontextmanager
async def running(daemon: ScriptedDaemon) -> AsyncIterator[ClientSession]:
    """Upstream and proxy; the session speaks to the proxy. At the end everything was reported and confirmed."""
    async with TestServer(upstream.make_app()) as behind:
        reporter = AsyncClient(daemon.target, limits=QUICK)
        proxy = TestServer(reverse_proxy.make_app(str(behind.make_url("/")), reporter))
        async with proxy, ClientSession(str(proxy.make_url("/"))) as http:
            yield http
        assert await reporter.close()


def reported(daemon: ScriptedDaemon, use: Callable[[ClientSession], Awaitable[Any]]) -> list[Held]:
    """What the daemon knows after a proxy has served this."""

    async def serve() -> None:
        async with running(daemon) as http:
            await use(http)

    asyncio.run(serve())
    return list(daemon.model.sessions.values())


async def seen(daemon: ScriptedDaemon, condition: Callable[[ScriptedDaemon], Any]) -> None:
    await asyncio.get_running_loop().run_in_executor(None, daemon.wait_for, condition)


def app(method: int, slug: str) -> tuple[bytes, bytes, bytes, int, str]:
    return USER.bytes, WORKSPACE.bytes, AGENT.bytes, method, slug


def test_a_request_is_a_short_session_of_the_app_that_its_url_names(daemon: ScriptedDaemon) -> None:
    async def use(http: ClientSession) -> None:
        async with http.get("apps/code/page/one?q=1", headers=WHO) as answer:
            assert (answer.status, await answer.text()) == (200, "<h1>/page/one</h1>\n")
        async with http.get("page/two", headers=WHO | {"Host": "jupyter.apps.example"}) as answer:
            assert await answer.text() == "<h1>/page/two</h1>\n"

    held = reported(daemon, use)
    assert sorted(session.app for session in held) == [app(1, "code"), app(2, "jupyter")]
    assert all(session.requests == 1 and session.ended_ns >= session.started_ns for session in held)


def test_what_is_sent_arrives_and_comes_back(daemon: ScriptedDaemon) -> None:
    body = os.urandom(300_000)

    async def use(http: ClientSession) -> None:
        async with http.post("apps/code/save", data=body, headers=WHO) as answer:
            assert (answer.status, await answer.read()) == (201, body)

    assert len(reported(daemon, use)) == 1


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("apps/code/redirect", WHO, 302),
        ("apps/code/missing", WHO, 404),
        ("nothing", WHO, 404),
        ("apps/code/", {}, 401),
        ("apps/code/", WHO | {"X-User-Id": "me"}, 401),
        ("apps//page/one", WHO, 401),
    ],
)
def test_where_nothing_was_used_nothing_is_reported(
    daemon: ScriptedDaemon, path: str, headers: dict[str, str], status: int
) -> None:
    async def use(http: ClientSession) -> None:
        async with http.get(path, headers=headers, allow_redirects=False) as answer:
            assert answer.status == status

    assert reported(daemon, use) == []


def test_an_app_that_is_not_there_is_a_bad_gateway_and_no_session(daemon: ScriptedDaemon) -> None:
    async def serve() -> None:
        reporter = AsyncClient(daemon.target, limits=QUICK)
        nowhere = f"http://127.0.0.1:{unused_port()}"
        proxy = TestServer(reverse_proxy.make_app(nowhere, reporter))
        async with proxy, ClientSession(str(proxy.make_url("/"))) as http:
            async with http.get("apps/code/", headers=WHO) as answer:
                assert answer.status == 502
            with pytest.raises(WSServerHandshakeError):
                await http.ws_connect("apps/code/socket", headers=WHO)

    asyncio.run(serve())
    assert daemon.model.sessions == {}


@pytest.mark.parametrize(("path", "used"), [("apps/code/socket", app(1, "code")), ("terminal", app(3, ""))])
def test_a_websocket_is_live_while_it_is_open_and_ends_when_the_browser_closes_it(
    daemon: ScriptedDaemon, path: str, used: tuple[Any, ...]
) -> None:
    async def use(http: ClientSession) -> None:
        async with http.ws_connect(path, headers=WHO, protocols=["other", "echo"]) as socket:
            assert socket.protocol == "echo"
            await socket.send_str("text")
            await socket.send_bytes(b"bytes")
            assert (await socket.receive_str(), await socket.receive_bytes()) == ("text", b"bytes")
            await seen(daemon, lambda d: [held.ended_ns for held in d.model.sessions.values()] == [0])
        await seen(daemon, lambda d: all(held.ended_ns for held in d.model.sessions.values()))

    [held] = reported(daemon, use)
    assert (held.app, held.requests) == (used, 1)


def test_a_websocket_ends_when_the_app_closes_it(daemon: ScriptedDaemon) -> None:
    async def use(http: ClientSession) -> None:
        async with http.ws_connect("apps/code/socket", headers=WHO) as socket:
            await socket.send_str("close")
            assert (await socket.receive()).type is WSMsgType.CLOSE
            assert socket.close_code == 1000
            await seen(daemon, lambda d: d.model.sessions and all(h.ended_ns for h in d.model.sessions.values()))

    assert len(reported(daemon, use)) == 1


def test_a_websocket_ends_when_the_browser_is_gone(daemon: ScriptedDaemon) -> None:
    async def use(http: ClientSession) -> None:
        socket = await http.ws_connect("apps/code/socket", headers=WHO)
        await seen(daemon, lambda d: d.model.sessions)
        connection = sockets.socket(fileno=os.dup(socket.get_extra_info("socket").fileno()))
        connection.shutdown(sockets.SHUT_RDWR)  # no closing handshake
        connection.close()
        await seen(daemon, lambda d: all(held.ended_ns for held in d.model.sessions.values()))

    assert len(reported(daemon, use)) == 1


def test_the_driven_traffic_adds_up(daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "PAUSE_SECONDS", 0)
    done: dict[str, int] = {}

    async def use(http: ClientSession) -> None:
        done.update(await traffic.drive(str(http._base_url), 0.5, users=3, workspaces=2))

    held = reported(daemon, use)
    assert len(held) == done["pages"] + done["websockets"]
    assert min(done[kind] for kind in ("pages", "redirects", "missing", "websockets", "messages")) > 0
    assert all(session.ended_ns for session in held)


def test_the_programs_run_and_end_their_websockets_when_they_are_terminated(daemon: ScriptedDaemon) -> None:
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLES.parent), *sys.path]), "PYTHONUNBUFFERED": "1"}

    def start(name: str, *arguments: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, EXAMPLES / f"{name}.py", "--listen", "127.0.0.1:0", *arguments]
        process = subprocess.Popen(command, env=path, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        return process, next(word for word in process.stdout.readline().split() if word.startswith("http://"))

    behind, app_url = start("upstream")
    proxy, proxy_url = start("reverse_proxy", "--upstream", app_url, "--appstatsd", daemon.target)
    try:

        async def use() -> None:
            async with ClientSession(proxy_url) as http, http.ws_connect("/terminal", headers=WHO):
                await seen(daemon, lambda d: d.model.sessions)
                proxy.send_signal(signal.SIGTERM)
                await seen(daemon, lambda d: d.model.closed)

        asyncio.run(use())
        [held] = daemon.model.sessions.values()
        assert held.ended_ns
        assert proxy.wait(DEADLINE_SECONDS) == 0
    finally:
        for process in (proxy, behind):
            process.terminate()
            process.communicate(timeout=DEADLINE_SECONDS)
