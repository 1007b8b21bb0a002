"""Is a name found in every place where Envoy lets it stand, whatever the protocol?

Envoy's own binary with docs/envoy/names.yaml tells its log to a server that only writes down what it is told; each origin
is then looked for in all of it.
"""

from __future__ import annotations

import ssl
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

import grpc
import pytest
from appstatsd.accesslog.envoy import Log, Told, told
from appstatsd.accesslog.naming import Naming, Unnamed
from appstatsd.accesslog.origins import HostPattern, parse_origin
from appstatsd.ingest.server import handlers
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse

from tests.support.behind_envoy import Traffic, Upstream
from tests.support.daemon import eventually
from tests.support.envoy import Envoy, configuration
from tests.support.raw_client import now_us

HOST = "{}.{}.apps.example.com"
USER = "alice"


@dataclass
class Notebook:
    """What a log told, as it came."""

    messages: list[tuple[str, StreamAccessLogsMessage]] = field(default_factory=list)

    def write(self, requests: Any, context: object) -> StreamAccessLogsResponse:
        log = ""
        for message in requests:
            log = message.identifier.log_name or log
            self.messages.append((log, message))
        return StreamAccessLogsResponse()

    def sessions(self, origin: str) -> dict[str, set[Told | Unnamed]]:
        """By what was done, what this origin makes of the entries."""
        made: dict[str, set[Told | Unnamed]] = {}
        for log, message in list(self.messages):
            for entry, one in told(message, Log("edge-1", log), naming(origin), now_us() * 1000):
                assert isinstance(one, (Told, Unnamed)), one
                what = entry.host.partition(".")[2].partition(".")[0] or "TCP"
                made.setdefault(what, set()).add(one)
        return made


def naming(origin: str) -> Naming:
    constant = (parse_origin("constant:main"),)
    method = (parse_origin("constant:subdomain"),)
    pattern = HostPattern("{user}.{protocol}.apps.example.com")
    return Naming((parse_origin(origin),), constant, constant, method, constant, pattern, NAMESPACE_DNS)


PROTOCOLS = {"http-1", "http-2", "websocket", "tls"}


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """What was told of a user's request over HTTP/1.1, of one over HTTP/2, of a WebSocket, and of a connection of TLS."""
    folder = tmp_path_factory.mktemp("envoy")
    notebook, upstream = Notebook(), Upstream()
    server = grpc.server(ThreadPoolExecutor(8))
    method = grpc.stream_unary_rpc_method_handler(
        notebook.write,
        request_deserializer=StreamAccessLogsMessage.FromString,
        response_serializer=StreamAccessLogsResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [handlers("envoy.service.accesslog.v3.AccessLogService", {"StreamAccessLogs": method})]
    )
    server.add_insecure_port(f"unix:{folder / 'a.sock'}")
    server.start()
    envoy = Envoy(folder, configuration("names.yaml", upstream.http_port, upstream.tcp_port, folder / "a.sock"))
    try:
        envoy.start()
        traffic = Traffic(upstream, lambda: envoy.ports)
        traffic.get(HOST.format(USER, "http-1"), x_user=USER)
        traffic.get_http_2(HOST.format(USER, "http-2"), x_user=USER)
        traffic.open_socket(HOST.format(USER, "websocket"), x_user=USER).close()
        hello = client_hello(HOST.format(USER, "tls"))
        traffic.open_terminal(hello, behind_proxy=proxy_protocol(USER)).close()
        eventually(lambda: ended(notebook), lambda found: found == PROTOCOLS)
        yield notebook
    finally:
        envoy.kill()
        server.stop(0).wait()
        upstream.close()


def ended(notebook: Notebook) -> set[str]:
    """What the log has told the end of."""
    return {
        what
        for what, found in notebook.sessions("host:user").items()
        if any(isinstance(one, Told) and one.ended_ns for one in found)
    }


def client_hello(host: str) -> bytes:
    """The first bytes of a client of TLS that asks for this host."""
    sent = ssl.MemoryBIO()
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=host).do_handshake()
    return sent.read()


def proxy_protocol(user: str) -> bytes:
    """What a proxy in front says first, in version 2 of the protocol, with the user in a field of its own."""
    fields = struct.pack("!BH", 0xE0, len(user)) + user.encode()
    addresses = struct.pack("!4s4sHH", bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]), 40_000, 22)
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, 0x11, len(addresses + fields)) + addresses + fields


@pytest.mark.parametrize(
    ("origin", "protocols"),
    [
        ("header:x-user", {"http-1", "http-2", "websocket"}),
        ("tag:user", PROTOCOLS),
        ("metadata:app/user", {"http-1", "http-2", "websocket"}),
        ("metadata:envoy.filters.listener.proxy_protocol/user", {"tls"}),
        ("filter-state:app.user", PROTOCOLS),
        ("host:user", PROTOCOLS),
        ("constant:alice", PROTOCOLS),
        ("header:x-other", set()),
    ],
)
def test_a_name_is_found_wherever_envoy_lets_it_stand(notebook: Notebook, origin: str, protocols: set[str]) -> None:
    made = notebook.sessions(origin)
    assert set(made) == PROTOCOLS
    for protocol, found in made.items():
        for one in found:
            if protocol in protocols:
                assert isinstance(one, Told), (protocol, one)
                assert one.app.user_id == uuid5(NAMESPACE_DNS, USER).bytes
            else:
                assert one is Unnamed.NO_USER


def test_all_that_is_told_of_one_use_is_one_session(notebook: Notebook) -> None:
    for protocol, found in notebook.sessions("host:user").items():
        assert len({one.session_id for one in found if isinstance(one, Told)}) == 1, protocol
