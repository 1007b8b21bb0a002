"""The HTTP hook, against a server that answers as a test says."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from appstatsd.activity.hook import HttpHook
from appstatsd.activity.notices import Notice, NotTold
from appstatsd.http_url import HttpUrl

WORKSPACE = bytes(15) + b"\x0b"


class Listener(ThreadingHTTPServer):
    """Keeps what it was told."""

    status = 204

    def __init__(self) -> None:
        self.told: list[tuple[str, str | None, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever, name="listener")
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_all_workspaces_of_an_interval_come_in_one_request(listener: Listener) -> None:
    hook = HttpHook(HttpUrl.parse(f"{listener.url}/activity?token=x"))
    hook([Notice(WORKSPACE, 0), Notice(WORKSPACE, 1)])
    [(path, kind, body)] = listener.told
    assert (path, kind) == ("/activity?token=x", "application/json")
    assert body == {"workspaces": [Notice(WORKSPACE, 0).as_json(), Notice(WORKSPACE, 1).as_json()]}


def test_an_answer_that_is_no_success_is_said_without_the_path(listener: Listener) -> None:
    listener.status = 503
    with pytest.raises(NotTold, match=r"http://127\.0\.0\.1:\d+ answered with status 503, expected") as caught:
        HttpHook(HttpUrl.parse(f"{listener.url}/activity?token=secret"))([Notice(WORKSPACE, 0)])
    assert "secret" not in str(caught.value)


def test_nobody_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(NotTold, match="refused"):
        HttpHook(HttpUrl.parse(f"http://127.0.0.1:{port}/"))([Notice(WORKSPACE, 0)])


def test_who_keeps_silent_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(NotTold, match="timed out"):
        HttpHook(HttpUrl.parse(f"http://127.0.0.1:{silent.getsockname()[1]}/"), seconds=0.05)([Notice(WORKSPACE, 0)])


def test_who_speaks_no_http_is_given_up() -> None:
    def answer(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(b"220 mail.example.com\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,), name="mail")
        thread.start()
        with pytest.raises(NotTold, match="took no notice"):
            HttpHook(HttpUrl.parse(f"http://127.0.0.1:{server.getsockname()[1]}/"))([Notice(WORKSPACE, 0)])
        thread.join()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://host", "http://host:80/"),
        ("https://host/a?b=c", "https://host:443/a?b=c"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
    ],
)
def test_a_url_is_read(text: str, shown: str) -> None:
    assert str(HttpUrl.parse(text)) == shown


@pytest.mark.parametrize(
    "text", ["", "host", "ftp://host/", "http://", "http://a b/", "http://u:p@host/", "http://host:x/", "http://h/\n"]
)
def test_anything_else_is_no_url(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        HttpUrl.parse(text)
