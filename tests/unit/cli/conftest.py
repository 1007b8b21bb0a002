"""A small gRPC server that answers like a daemon, and a way to run a command as its user would."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from appstatsd.addresses import UnixAddress
from appstatsd.cli import client
from appstatsd.cli.main import main
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire
from google.protobuf.message import Message

METHODS = {
    "SessionReportService": ("Flush", "GetStatus"),
    "QuarantineService": ("ListQuarantine", "RetryQuarantine", "DropQuarantine"),
}
STREAMS = {"ErasureService": ("ForgetUser",)}


class Refusal(Exception):
    """What the server is to answer instead of a message."""


@dataclass
class FakeDaemon:
    """Answers what a test has put into `answers`, and keeps what was asked."""

    address: UnixAddress
    answers: dict[str, Callable[[Any], Message | Refusal] | Message | Refusal] = field(default_factory=dict)
    asked: list[Message] = field(default_factory=list)

    def answer(self, method: str, request: Message, context: grpc.ServicerContext) -> Message:
        self.asked.append(request)
        answer = self.answers.get(method, Refusal(grpc.StatusCode.UNIMPLEMENTED, "unknown"))
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Refusal):
            context.abort(*answer.args)
        return answer


def handler_of(daemon: FakeDaemon, service: str, names: tuple[str, ...]) -> grpc.GenericRpcHandler:
    def method(name: str) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: daemon.answer(name, request, context),
            request_deserializer=getattr(wire, f"{name}Request").FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    return grpc.method_handlers_generic_handler(f"appstats.v1.{service}", {name: method(name) for name in names})


def streaming_handler_of(daemon: FakeDaemon, service: str, names: tuple[str, ...]) -> grpc.GenericRpcHandler:
    """Answers with a list of messages, or with what `answers` makes of the request."""

    def method(name: str) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.unary_stream_rpc_method_handler(
            lambda request, context: iter(daemon.answer(name, request, context)),  # type: ignore[call-overload]
            request_deserializer=getattr(wire, f"{name}Request").FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    return grpc.method_handlers_generic_handler(f"appstats.v1.{service}", {name: method(name) for name in names})


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this host decides where a command looks for a daemon."""
    elsewhere = ("RUNTIME_DIRECTORY", "STATE_DIRECTORY", "XDG_STATE_HOME", "COLUMNS")
    for name in (*elsewhere, *(name for name in os.environ if name.startswith("APPSTATSD_"))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(client, "_SYSTEM_SOCKET", UnixAddress(tmp_path / "system.sock"))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    """A daemon that listens where one of this user does by default."""
    folder = tmp_path / "appstatsd"
    folder.mkdir()
    fake = FakeDaemon(UnixAddress(folder / "appstatsd.sock"))
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([handler_of(fake, service, names) for service, names in METHODS.items()])
    server.add_generic_rpc_handlers([streaming_handler_of(fake, service, names) for service, names in STREAMS.items()])
    server.add_insecure_port(fake.address.target)
    server.start()
    yield fake
    server.stop(None).wait()


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command in this process, as the installed script does."""

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["appstatsd", *arguments])
        status = main()
        return Ended(status, *capsys.readouterr())

    return run
