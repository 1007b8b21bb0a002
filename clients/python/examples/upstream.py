"""A tiny app to stand behind the example proxy: a few pages, a redirect, a 404 and a WebSocket that echoes.

python upstream.py --listen 127.0.0.1:9000
"""

from __future__ import annotations

import argparse

from aiohttp import WSMsgType, web


async def page(request: web.Request) -> web.Response:
    """Any page; it says its name."""
    return web.Response(text=f"<h1>{request.path}</h1>\n", content_type="text/html")


async def save(request: web.Request) -> web.Response:
    """Takes what is sent and sends it back."""
    return web.Response(body=await request.read(), status=201)


async def redirect(request: web.Request) -> web.Response:
    """Somewhere else."""
    raise web.HTTPFound("page/home")


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Sends every message back; closes when it is told to."""
    socket = web.WebSocketResponse(protocols=["echo"])
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            if message.data == "close":
                break
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    await socket.close(code=1000)
    return socket


def make_app() -> web.Application:
    """The app; what is not here is a 404."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/", page),
            web.get("/page/{name}", page),
            web.post("/save", save),
            web.get("/redirect", redirect),
            web.get("/socket", echo),
            web.get("/terminal", echo),
        ]
    )
    return app


def main() -> None:
    """Runs the app until it is interrupted or terminated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default="127.0.0.1:9000", help="HOST:PORT, port 0 for any (default: %(default)s)")
    host, _, port = parser.parse_args().listen.rpartition(":")
    web.run_app(make_app(), host=host, port=int(port), shutdown_timeout=1.0)


if __name__ == "__main__":
    main()
