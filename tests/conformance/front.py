"""What can happen between a client and the daemon? A server in front of the real one that passes streams on, and refuses,
holds and delays as a scenario says.

So statuses that the daemon gives rarely, or never to a client of ours, can be had at will, while the rows are still those
of the real daemon.

Invariant: what is not asked for is passed on unchanged, bytes for bytes, and so is the status that a stream ends with.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any, Final

import grpc
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

from tests.support.daemon import PATIENCE_SECONDS, SERVICE, connected

_METHOD: Final = f"{SERVICE}/StreamReports"


@dataclass
class Refusal:
    """Ends a stream with a status."""

    status: str
    at: str = "batch"
    """`first`, `batch` or `closing`: the kind of message that meets it."""
    holding: bytes = b""
    """Only a batch that holds this session_id meets it."""
    applied: bool = False
    """Whether the daemon has the message first: an acknowledgement that is lost."""
    retry_delay_ms: int | None = None
    times: int = 1
    """How many more messages meet it; 0: every one."""


@dataclass(frozen=True)
class _End:
    """A stream is over."""

    status: grpc.StatusCode
    details: str
    trailing: tuple[tuple[str, str], ...] = ()


class Front:
    """Listens on a unix socket of its own. While the daemon is away its streams end with `UNAVAILABLE`."""

    def __init__(self, target: str, daemon_target: str) -> None:
        self.target = target
        self._daemon_target = daemon_target
        self._lock = threading.Condition()  # protects what follows
        self._refusals: list[Refusal] = []
        self._streams: set[queue.SimpleQueue[bytes | _End]] = set()
        self._holds = False
        self._delay_seconds = 0.0
        self._over = False
        self.refused = 0
        """How many messages were refused."""
        self._server = grpc.server(futures.ThreadPoolExecutor(32, "front"), options=[("grpc.so_reuseport", 0)])
        handler = grpc.stream_stream_rpc_method_handler(self._stream)
        service, _, method = _METHOD.strip("/").partition("/")
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        self._server.add_insecure_port(target)
        self._server.start()

    def refuse(self, refusal: Refusal) -> None:
        """From now on, until it was met as often as it says."""
        with self._lock:
            self._refusals.append(refusal)

    def refuse_no_more(self) -> None:
        with self._lock:
            self._refusals.clear()

    def hold(self) -> None:
        """Hold back all answers."""
        with self._lock:
            self._holds = True

    def release(self) -> None:
        """Let go of the answers that are held back, and hold back none."""
        with self._lock:
            self._holds = False
            self._lock.notify_all()

    def delay(self, seconds: float) -> None:
        """Each answer comes this much later."""
        with self._lock:
            self._delay_seconds = seconds

    def cut(self) -> None:
        """End all streams with `UNAVAILABLE`, whatever was on its way."""
        with self._lock:
            for answers in self._streams:
                answers.put(_End(grpc.StatusCode.UNAVAILABLE, "cut"))

    def stop(self) -> None:
        self.cut()
        with self._lock:
            self._over, self._holds = True, False
            self._lock.notify_all()
        self._server.stop(0).wait()

    def _stream(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        answers: queue.SimpleQueue[bytes | _End] = queue.SimpleQueue()
        onward: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        lost = _Lost()
        context.add_callback(lambda: answers.put(_End(grpc.StatusCode.CANCELLED, "the client has gone")))
        with self._lock:
            self._streams.add(answers)
        with connected(self._daemon_target, ("grpc.max_receive_message_length", -1)) as channel:
            call: Any = channel.stream_stream(_METHOD)(iter(onward.get, None), metadata=_own(context))
            threads = [
                threading.Thread(target=self._pass_on, args=(messages, onward, answers, lost), daemon=True),
                threading.Thread(target=_take, args=(call, answers), daemon=True),
            ]
            for thread in threads:
                thread.start()
            try:
                end = yield from self._answer(answers, lost)
            finally:
                with self._lock:
                    self._streams.discard(answers)
                onward.put(None)
                call.cancel()
                threads[1].join(PATIENCE_SECONDS)
        if end.status is not grpc.StatusCode.OK:
            context.set_trailing_metadata(end.trailing)
            context.abort(end.status, end.details)

    def _answer(self, answers: queue.SimpleQueue[bytes | _End], lost: _Lost) -> Generator[bytes, None, _End]:
        """Gives the client its answers; returns how the stream is to end."""
        while not isinstance(answer := answers.get(), _End):
            with self._lock:
                self._lock.wait_for(lambda: self._over or not self._holds)
                if self._delay_seconds:
                    self._lock.wait_for(lambda: self._over, self._delay_seconds)
            if lost.end is not None and wire.StreamReportsResponse.FromString(answer).acked_sequence >= lost.sequence:
                return lost.end
            yield answer
        return lost.end or answer

    def _pass_on(
        self,
        messages: Iterator[bytes],
        onward: queue.SimpleQueue[bytes | None],
        answers: queue.SimpleQueue[bytes | _End],
        lost: _Lost,
    ) -> None:
        kind = "first"
        try:
            for raw in messages:
                message = wire.StreamReportsRequest.FromString(raw)
                kind = "closing" if message.closing else kind
                refusal = self._meets(kind, message.columns.session_ids)
                if refusal is not None:
                    end = _end_of(refusal)
                    if not refusal.applied:
                        answers.put(end)
                        return
                    lost.sequence, lost.end = message.sequence, end
                onward.put(raw)
                kind = "batch"
        except grpc.RpcError:
            pass  # the client has gone, and the callback says so
        onward.put(None)

    def _meets(self, kind: str, session_ids: bytes) -> Refusal | None:
        with self._lock:
            for refusal in self._refusals:
                if refusal.at == kind and refusal.holding in session_ids:
                    refusal.times -= 1
                    if refusal.times == 0:
                        self._refusals.remove(refusal)
                    self.refused += 1
                    return refusal
        return None


@dataclass
class _Lost:
    """From which acknowledgement on a stream's answers are lost, and how it ends then."""

    sequence: int = 0
    end: _End | None = None


def _take(call: Any, answers: queue.SimpleQueue[bytes | _End]) -> None:
    try:
        for answer in call:
            answers.put(answer)
        answers.put(_End(grpc.StatusCode.OK, ""))
    except grpc.RpcError:
        trailing = tuple(
            (key, str(value)) for key, value in call.trailing_metadata() or () if key.startswith("appstats")
        )
        answers.put(_End(call.code(), call.details() or "", trailing))


def _own(context: grpc.ServicerContext) -> tuple[tuple[str, str], ...]:
    return tuple((key, str(value)) for key, value in context.invocation_metadata() if key.startswith("appstats"))


def _end_of(refusal: Refusal) -> _End:
    delay = () if refusal.retry_delay_ms is None else (("appstats-retry-delay-ms", str(refusal.retry_delay_ms)),)
    return _End(grpc.StatusCode[refusal.status], "as the scenario says", delay)
