"""Which sessions does a message of Envoy's access log service tell of?

Invariant: what an entry means depends on the entry, on whose log it is and on the settings alone, so that the same entry
told twice is the same report; entries that tell of no session say why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final
from uuid import UUID, uuid5

from envoy.config.core.v3.address_pb2 import Address
from envoy.data.accesslog.v3.accesslog_pb2 import AccessLogCommon, HTTPAccessLogEntry, TCPAccessLogEntry
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue

from appstatsd.accesslog.entry import Entry
from appstatsd.accesslog.naming import NamedApp, Naming, Unnamed

_SESSIONS: Final = UUID("8f0b6d9a-3c41-5a7e-9d52-6f6c1f1b8f4e")
"""The namespace of session ids; another one would make other sessions of those that are live."""
_BEGINS_OR_GOES_ON: Final = frozenset({1, 2, 4, 5, 10, 11, 12})
_ENDS: Final = frozenset({0, 3, 6, 13})
"""0 is how versions of Envoy log that know no types, when a request or a connection is over."""
_UPSTREAM: Final = frozenset({7, 8, 9})
_NS_PER_S: Final = 1_000_000_000
_LATEST_NS: Final = 2**63 - 1


class Skipped(Enum):
    """Why an entry tells of no session, besides that it names no app."""

    UPSTREAM = "the upstream side of a request that is told anyway"
    UNKNOWN_TYPE = "an access_log_type that this version does not know"
    NO_START = "no start time"


@dataclass(frozen=True, slots=True)
class Log:
    """Whose log it is."""

    node: str
    name: str


@dataclass(frozen=True, slots=True)
class Told:
    """One session as an entry tells of it: a report in all but form."""

    app: NamedApp
    session_id: bytes
    started_ns: int
    """Since the Unix epoch."""
    ended_ns: int
    """0 while it is live."""


def told(
    message: StreamAccessLogsMessage, log: Log, naming: Naming, now_ns: int
) -> Iterator[tuple[Entry, Told | Unnamed | Skipped]]:
    """For each entry of the message the session that it tells of, or why it tells of none.

    `now_ns`, since the Unix epoch, is when sessions ended whose entry does not say how long they took.
    """
    for request in message.http_logs.log_entry:
        entry = _http(request)
        yield entry, _told(request.common_properties, entry, log, naming, now_ns)
    for connection in message.tcp_logs.log_entry:
        entry = _tcp(connection)
        yield entry, _told(connection.common_properties, entry, log, naming, now_ns)


def _told(common: AccessLogCommon, entry: Entry, log: Log, naming: Naming, now_ns: int) -> Told | Unnamed | Skipped:
    kind = common.access_log_type
    if kind in _UPSTREAM:
        return Skipped.UPSTREAM
    if kind not in _ENDS and kind not in _BEGINS_OR_GOES_ON:
        return Skipped.UNKNOWN_TYPE
    started_ns = common.start_time.seconds * _NS_PER_S + common.start_time.nanos
    if not 0 < started_ns <= _LATEST_NS:
        return Skipped.NO_START
    app = naming.app_of(entry)
    if isinstance(app, Unnamed):
        return app
    # Types came with Envoy 1.26; before it, this alone told what goes on from what is over.
    over = kind in _ENDS and not common.intermediate_log_entry
    ended_ns = min(started_ns + _took_ns(common, now_ns - started_ns), _LATEST_NS) if over else 0
    return Told(app, _session_id(common, log, started_ns), started_ns, ended_ns)


def _took_ns(common: AccessLogCommon, until_now_ns: int) -> int:
    """How long a request or a connection took that is over."""
    if common.HasField("duration"):
        return max(0, _ns(common.duration))
    # Before 1.26 there was no duration. The last byte came or went at its end.
    times = (common.time_to_last_downstream_tx_byte, common.time_to_last_upstream_rx_byte, common.time_to_last_rx_byte)
    return max(map(_ns, times)) or max(0, until_now_ns)


def _ns(duration: Duration) -> int:
    return duration.seconds * _NS_PER_S + duration.nanos


def _session_id(common: AccessLogCommon, log: Log, started_ns: int) -> bytes:
    # The stream id of a request is its x-request-id, which a caller may choose: it takes the rest to tell two apart.
    direct = common.HasField("downstream_direct_remote_address")
    peer = common.downstream_direct_remote_address if direct else common.downstream_remote_address
    parts = (log.node, log.name, common.stream_id, str(started_ns), *_place(peer))
    return uuid5(_SESSIONS, "\0".join(parts)).bytes


def _place(address: Address) -> tuple[str, str]:
    socket = address.socket_address
    return socket.address or address.pipe.path, str(socket.port_value)


def _http(entry: HTTPAccessLogEntry) -> Entry:
    request, common = entry.request, entry.common_properties
    headers = {
        ":authority": request.authority,
        ":path": request.original_path or request.path,
        "user-agent": request.user_agent,
        "referer": request.referer,
        "x-forwarded-for": request.forwarded_for,
        "x-request-id": request.request_id,
        **request.request_headers,
    }
    return _entry(common, request.authority or common.tls_properties.tls_sni_hostname, headers)


def _tcp(entry: TCPAccessLogEntry) -> Entry:
    common = entry.common_properties
    return _entry(common, common.tls_properties.tls_sni_hostname, {})


def _entry(common: AccessLogCommon, host: str, headers: Mapping[str, str]) -> Entry:
    return Entry(
        host, headers, common.custom_tags, common.metadata.filter_metadata, _Objects(common.filter_state_objects)
    )


class _Objects(Mapping[str, Any]):
    """Filter state, of whose objects texts and trees are known."""

    def __init__(self, objects: Mapping[str, AnyMessage]) -> None:
        self._objects = objects

    def __getitem__(self, name: str) -> Any:
        packed = self._objects[name]
        text, tree = StringValue(), Struct()
        try:
            if packed.Unpack(text):
                return text.value
            return tree if packed.Unpack(tree) else ""
        except DecodeError:  # it is not what it says that it is
            return ""

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, name: object) -> bool:
        return name in self._objects
