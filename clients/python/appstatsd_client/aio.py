"""How do reports leave an asyncio proxy? The shell around the core: one task that reads, and one that writes.

Everything runs on the loop that the first session began on, so nothing is locked: between two awaits nobody else is here.

Invariant: the task ends when the core is done, and `close` waits for it.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from appstatsd_client import events
from appstatsd_client.clock import Clock
from appstatsd_client.limits import CLOSE_TIMEOUT_SECONDS, SECOND_NS, Limits
from appstatsd_client.session import SessionReporter
from appstatsd_client.transport import METADATA, METHOD, Tls, retry_delay_ms
from appstatsd_client.wire.appstats.v1 import appstats_pb2 as pb


class AsyncClient(SessionReporter):
    """Reports sessions from one event loop; `begin`, `update` and `end` are plain calls on that loop.

    One for each process; as an asynchronous context manager it is closed when the block ends.
    """

    def __init__(
        self,
        target: str,
        *,
        tls: Tls | None = None,
        limits: Limits | None = None,
        on_event: events.OnEvent = events.log_event,
        clock: Clock | None = None,
    ) -> None:
        """`target` is `unix:PATH` or `HOST:PORT`. `on_event` is called on the loop.

        Raises `ValueError` where `target` is neither, or has TLS on a unix socket.
        """
        super().__init__(target, tls, limits or Limits(), on_event, clock or Clock(), nullcontext())
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def close(self, timeout: float = CLOSE_TIMEOUT_SECONDS) -> bool:
        """Ends what is left and sends it; True when the daemon has confirmed everything within `timeout` seconds."""
        if self._is_forked():
            return False
        self._core.close(self._clock.monotonic_ns())
        self._wake()
        try:
            if self._task is not None and not self._core.done:
                await asyncio.wait((self._task,), timeout=timeout)
        finally:
            self._core.abandon()
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait((self._task,))
            self._tell()
        return self._core.confirmed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _start(self) -> None:
        if not self._core.done:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="appstatsd-client")

    def _wake(self) -> None:
        self._changed.set()

    async def _run(self) -> None:
        async with self._transport.aio_channel() as channel:
            stream_reports: Any = channel.stream_stream(
                METHOD, request_serializer=None, response_deserializer=pb.StreamReportsResponse.FromString
            )
            while not self._core.done:
                if self._core.connect_at_ns > self._clock.monotonic_ns():
                    await self._wait_until(self._core.connect_at_ns)
                    continue
                try:
                    await self._report(stream_reports)
                except Exception as error:
                    events.log.exception("the stream to appstatsd is given up; another one follows")
                    self._core.ended("UNKNOWN", repr(error), None, self._clock.monotonic_ns())

    async def _wait_until(self, at_ns: int | None) -> None:
        """Waits until then (None: for ever), or until something has changed."""
        self._changed.clear()
        delay = None if at_ns is None else max(0, at_ns - self._clock.monotonic_ns()) / SECOND_NS
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._changed.wait()

    async def _report(self, stream_reports: Any) -> None:
        """Opens a stream and lives through it."""
        first = self._core.opened(self._clock.monotonic_ns())
        call = stream_reports(metadata=METADATA)
        writer = asyncio.create_task(self._write(call, first), name="appstatsd-client-writer")
        try:
            status, details, delay_ms = "OK", "", None
            while (response := await call.read()) is not grpc.aio.EOF:
                is_ours = self._core.answered(response, self._clock.monotonic_ns())
                self._wake()
                self._tell()
                if not is_ours:
                    break
        except grpc.aio.AioRpcError as error:
            status, details = error.code().name, error.details() or ""
            delay_ms = retry_delay_ms(tuple(error.trailing_metadata()))
        finally:
            call.cancel()
            writer.cancel()
            await asyncio.wait((writer,))
        if not writer.cancelled():
            writer.result()
        self._core.ended(status, details, delay_ms, self._clock.monotonic_ns())
        self._tell()

    async def _write(self, call: Any, first: bytes) -> None:
        """Writes what goes out on one stream, as soon as it may; a write waits until there is room for it."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the reader gets the reason
            await call.write(first)
            while True:
                message = self._core.next_message(self._clock.monotonic_ns())
                if message is not None:
                    await call.write(message)
                else:
                    await self._wait_until(self._core.look_again_at_ns())
