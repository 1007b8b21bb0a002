"""A daemon for the tests of the shells: real gRPC, real sockets, and statuses on demand.

It keeps the rules of `ModelDaemon`, and does once for each entry of its script what the entry says. Tests wait on what it
has seen, with a deadline.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import grpc
from appstatsd_client.wire.appstats.v1 import appstats_pb2 as pb
from model_daemon import ModelDaemon

DEADLINE_SECONDS = 60


@dataclass(frozen=True)
class Refuse:
    """Ends a stream with this status."""

    status: grpc.StatusCode
    at: str = "batch"
    """`first`, `batch` or `closing`: the message that meets it."""
    retry_delay_ms: int | None = None
    apply: bool = False
    """Whether what it meets is applied before: an acknowledgement that is lost."""


class ScriptedDaemon:
    """A gRPC server of the one rpc that clients use."""

    def __init__(self, target: str, credentials: grpc.ServerCredentials | None = None) -> None:
        self.target = target
        self._credentials = credentials
        self.model = ModelDaemon()
        self.script: deque[Refuse] = deque()
        self.seen: list[pb.StreamReportsRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.refused: list[Refuse] = []
        self.rejections: list[pb.RejectedReport] = []
        self.changed = threading.Condition()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.port = 0
        self._server: grpc.Server | None = None

    def start(self) -> None:
        """Listens, again if it was stopped."""
        server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        handler = grpc.stream_stream_rpc_method_handler(
            self._stream, pb.StreamReportsRequest.FromString, pb.StreamReportsResponse.SerializeToString
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("appstats.v1.SessionReportService", {"StreamReports": handler}),)
        )
        address = f"{self.target.rsplit(':', 1)[0]}:{self.port}" if self.port else self.target
        if self._credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, self._credentials)
        self.port = 0 if self.target.startswith("unix:") else port
        server.start()
        self._server = server

    def stop(self) -> None:
        """Ends all streams; returns when nothing of it runs any more."""
        self.may_answer.set()
        if self._server is not None:
            self._server.stop(None).wait()
            self._server = None

    def wait_for(self, condition: Callable[[ScriptedDaemon], Any]) -> None:
        """Waits until what was seen satisfies the condition; fails the test at the deadline."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self), DEADLINE_SECONDS), f"seen: {self.seen}"

    def _stream(
        self, messages: Iterator[pb.StreamReportsRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.StreamReportsResponse]:
        client_id = ""
        for message in messages:
            kind = "closing" if message.closing else "batch" if client_id else "first"
            with self.changed:
                self.seen.append(message)
                if kind == "first":
                    self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
                refusal = self.script.popleft() if self.script and self.script[0].at == kind else None
                if refusal is not None:
                    self.refused.append(refusal)
                response = pb.StreamReportsResponse()
                if refusal is None or refusal.apply:
                    if kind == "first":
                        client_id = message.client_id
                        response.acked_sequence = self.model.first(message)
                    elif kind == "batch":
                        response.acked_sequence = self.model.batch(client_id, message)
                        response.rejected.extend(self.rejections)
                        self.rejections.clear()
                    else:
                        self.model.close(client_id, message)
                self.changed.notify_all()
            self.may_answer.wait(DEADLINE_SECONDS)
            if refusal is not None:
                if refusal.retry_delay_ms is not None:
                    context.set_trailing_metadata((("appstats-retry-delay-ms", str(refusal.retry_delay_ms)),))
                context.abort(refusal.status, "as the script says")
            if kind == "closing":
                return
            yield response
