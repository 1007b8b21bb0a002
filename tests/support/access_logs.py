"""How does a test say what Envoy's access log tells? Entries and messages of the protocol, made by hand."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from appstatsd.accesslog.naming import Naming
from appstatsd.accesslog.origins import parse_origin
from envoy.config.core.v3.address_pb2 import Address, SocketAddress
from envoy.data.accesslog.v3.accesslog_pb2 import (
    AccessLogCommon,
    AccessLogType,
    HTTPAccessLogEntry,
    TCPAccessLogEntry,
)
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage

from tests.support.reports import T0, ReportedApp

START, PERIODIC, END, TUNNEL = (
    AccessLogType.DownstreamStart,
    AccessLogType.DownstreamPeriodic,
    AccessLogType.DownstreamEnd,
    AccessLogType.DownstreamTunnelSuccessfullyEstablished,
)
CONNECTED, TCP_PERIODIC, TCP_END = (
    AccessLogType.TcpUpstreamConnected,
    AccessLogType.TcpPeriodic,
    AccessLogType.TcpConnectionEnd,
)

NAMING = Naming(
    user=(parse_origin("header:x-user"), parse_origin("tag:user")),
    workspace=(parse_origin("header:x-workspace"), parse_origin("constant:dev")),
    agent=(parse_origin("constant:main"),),
    access_method=(parse_origin("constant:subdomain"),),
    slug_or_port=(parse_origin("constant:code"),),
    host_pattern=None,
    namespace=NAMESPACE_DNS,
)


def named(user: str, workspace: str = "dev") -> ReportedApp:
    """The app that `NAMING` makes of these names."""
    ids = [uuid5(NAMESPACE_DNS, name).bytes for name in (user, workspace, "main")]
    return ReportedApp(ids[0], ids[1], ids[2], 2, "code")


def common(
    kind: int = END,
    start_us: int = T0,
    took_us: int | None = 1_000_000,
    *,
    stream_id: str = "r1",
    port: int = 40_000,
    **more: Any,
) -> AccessLogCommon:
    """What entries of HTTP and TCP have in common; `took_us` stands in those that end."""
    made = AccessLogCommon(
        access_log_type=kind,
        stream_id=stream_id,
        downstream_direct_remote_address=Address(socket_address=SocketAddress(address="192.0.2.1", port_value=port)),
        **more,
    )
    made.start_time.FromMicroseconds(start_us)
    if took_us is not None and kind in (END, TCP_END) and not made.HasField("duration"):
        made.duration.FromMicroseconds(took_us)
    return made


def http(properties: AccessLogCommon, user: str = "alice", host: str = "", **headers: str) -> HTTPAccessLogEntry:
    """A request's entry with these headers."""
    entry = HTTPAccessLogEntry(common_properties=properties)
    entry.request.authority = host
    sent = {"x-user": user} if user else {}
    entry.request.request_headers.update({**sent, **{name.replace("_", "-"): text for name, text in headers.items()}})
    return entry


def tcp(properties: AccessLogCommon, user: str = "alice") -> TCPAccessLogEntry:
    """A connection's entry with this custom tag."""
    entry = TCPAccessLogEntry(common_properties=properties)
    if user:
        entry.common_properties.custom_tags["user"] = user
    return entry


def message(
    *entries: HTTPAccessLogEntry | TCPAccessLogEntry, node: str = "", log: str = "http"
) -> StreamAccessLogsMessage:
    """A message with these entries, of one kind all; one with a node says whose log it is, as a stream's first does."""
    made = StreamAccessLogsMessage()
    if node:
        made.identifier.node.id = node
        made.identifier.log_name = log
    for entry in entries:
        if isinstance(entry, HTTPAccessLogEntry):
            made.http_logs.log_entry.append(entry)
        else:
            made.tcp_logs.log_entry.append(entry)
    return made
