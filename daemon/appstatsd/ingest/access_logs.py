"""How does Envoy's access log come in?

`envoy.service.accesslog.v3.AccessLogService`: what its entries tell of sessions becomes batches like those of clients;
the others are counted, and told of at a bounded rate. Imported only where access logs are taken, since Envoy's messages
take their time to load.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from enum import Enum
from typing import Any, Final
from urllib.parse import quote

import grpc
import structlog
from envoy.service.accesslog.v3 import als_pb2
from google.protobuf.message import DecodeError

from appstatsd.accesslog.batch import MAX_REPORTS, batch
from appstatsd.accesslog.envoy import Log, Skipped, Told, told
from appstatsd.accesslog.naming import Naming, Unnamed
from appstatsd.clock import Clock
from appstatsd.collect.clients import LOG_PREFIX
from appstatsd.errors import BrokenMessage
from appstatsd.ingest.opening import Open, Opening
from appstatsd.ingest.reports import Context
from appstatsd.ingest.server import handlers
from appstatsd.observe.logging import RateLimited

_SERVICE: Final = als_pb2.DESCRIPTOR.services_by_name["AccessLogService"].full_name
_MAX_NAME_CHARACTERS: Final = 256
_SHOWN_CHARACTERS: Final = 100
_MAX_SOFTWARE_CHARACTERS: Final = 64
_LINES_OF_A_KIND: Final = 1
"""How often in a minute the log tells of entries that are skipped for one reason."""


class AccessLogs:
    """Reads streams of access logs; lives on the event loop."""

    def __init__(self, naming: Naming, clock: Clock) -> None:
        """Take the names of apps from where `naming` says; what `clock` says is when sessions end that do not say."""
        self._naming = naming
        self._clock = clock
        self.skipped: Counter[Enum] = Counter(dict.fromkeys((*Unnamed, *Skipped), 0))
        """How many entries told of no session since the start, by the reason."""
        self._log = RateLimited(
            structlog.get_logger("appstatsd.access_logs"),
            most=_LINES_OF_A_KIND,
            interval_seconds=60.0,
            clock=lambda: clock.mono_us() / 1_000_000,
        )

    def service(self, serve: Callable[[Context, Open], Awaitable[None]]) -> grpc.GenericRpcHandler:
        """The service as gRPC wants it; `serve` serves a stream to its end."""

        async def handle(requests: object, context: Context) -> None:
            await serve(context, self.open)

        # A stream in and one message out, as the service has it; whoever serves it writes that one, or none.
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(handle)
        return handlers(_SERVICE, {"StreamAccessLogs": handler})

    def open(self, first: bytes) -> Opening:
        """A stream of `StreamAccessLogs`, which says whose it is in its first message alone.

        Raises:
            BrokenMessage: it is no StreamAccessLogsMessage, or does not name node and log.
        """
        identifier = _parsed(first).identifier
        node, name = identifier.node, identifier.log_name
        for what, text, where in (("node.id", node.id, "bootstrap"), ("log_name", name, "access log's configuration")):
            if not 0 < len(text) <= _MAX_NAME_CHARACTERS:
                raise BrokenMessage(
                    f"the first message has a {what} of {len(text)} characters; expected 1 to {_MAX_NAME_CHARACTERS}, "
                    f"which Envoy takes from its {where}"
                )
        log = Log(node.id, name)
        # The quoting keeps two logs apart whatever their names are.
        client_id = f"{LOG_PREFIX}{quote(node.id, safe='~@:')}/{quote(name, safe='~@:')}"

        def batches(message: bytes) -> Iterator[bytes]:
            return self._batches(message, log, client_id)

        return Opening(client_id, batches, answered=False, software=_software(node))

    def settle_log(self) -> None:
        """Log how many lines were left out, where their minute is over. From any thread; to be called now and then."""
        self._log.settle()

    def _batches(self, message: bytes, log: Log, client_id: str) -> Iterator[bytes]:
        sessions: list[Told] = []
        for entry, one in told(_parsed(message), log, self._naming, self._clock.wall_us() * 1000):
            if isinstance(one, Told):
                sessions.append(one)
                if len(sessions) == MAX_REPORTS:
                    yield batch(sessions)
                    sessions.clear()
                continue
            self.skipped[one] += 1
            if one is not Skipped.UPSTREAM:
                self._log.warning(
                    one.name,
                    "An access log's entry tells of no session",
                    client_id=client_id,
                    reason=one.value,
                    host=entry.host[:_SHOWN_CHARACTERS],
                )
        if sessions:
            yield batch(sessions)


def _parsed(message: bytes) -> als_pb2.StreamAccessLogsMessage:
    parsed = als_pb2.StreamAccessLogsMessage()
    try:
        parsed.ParseFromString(message)
    except DecodeError:
        raise BrokenMessage(
            "the message is not a StreamAccessLogsMessage; expected the proto of envoy.service.accesslog.v3"
        ) from None
    return parsed


def _software(node: als_pb2.StreamAccessLogsMessage.Identifier) -> str:
    """Name and version, as Envoy says; what is no short name is left out, since it is shown."""
    version = node.user_agent_build_version.version
    text = f"{node.user_agent_name} {version.major_number}.{version.minor_number}.{version.patch}"
    return text if node.user_agent_name and len(text) <= _MAX_SOFTWARE_CHARACTERS and text.isprintable() else ""
