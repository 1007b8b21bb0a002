"""Which services are on which sockets?

Proxies and operators share one server, unless `--admin-listen` gives operators one of their own. Invariant: what only
operators may ask for is never on the proxies' server where there are two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc

from appstatsd.addresses import Address
from appstatsd.ingest.admin import Admin
from appstatsd.ingest.certificates import Certificates
from appstatsd.ingest.server import (
    DATABASE,
    ERASURE_SERVICE,
    QUARANTINE_SERVICE,
    REPORT_SERVICE,
    Server,
    SocketRights,
    handlers,
)
from appstatsd.settings import Settings


class Servers:
    """All servers of the daemon, on its event loop."""

    def __init__(
        self,
        settings: Settings,
        certificates: Certificates | None,
        *,
        streams: grpc.RpcMethodHandler[Any, Any],
        access_logs: Sequence[grpc.GenericRpcHandler],
        admin: Admin,
        erasure: grpc.GenericRpcHandler,
    ) -> None:
        """Make servers that listen nowhere yet.

        Args:
            settings: The addresses, and the rights of the sockets.
            certificates: What TCP addresses answer with; None: plaintext, on loopback.
            streams: What answers `StreamReports`.
            access_logs: The services that take access logs, if any.
            admin: Answers operators.
            erasure: The service that erases a person, for operators too.
        """
        rights = SocketRights(settings.socket_mode, settings.socket_gid)
        stream = ("StreamReports", streams)
        self._places: list[tuple[Server, Sequence[Address]]]
        if settings.admin_listen is None:
            operators = Server([*admin.services(stream), erasure, *access_logs], rights, certificates)
            self._places = [(operators, settings.listen)]
        else:
            operators = Server([*admin.services(), erasure], rights, certificates)
            proxies = Server([handlers(REPORT_SERVICE, dict([stream])), *access_logs], rights, certificates)
            self._places = [(operators, (settings.admin_address,)), (proxies, settings.listen)]
        operators.reflect([REPORT_SERVICE, QUARANTINE_SERVICE, ERASURE_SERVICE])
        self._loop = asyncio.get_running_loop()
        self._telling: set[asyncio.Task[None]] = set()

    async def start(self, *, database_is_up: bool) -> list[Address]:
        """Serve; the addresses, with the ports that were chosen."""
        addresses: list[Address] = []
        for server, wanted in self._places:
            for name in ("", REPORT_SERVICE):
                await server.set_health(name, serving=True)
            await server.set_health(DATABASE, database_is_up)
            addresses += await server.start(wanted)
        return addresses

    def database_is(self, up: bool) -> None:
        """Tell whoever asks for the health of `database`; from any thread."""

        def tell() -> None:
            for server, _ in self._places:
                telling = self._loop.create_task(server.set_health(DATABASE, up))
                self._telling.add(telling)
                telling.add_done_callback(self._telling.discard)

        self._loop.call_soon_threadsafe(tell)

    async def stop(self) -> None:
        """End what still runs, and take the sockets away."""
        for server, _ in self._places:
            await server.stop(grace_seconds=0)
