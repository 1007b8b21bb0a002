"""How does a test speak the protocol by hand? Message by message, right or wrong, with every answer looked at."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import grpc
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire
from google.protobuf.message import Message

from tests.support.reports import Report

PATIENCE_SECONDS: Final = 60.0
STREAM: Final = "/appstats.v1.SessionReportService/StreamReports"
ACCESS_LOGS: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"


def now_us() -> int:
    return time.time_ns() // 1000


_numbers = itertools.count(1)


def fresh(count: int = 1) -> range:
    """Numbers for apps and sessions that no other test of this process has."""
    last = 0
    for _ in range(count):
        last = next(_numbers)
    return range(last - count + 1, last + 1)


def request(
    sequence: int = 0,
    columns: Sequence[Report] = (),
    *,
    reports: Sequence[Report] = (),
    client_id: str = "",
    closing: bool = False,
    dropped: int = 0,
) -> wire.StreamReportsRequest:
    """A message with these reports, each in the form that it is given for."""
    message = wire.StreamReportsRequest(
        client_id=client_id, sequence=sequence, closing=closing, dropped_reports=dropped
    )
    for one in reports:
        message.reports.add(
            user_id=one.app.user_id,
            workspace_id=one.app.workspace_id,
            agent_id=one.app.agent_id,
            access_method=one.app.access_method,
            slug_or_port=one.app.slug_or_port,
            session_id=one.session_id,
            session_started_at_unix_nano=one.started_ns,
            session_ended_at_unix_nano=one.ended_ns,
            requests=one.requests,
        )
    if columns:
        fill(message.columns, columns)
    return message


def fill(columns: wire.SessionReportColumns, reports: Sequence[Report]) -> None:
    """Write the reports as columns, each app once."""
    places = {app: place for place, app in enumerate(dict.fromkeys(one.app for one in reports))}
    for app in places:
        columns.apps.add(
            user_id=app.user_id,
            workspace_id=app.workspace_id,
            agent_id=app.agent_id,
            access_method=app.access_method,
            slug_or_port=app.slug_or_port,
        )
    columns.app.extend(places[one.app] for one in reports)
    columns.session_ids = b"".join(one.session_id for one in reports)
    columns.session_started_at_unix_nano.extend(one.started_ns for one in reports)
    columns.session_ended_at_unix_nano.extend(one.ended_ns for one in reports)
    columns.requests.extend(one.requests for one in reports)


@dataclass(frozen=True)
class Ended:
    """How a stream ended."""

    code: grpc.StatusCode
    details: str
    trailers: dict[str, str]


class RawStream:
    """One stream on a connection of its own. Its calls raise AssertionError where what they wait for does not come."""

    def __init__(
        self,
        target: str,
        *options: tuple[str, object],
        reads: bool = True,
        credentials: grpc.ChannelCredentials | None = None,
        path: str = STREAM,
    ) -> None:
        """With `reads=False` it takes nothing of what it is told until `read` is called."""
        wanted = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1), *options]
        if credentials is None:
            self._channel = grpc.insecure_channel(target, options=wanted)
        else:
            self._channel = grpc.secure_channel(target, credentials, options=wanted)
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._responses: queue.SimpleQueue[wire.StreamReportsResponse | Ended] = queue.SimpleQueue()
        self._ended: Ended | None = None
        method = self._channel.stream_stream(
            path, request_serializer=bytes, response_deserializer=wire.StreamReportsResponse.FromString
        )
        self._call = method(iter(self._requests.get, None))
        self._reader = threading.Thread(target=self._read, name="raw-stream", daemon=True)
        if reads:
            self.read()

    def read(self) -> None:
        """Begin to take what it is told."""
        self._reader.start()

    def _read(self) -> None:
        try:
            for response in self._call:
                self._responses.put(response)
        except grpc.RpcError:
            pass  # the end below says it
        trailers = {key: str(value) for key, value in self._call.trailing_metadata() or ()}
        self._responses.put(Ended(self._call.code(), self._call.details() or "", trailers))

    def send(self, message: Message | bytes) -> None:
        self._requests.put(message if isinstance(message, bytes) else message.SerializeToString())

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self._requests.put(None)

    def receive(self, seconds: float = PATIENCE_SECONDS) -> wire.StreamReportsResponse:
        """The next response."""
        got = self._next(seconds)
        assert not isinstance(got, Ended), f"the stream ended: {got}"
        return got

    def acked(self, sequence: int) -> list[wire.RejectedReport]:
        """Read until this batch is acknowledged; the reports that were rejected on the way."""
        rejected: list[wire.RejectedReport] = []
        while True:
            response = self.receive()
            rejected += response.rejected
            if response.acked_sequence >= sequence:
                return rejected

    def end(self, seconds: float = PATIENCE_SECONDS) -> Ended:
        """Read until the stream ends."""
        while not isinstance(got := self._next(seconds), Ended):
            pass
        return got

    def _next(self, seconds: float) -> wire.StreamReportsResponse | Ended:
        if self._ended is not None:
            return self._ended
        try:
            got = self._responses.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"no response within {seconds} s") from None
        if isinstance(got, Ended):
            self._ended = got
        return got

    def close(self) -> None:
        """Cancel the stream, where it is still open, and cut the connection."""
        self._call.cancel()
        self._requests.put(None)
        self._channel.close()
        if self._reader.ident is not None:
            self._reader.join(PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Client:
    """A client that does all right: it names itself, numbers its batches, and waits for their acknowledgements."""

    def __init__(self, target: str, client_id: str | None = None) -> None:
        self.client_id = client_id or f"test-{uuid4()}"
        self._target = target
        self.sequence = 0
        self.stream = self._opened()

    def _opened(self) -> RawStream:
        stream = RawStream(self._target)
        stream.send(request(client_id=self.client_id))
        self.held = stream.receive().acked_sequence
        """The number that the daemon held when it opened its stream."""
        return stream

    def reopen(self) -> None:
        """Leave and come back."""
        self.leave()
        self.stream = self._opened()

    def leave(self) -> None:
        """Close the stream in order, without a last word."""
        self.stream.half_close()
        self.stream.end()
        self.stream.close()

    def report(self, *reports: Report) -> list[wire.RejectedReport]:
        """Report as columns, under the next number; what was rejected."""
        self.sequence += 1
        self.stream.send(request(self.sequence, reports))
        return self.stream.acked(self.sequence)

    def say_goodbye(self) -> Ended:
        """Send `closing`, and see the stream end."""
        self.stream.send(request(closing=True))
        return self.stream.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()


def in_batches(reports: Sequence[Report], size: int) -> Iterator[Sequence[Report]]:
    for first in range(0, len(reports), size):
        yield reports[first : first + size]
