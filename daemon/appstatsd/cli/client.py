"""How does a command reach the daemon, and what does it say when nobody is there?

A plain connection is tried first, since the kernel's answer to it says more, and at once, than gRPC's own retries.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from appstatsd.addresses import Address, TcpAddress, UnixAddress
from appstatsd.cli import exits
from appstatsd.errors import AppstatsdError
from appstatsd.settings import Settings

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message

ANSWER_SECONDS: Final = 10.0
"""How long a daemon may take to connect, and to answer what needs no database."""
_SYSTEM_SOCKET: Final = UnixAddress(Path("/run/appstatsd/appstatsd.sock"))
"""Where a daemon listens that systemd or root has started."""

Response = TypeVar("Response", bound="Message")


class Refused(AppstatsdError):
    """The daemon answered a call with an error; the text is the daemon's."""


class Daemon:
    """A daemon that took our connection."""

    def __init__(self, channel: grpc.Channel, address: Address) -> None:
        self._channel = channel
        self.address = address

    def call(
        self, method: str, request: Message, response: type[Response], seconds: float = ANSWER_SECONDS
    ) -> Response:
        """The answer to a unary call. `method` is its service and name: `SessionReportService/Flush`.

        Raises:
            Refused: the daemon answered with an error.
            exits.Failed: it did not answer in time, or does not know the call.
        """
        import grpc

        call = self._channel.unary_unary(
            f"/appstats.v1.{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        try:
            answer: Response = call(request, timeout=seconds)
        except grpc.RpcError as error:
            raise self._refusal(method, error, seconds) from None
        return answer

    def stream(self, method: str, request: Message, response: type[Response]) -> Iterator[Response]:
        """The answers to a call that has several; each may take its time, for what it tells of does.

        Raises:
            Refused: the daemon answered with an error.
            exits.Failed: it does not know the call.
        """
        import grpc

        call = self._channel.unary_stream(
            f"/appstats.v1.{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        try:
            yield from call(request)
        except grpc.RpcError as error:
            raise self._refusal(method, error, 0) from None

    def _refusal(self, method: str, error: grpc.RpcError, seconds: float) -> AppstatsdError:
        """What is said of a call that ended with an error."""
        import grpc

        code, details = error.code(), error.details()
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return exits.Failed(f"the daemon at {self.address} did not answer within {seconds:.0f} s")
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return exits.Failed(
                f"the daemon at {self.address} does not serve {method} there: give its --admin-listen, if it has "
                "one; else it is older than this command"
            )
        return Refused(details or code.name)


@contextmanager
def connect(settings: Settings) -> Iterator[Daemon]:
    """The daemon that the settings name; where they name none, one of this user or of the system.

    Raises:
        exits.Failed: none answers; says what was tried and what to do.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    address = _reachable(settings)
    import grpc

    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
    tls = settings.tls if isinstance(address, TcpAddress) else None
    if tls is None:
        channel = grpc.insecure_channel(address.target, options)
    else:
        try:
            pems = [path.read_bytes() for path in (tls.client_ca, tls.key, tls.cert)]
        except OSError as error:
            raise exits.Failed(f"{error.filename} cannot be read: {error.strerror}") from None
        channel = grpc.secure_channel(address.target, grpc.ssl_channel_credentials(*pems), options)
    with channel:
        try:
            grpc.channel_ready_future(channel).result(ANSWER_SECONDS)
        except grpc.FutureTimeoutError:
            hint = (
                "is it stopped, or something else, or does it serve TLS"
                if tls is None
                else f"does its certificate name {address}, and do both sides' certificates come from {tls.client_ca}? "
                "With --admin-listen on a unix socket none are needed; else: is it stopped"
            )
            text = f"{address} took the connection but did not answer within {ANSWER_SECONDS:.0f} s: {hint}?"
            raise exits.Failed(text, exits.NO_DAEMON) from None
        yield Daemon(channel, address)


def _reachable(settings: Settings) -> Address:
    """The first address that takes a connection."""
    addresses = [settings.admin_address]
    if settings.sources["admin-listen"].where == settings.sources["listen"].where == "default":
        addresses.append(_SYSTEM_SOCKET)
    tried = {}
    for listening in addresses:
        address = listening.reached_at if isinstance(listening, TcpAddress) else listening
        try:
            _probe(address)
        except PermissionError:
            tried[address] = "permission denied; run this as the daemon's user, as root or in the socket's group"
        except FileNotFoundError:
            tried[address] = "no such socket"
        except ConnectionRefusedError:
            tried[address] = "nobody listens there"
        except OSError as error:
            tried[address] = error.strerror or "no answer"
        else:
            return address
    places = ", ".join(f"{address} ({why})" for address, why in tried.items())
    what_to_do = "start one with `appstatsd serve`, or say with --listen or --admin-listen where it is"
    raise exits.Failed(f"no daemon answers at {places}: {what_to_do}", exits.NO_DAEMON)


def _probe(address: Address) -> None:
    """Connect and go away again."""
    if isinstance(address, TcpAddress):
        socket.create_connection((address.host, address.port), ANSWER_SECONDS).close()
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(ANSWER_SECONDS)
        probe.connect(str(address.path))
