"""On which addresses does the daemon answer, and with which services?

Puts the handlers on gRPC servers: one for proxies, and another for operators where `--admin-listen` says so. Invariant:
an address is public only once what stands behind it answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from appstatsd.addresses import Address, TcpAddress, UnixAddress
from appstatsd.errors import AppstatsdError
from appstatsd.ingest.certificates import Certificates
from appstatsd.ingest.sockets import PublicSocket
from appstatsd.wire.appstats.v1 import appstats_pb2

REPORT_SERVICE: Final = appstats_pb2.DESCRIPTOR.services_by_name["SessionReportService"].full_name
QUARANTINE_SERVICE: Final = appstats_pb2.DESCRIPTOR.services_by_name["QuarantineService"].full_name
ERASURE_SERVICE: Final = appstats_pb2.DESCRIPTOR.services_by_name["ErasureService"].full_name
DATABASE: Final = "database"
"""The health service's name for the database: that it is away must not make proxies stop sending."""

MAX_MESSAGE_BYTES: Final = 8 << 20
_MAX_PENDING_CALLS: Final = 8192

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Who connects and says nothing, or says it byte by byte, is not waited for longer.
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Calls that come faster than they are begun wait, 15 KiB each; a call more is cancelled, whosever it is.
    ("grpc.server.max_pending_requests", _MAX_PENDING_CALLS),
    ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING_CALLS),
    # A second daemon on a TCP port must fail to start instead of taking half of the connections.
    ("grpc.so_reuseport", 0),
    # The daemon pings after 20 s of silence, and takes who does not answer within 10 s as gone.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Clients may ping every 10 s; half of that leaves room for jitter.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


class AddressTaken(AppstatsdError):
    """A TCP address can't be listened on; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class SocketRights:
    """Who may connect to a unix socket."""

    mode: int
    gid: int | None


def handlers(service: str, methods: dict[str, grpc.RpcMethodHandler[Any, Any]]) -> grpc.GenericRpcHandler:
    """The handlers of one service, by the names of their methods."""
    return grpc.method_handlers_generic_handler(service, methods)


class Server:
    """One gRPC server with its addresses, on the event loop."""

    def __init__(
        self, services: Sequence[grpc.GenericRpcHandler], rights: SocketRights, certificates: Certificates | None
    ) -> None:
        """Make a server that listens nowhere yet. Without `certificates` its TCP addresses serve plaintext."""
        self._server = grpc.aio.server(handlers=services, options=_OPTIONS)
        self._rights = rights
        self._certificates = certificates
        self._sockets: list[PublicSocket] = []
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    def reflect(self, services: Sequence[str]) -> None:
        """Let tools ask which services there are."""
        reflection.enable_server_reflection([*services, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)

    async def set_health(self, name: str, serving: bool) -> None:
        """Say of a service, or of the database, whether it works."""
        status = health_pb2.HealthCheckResponse
        await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def start(self, addresses: Sequence[Address]) -> list[Address]:
        """Listen on all addresses; they are public when this returns.

        Returns:
            The addresses, with the ports that were chosen.

        Raises:
            SocketTaken: a path is another daemon's, or can't be used.
            AddressTaken: a TCP address is in use or not of this host.
        """
        bound = [self._bind(address) for address in addresses]
        await self._server.start()
        for public in self._sockets:
            public.publish()
        return bound

    async def stop(self, grace_seconds: float) -> None:
        """Take the sockets away and end what is still open after the grace."""
        for public in self._sockets:
            public.withdraw()
        await self._server.stop(grace_seconds)

    def _bind(self, address: Address) -> Address:
        if isinstance(address, UnixAddress):
            public = PublicSocket(address.path, self._rights.mode, self._rights.gid)
            self._sockets.append(public)
            self._server.add_insecure_port(UnixAddress(public.claim()).target)
            return address
        try:
            if self._certificates is None:
                port = self._server.add_insecure_port(address.target)
            else:
                port = self._server.add_secure_port(address.target, self._certificates.credentials())
        except RuntimeError as error:
            raise AddressTaken(
                f"{address} can't be listened on: another process has it, or it is no address of this host; "
                "stop that process, or choose another address"
            ) from error
        return TcpAddress(address.host, port)
