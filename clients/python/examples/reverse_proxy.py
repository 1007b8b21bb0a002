"""A small reverse proxy, HTTP and WebSockets through aiohttp, that reports to appstatsd who uses which app.

    python reverse_proxy.py --upstream http://127.0.0.1:9000 --appstatsd unix:/run/appstatsd/appstatsd.sock

Who asks, and for what, comes in headers that whatever authenticates in front of this proxy sets (and strips from what came
from outside): `X-User-Id`, `X-Workspace-Id` and `X-Agent-Id`, each a UUID. A request without them is not let through. How
the app is reached stands in the URL:

| request | access method | slug or port |
| --- | --- | --- |
| `/apps/SLUG/…`, passed on as `/…` | path | SLUG |
| Host `SLUG.apps.…` | subdomain | SLUG |
| `/terminal` | terminal | (empty) |

A WebSocket is one session, reported when it opens and ended when it is over, however that comes about. Any other request
is a short session of its own, and none where nothing was used: a redirect, a 404, an upstream that is not there.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import ClientError, ClientSession, ClientWebSocketResponse, DummyCookieJar, WSMsgType, web
from appstatsd_client import AccessMethod, App, AsyncClient
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

REPORTER: Final = web.AppKey("reporter", AsyncClient)
SESSIONS: Final = web.AppKey("sessions", ClientSession)
UPSTREAM: Final = web.AppKey("upstream", URL)

REDIRECTS: Final = {301, 302, 303, 307, 308}
ONE_HOP: Final = {
    "connection",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
"""Headers that are between two neighbors only."""
NOT_SENT: Final = {1005, 1006, 1015}
"""Codes that say how a WebSocket ended without being sent over it."""


def what_is_used(request: web.Request) -> tuple[App, str]:
    """The app that a request is for, and the path to ask the upstream for.

    Raises `web.HTTPUnauthorized` where the headers do not say who asks, `web.HTTPNotFound` where the URL names no app.
    """
    method, slug, path = AccessMethod.PATH, "", request.rel_url.raw_path
    host = request.host.split(".")
    if host[1:2] == ["apps"]:
        method, slug = AccessMethod.SUBDOMAIN, host[0]
    elif path.startswith("/apps/"):
        slug, _, rest = path.removeprefix("/apps/").partition("/")
        path = f"/{rest}"
    elif path == "/terminal":
        method = AccessMethod.TERMINAL
    else:
        raise web.HTTPNotFound(text="no app; ask for /apps/SLUG/, SLUG.apps.HOST or /terminal\n")
    user, workspace, agent = (request.headers.get(f"X-{name}-Id", "") for name in ("User", "Workspace", "Agent"))
    try:
        return App(user, workspace, agent, method, slug), path
    except ValueError as error:
        raise web.HTTPUnauthorized(text=f"{error}\n") from error


def passed_on(headers: CIMultiDictProxy[str], *more: str) -> CIMultiDict[str]:
    """The headers that go on to the other side: all but those of one hop and those named."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    left_out = ONE_HOP | named | {name.lower() for name in more}
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in left_out)


async def forward(request: web.Request) -> web.StreamResponse:
    """Passes one request on and reports it."""
    app, path = what_is_used(request)
    url = request.app[UPSTREAM].join(URL.build(path=path, query_string=request.rel_url.raw_query_string, encoded=True))
    try:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await forward_websocket(request, app, url)
        return await forward_http(request, app, url)
    except (ClientError, TimeoutError) as error:
        raise web.HTTPBadGateway(text=f"the app does not answer: {error}\n") from error


async def forward_http(request: web.Request, app: App, url: URL) -> web.StreamResponse:
    """One request, one short session."""
    # Nothing is reported before it ends: only the answer shows whether the app was used.
    session = request.app[REPORTER].begin(app, report_live=False)
    used = False
    try:
        async with request.app[SESSIONS].request(
            request.method,
            url,
            headers=passed_on(request.headers),
            data=request.content if request.can_read_body else None,
            allow_redirects=False,
        ) as answer:
            used = answer.status not in REDIRECTS and answer.status != 404
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            response.headers.extend(passed_on(answer.headers))
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response
    finally:
        if used:
            session.end()


async def forward_websocket(request: web.Request, app: App, url: URL) -> web.WebSocketResponse:
    """One WebSocket, one session, from when it is open on both sides until it is over on one."""
    headers = passed_on(
        request.headers, *(name for name in request.headers if name.lower().startswith("sec-websocket"))
    )
    protocols = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if name.strip()]
    async with request.app[SESSIONS].ws_connect(url, headers=headers, protocols=protocols, max_msg_size=0) as upstream:
        browser = web.WebSocketResponse(protocols=[upstream.protocol] if upstream.protocol else [], max_msg_size=0)
        await browser.prepare(request)
        session = request.app[REPORTER].begin(app)
        try:
            directions = [
                asyncio.ensure_future(pump(browser, upstream)),
                asyncio.ensure_future(pump(upstream, browser)),
            ]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
        finally:
            session.end()
        code = upstream.close_code
        await browser.close(code=1011 if code is None or code in NOT_SENT else code)
        return browser


async def pump(
    source: web.WebSocketResponse | ClientWebSocketResponse, sink: web.WebSocketResponse | ClientWebSocketResponse
) -> None:
    """Passes on messages until the source is closed."""
    async for message in source:
        if message.type is WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await sink.send_bytes(message.data)


def make_app(upstream: str, reporter: AsyncClient) -> web.Application:
    """The proxy as an application; it closes the reporter when it ends."""
    app = web.Application()
    app[UPSTREAM] = URL(upstream)
    app[REPORTER] = reporter

    async def connections(app: web.Application) -> AsyncIterator[None]:
        async with reporter, ClientSession(auto_decompress=False, cookie_jar=DummyCookieJar()) as app[SESSIONS]:
            yield

    app.cleanup_ctx.append(connections)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


def main() -> None:
    """Runs the proxy until it is interrupted or terminated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default="127.0.0.1:8080", help="HOST:PORT, port 0 for any (default: %(default)s)")
    parser.add_argument("--upstream", required=True, help="URL of the app behind this proxy")
    parser.add_argument("--appstatsd", required=True, help="where appstatsd listens: unix:PATH or HOST:PORT")
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")

    async def start() -> web.Application:
        return make_app(options.upstream, AsyncClient(options.appstatsd))

    # Open WebSockets keep their handlers running; at the end they get a moment, then they are cancelled, and so ended.
    web.run_app(start(), host=host, port=int(port), shutdown_timeout=1.0)


if __name__ == "__main__":
    main()
