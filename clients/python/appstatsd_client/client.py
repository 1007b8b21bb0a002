"""How do reports leave a threaded proxy? The shell around the core: one thread, and gRPC's own for what goes out.

The thread `appstatsd-client` opens streams, one after another, and reads answers. gRPC takes messages from `_messages`, on
a thread that ends with its stream. Both wait on one condition, whose lock guards the core.

Invariant: no lock is held over I/O; the thread ends when the core is done, and `close` joins it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import grpc

from appstatsd_client import events
from appstatsd_client.clock import Clock
from appstatsd_client.limits import CLOSE_TIMEOUT_SECONDS, SECOND_NS, Limits
from appstatsd_client.session import SessionReporter
from appstatsd_client.transport import METADATA, METHOD, Tls, retry_delay_ms
from appstatsd_client.wire.appstats.v1 import appstats_pb2 as pb


class Client(SessionReporter):
    """Reports sessions from any thread. One for each process; as a context manager it is closed when the block ends."""

    def __init__(
        self,
        target: str,
        *,
        tls: Tls | None = None,
        limits: Limits | None = None,
        on_event: events.OnEvent = events.log_event,
        clock: Clock | None = None,
    ) -> None:
        """`target` is `unix:PATH` or `HOST:PORT`. `on_event` is called by the client's thread.

        Raises `ValueError` where `target` is neither, or has TLS on a unix socket.
        """
        self._changed = threading.Condition()
        super().__init__(target, tls, limits or Limits(), on_event, clock or Clock(), self._changed)
        self._thread: threading.Thread | None = None
        self._call: Any = None  # the stream that is open; grpc has no public type for it

    def close(self, timeout: float = CLOSE_TIMEOUT_SECONDS) -> bool:
        """Ends what is left and sends it; True when the daemon has confirmed everything within `timeout` seconds.

        Not to be called by `on_event`, which runs on the thread that this waits for.
        """
        if self._is_forked():
            return False
        with self._changed:
            self._core.close(self._clock.monotonic_ns())
            self._wake()
            thread, call = self._thread, self._call
        if thread is not None:
            if self._core.done and call is not None:
                call.cancel()
            thread.join(timeout)
        with self._changed:
            self._core.abandon()
            self._wake()
            call = self._call
        if thread is not None:
            if call is not None:
                call.cancel()
            thread.join()
        self._tell()
        return self._core.confirmed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        if self._core.done:
            return
        thread = threading.Thread(target=self._run, name="appstatsd-client", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads, or the interpreter is ending: the proxy must not suffer
            events.log.error("cannot report sessions: %s; the client stays silent until it is closed", error)
            self._core.abandon()
        else:
            self._thread = thread

    def _wake(self) -> None:
        self._changed.notify_all()

    def _run(self) -> None:
        with self._transport.channel() as channel:
            stream_reports: Any = channel.stream_stream(
                METHOD, request_serializer=None, response_deserializer=pb.StreamReportsResponse.FromString
            )
            while self._wait_for_attempt():
                try:
                    self._report(stream_reports)
                except Exception as error:
                    events.log.exception("the stream to appstatsd is given up; another one follows")
                    with self._changed:
                        self._core.ended("UNKNOWN", repr(error), None, self._clock.monotonic_ns())

    def _wait_for_attempt(self) -> bool:
        """Waits until a stream is to be opened. False: there is nothing more to do."""
        with self._changed:
            while not self._core.done:
                wait_ns = self._core.connect_at_ns - self._clock.monotonic_ns()
                if wait_ns <= 0:
                    return True
                self._changed.wait(wait_ns / SECOND_NS)
        return False

    def _report(self, stream_reports: Any) -> None:
        """Opens a stream and lives through it."""
        over = threading.Event()
        with self._changed:
            if self._core.done:
                return
            first = self._core.opened(self._clock.monotonic_ns())
            call = self._call = stream_reports(self._messages(first, over), metadata=METADATA)
        try:
            status, details, delay_ms = "OK", "", None
            for response in call:
                with self._changed:
                    is_ours = self._core.answered(response, self._clock.monotonic_ns())
                    self._wake()
                self._tell()
                if not is_ours:
                    call.cancel()
        except grpc.RpcError:
            status, details, delay_ms = call.code().name, call.details(), retry_delay_ms(call.trailing_metadata())
        finally:
            call.cancel()
            with self._changed:
                self._call = None
                over.set()
                self._wake()
        with self._changed:
            self._core.ended(status, details, delay_ms, self._clock.monotonic_ns())
        self._tell()

    def _messages(self, first: bytes, over: threading.Event) -> Iterator[bytes]:
        """What goes out on one stream, as soon as it may; gRPC takes the next one when there is room for it."""
        yield first
        while (message := self._next_message(over)) is not None:
            yield message

    def _next_message(self, over: threading.Event) -> bytes | None:
        with self._changed:
            while not over.is_set():
                now_ns = self._clock.monotonic_ns()
                message = self._core.next_message(now_ns)
                if message is not None:
                    return message
                at_ns = self._core.look_again_at_ns()
                self._changed.wait(None if at_ns is None else max(0, at_ns - now_ns) / SECOND_NS)
        return None
