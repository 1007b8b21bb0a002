"""What stands behind Envoy, and who comes to it? Real servers and real traffic, in a thread of their own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import aiohttp
import grpc
from aiohttp import web

from tests.support.daemon import PATIENCE_SECONDS
from tests.support.raw_client import now_us

_T = TypeVar("_T")


class Upstream:
    """An app of HTTP and WebSockets, and a server that sends back what it gets; on an event loop of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="upstream")
        self._thread.start()
        self.http_port, self.tcp_port = self.run(self._start())

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    async def _start(self) -> tuple[int, int]:
        app = web.Application()
        app.router.add_route("*", "/page", _page)
        app.router.add_get("/status/{status}", _status)
        app.router.add_get("/socket", _echo_messages)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._echo = await asyncio.start_server(_echo, "127.0.0.1", 0)
        return int(self._runner.addresses[0][1]), int(self._echo.sockets[0].getsockname()[1])

    def close(self) -> None:
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()

    async def _stop(self) -> None:
        self._echo.close()
        await self._runner.cleanup()


async def _page(request: web.Request) -> web.Response:
    if request.content_type == "application/grpc":
        # What a client of gRPC takes for an answer, though one without a message.
        return web.Response(headers={"content-type": "application/grpc", "grpc-status": "5", "grpc-message": "a page"})
    return web.Response(text="a page")


async def _status(request: web.Request) -> web.Response:
    return web.Response(status=int(request.match_info["status"]), headers={"location": "/page"})


async def _echo_messages(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


class Traffic:
    """Users of what stands behind Envoy."""

    def __init__(self, upstream: Upstream, ports: Callable[[], dict[str, int]]) -> None:
        """`ports` are those of Envoy's listeners at present."""
        self._upstream = upstream
        self._ports = ports

    def get(self, host: str, count: int = 1, status: int = 200, **headers: str) -> None:
        """So many requests over HTTP/1.1, a few at once, which are answered with this status."""

        async def go() -> None:
            path = "/page" if status == 200 else f"/status/{status}"
            async with aiohttp.ClientSession(self._url("http"), connector=aiohttp.TCPConnector(limit=4)) as session:
                answers = await asyncio.gather(*(self._get(session, path, host, headers) for _ in range(count)))
            assert answers == [status] * count

        self._upstream.run(go())

    async def _get(self, session: aiohttp.ClientSession, path: str, host: str, headers: dict[str, str]) -> int:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        async with session.get(path, headers={"host": host, **named}, allow_redirects=False) as answer:
            await answer.read()
            return answer.status

    def get_http_2(self, host: str, count: int = 1, **headers: str) -> None:
        """So many requests over one connection of HTTP/2, all at once: by a client of gRPC."""
        named = [(name.replace("_", "-"), text) for name, text in headers.items()]
        options = [("grpc.default_authority", host), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{self._ports()['apps']}", options=options) as channel:
            calls = [channel.unary_unary("/page").future(b"", metadata=named) for _ in range(count)]
            for call in calls:
                answer = call.exception(PATIENCE_SECONDS)
                assert (answer.code(), answer.details()) == (grpc.StatusCode.NOT_FOUND, "a page")

    def open_socket(self, host: str, **headers: str) -> Open:
        """A WebSocket over which a message has come back."""

        async def go() -> Callable[[], Awaitable[None]]:
            session = aiohttp.ClientSession(self._url("ws"))
            named = {name.replace("_", "-"): text for name, text in headers.items()}
            socket = await session.ws_connect("/socket", headers={"host": host, **named})
            await socket.send_str("ping")
            assert (await socket.receive()).data == "ping"

            async def close() -> None:
                await socket.close()
                await session.close()

            return close

        return Open(self._upstream, go())

    def open_terminal(self, first: bytes = b"ping", behind_proxy: bytes = b"") -> Open:
        """A connection over which its first bytes have come back; `behind_proxy` is what a proxy in front says before."""

        async def go() -> Callable[[], Awaitable[None]]:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._ports()["terminal"])
            writer.write(behind_proxy + first)
            assert await reader.readexactly(len(first)) == first

            async def close() -> None:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

            return close

        return Open(self._upstream, go())

    def _url(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self._ports()['apps']}"


class Open:
    """A connection that is open until it is closed."""

    def __init__(self, upstream: Upstream, opening: Coroutine[Any, Any, Callable[[], Awaitable[None]]]) -> None:
        self._upstream = upstream
        before = now_us()
        self._close = upstream.run(opening)
        self.began = before, now_us()
        """When it began at the earliest and at the latest, in microseconds since the Unix epoch."""

    def close(self) -> int:
        """Close it, as its user would; when that began. Whoever is at the other end notices a little later."""
        before = now_us()

        async def close() -> None:
            await self._close()

        self._upstream.run(close())
        return before
