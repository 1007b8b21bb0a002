"""How do reports come in?

The handler of streams: it hands what arrives to the drain as bytes, with the daemon's clocks at that moment, and tells
the client what the drain says. Invariant: for the drain a stream begins with `Came`, ends with exactly one `Went`,
and what the client sent in between comes in its order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NoReturn

import grpc
import structlog

from appstatsd.answers import Answer, EndReason
from appstatsd.clock import Clock
from appstatsd.errors import BrokenMessage
from appstatsd.events import Came, Event, Received, Went
from appstatsd.ingest.opening import Open, Opening, open_reports
from appstatsd.ingest.stream import Room, Stream
from appstatsd.observe.logging import RateLimited

Context = grpc.aio.ServicerContext[bytes, bytes]

RETRY_DELAY_KEY: Final = "appstats-retry-delay-ms"
SOFTWARE_KEY: Final = "appstats-client"
MAX_SOFTWARE_CHARACTERS: Final = 64
FIRST_MESSAGE_SECONDS: Final = 10.0
"""How long a stream may hold a place without having said whose it is."""
_MAX_WAITING_BYTES: Final = 64 << 20
_LINES_OF_A_KIND: Final = 5
"""How many rejections for one reason, or ends of streams with one status, the log tells of in a minute."""


class ReportStreams:
    """All open streams; lives on the event loop."""

    def __init__(
        self,
        put: Callable[[Event], None],
        clock: Clock,
        *,
        first_stream: int,
        max_streams: int,
        first_message_seconds: float = FIRST_MESSAGE_SECONDS,
    ) -> None:
        """Make the handler.

        Args:
            put: Hands an event to the drain.
            clock: What events are stamped with.
            first_stream: The number of the first stream; none was ever used from here on.
            max_streams: How many may be open.
            first_message_seconds: How long each of them may take to say whose it is.
        """
        self._put = put
        self._clock = clock
        self._next = first_stream
        self._max_streams = max_streams
        self._first_message_seconds = first_message_seconds
        self._streams: dict[int, Stream] = {}
        self._open = 0
        self._refusing = ""
        self._refusal_ms = 0
        self._refused = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._room = Room(_MAX_WAITING_BYTES)
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._log = RateLimited(
            structlog.get_logger("appstatsd.ingest"),
            most=_LINES_OF_A_KIND,
            interval_seconds=60.0,
            clock=lambda: clock.mono_us() / 1_000_000,
        )

    @property
    def open(self) -> int:
        """How many streams are open, those included that have not said whose they are."""
        return self._open

    def answer(self, answers: dict[int, Answer]) -> None:
        """Pass on what the drain says; from any thread."""
        self._loop.call_soon_threadsafe(self._answer, answers)

    def refuse(self, why: str, retry_delay_ms: int) -> None:
        """End all streams with UNAVAILABLE, and take no new one."""
        self._refusing, self._refusal_ms = why, retry_delay_ms
        self._refused.set()
        for stream in self._streams.values():
            stream.wake()

    def take_again(self) -> None:
        """Take streams again."""
        self._refusing = ""
        self._refused.clear()

    def settle_log(self) -> None:
        """Log how many lines were left out, where their minute is over. From any thread; to be called now and then."""
        self._log.settle()

    async def closed(self, patience_seconds: float) -> None:
        """Wait until no stream is open, but not for clients that do not even take the status."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_seconds):
                await self._none_open.wait()

    async def handle(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """Serve one stream of `StreamReports`, to its end."""
        await self.serve(context, open_reports)

    async def serve(self, context: Context, opens: Open) -> None:
        """Serve one stream, to its end; `opens` says whose it is."""
        if self._refusing:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, self._refusing, self._refusal_ms)
        if self._open >= self._max_streams:
            await _abort(
                context,
                grpc.StatusCode.UNAVAILABLE,
                f"the daemon has its most streams ({self._max_streams}, --max-streams); try again later",
                10_000,
            )
        self._open += 1
        self._none_open.clear()
        try:
            await self._serve(context, opens)
        finally:
            self._open -= 1
            if not self._open:
                self._none_open.set()

    async def _serve(self, context: Context, opens: Open) -> None:
        first = await self._first(context)
        if first is None:
            return
        try:
            opening = opens(first)
        except BrokenMessage as broken:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(broken))
        stream = Stream(self._next, opening.client_id, self._room)
        self._next += 1
        self._streams[stream.number] = stream
        wall_us, mono_us = self._clock.wall_us(), self._clock.mono_us()
        software = opening.software or _software(context)
        self._put(Came(stream.number, stream.client_id, wall_us, mono_us, opening.dropped_reports, software))
        reading = asyncio.create_task(self._read(stream, opening, first, context))
        try:
            await self._tell(stream, opening, reading, context)
        finally:
            reading.cancel()
            stream.close()
            del self._streams[stream.number]
            self._put(Went(stream.number, self._clock.wall_us(), self._clock.mono_us()))

    async def _first(self, context: Context) -> bytes | None:
        """The first message; None: there will be none. A refusal does not wait for it."""
        reading = asyncio.create_task(_read(context))
        refused = asyncio.create_task(self._refused.wait())
        try:
            await asyncio.wait(
                [reading, refused], timeout=self._first_message_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if self._refusing:
                await _abort(context, grpc.StatusCode.UNAVAILABLE, self._refusing, self._refusal_ms)
            if not reading.done():
                # No status that costs a client its client_id: it may have been frozen just then.
                await _abort(
                    context,
                    grpc.StatusCode.UNAVAILABLE,
                    f"no first message, with a client_id, came within {self._first_message_seconds:g} s",
                )
            return reading.result()
        finally:
            reading.cancel()
            refused.cancel()

    def _take(self, stream: Stream, message: bytes) -> None:
        stream.took(message)
        self._put(Received(stream.number, stream.client_id, message, self._clock.wall_us(), self._clock.mono_us()))

    async def _read(self, stream: Stream, opening: Opening, first: bytes, context: Context) -> None:
        message: bytes | None = first
        try:
            while message is not None:
                for place, batch in enumerate(opening.batches(message)):
                    if place:  # what a large message holds waits like messages, and lets others have their turn
                        await asyncio.sleep(0)
                        await stream.room()
                    self._take(stream, batch)
                await stream.room()
                message = await _read(context)
        except BrokenMessage as broken:
            stream.answer(Answer(end=EndReason.INVALID_ARGUMENT, detail=str(broken)))
        finally:
            stream.wake()

    async def _tell(self, stream: Stream, opening: Opening, reading: asyncio.Task[None], context: Context) -> None:
        while True:
            await stream.something()
            try:
                for response in stream.responses():
                    if opening.answered:
                        await context.write(response.SerializeToString())
            except grpc.aio.InternalError:
                return  # the client has gone
            stream.told()
            if stream.has_news:  # it came while the client took what there was
                continue
            if stream.end is EndReason.OK:
                return
            if stream.end is not None:
                self._log.warning(
                    stream.end.name,
                    "A stream was ended",
                    client_id=stream.client_id,
                    status=stream.end.name,
                    reason=stream.detail,
                )
                await _abort(context, grpc.StatusCode[stream.end.name], stream.detail)
            if self._refusing:
                await _abort(context, grpc.StatusCode.UNAVAILABLE, self._refusing, self._refusal_ms)
            if reading.done() and stream.all_told:
                if not opening.answered:
                    await context.write(b"")
                return

    def _answer(self, answers: dict[int, Answer]) -> None:
        for number, answer in answers.items():
            stream = self._streams.get(number)
            if stream is None:
                continue
            stream.answer(answer)
            for sequence, rejection in answer.rejected:
                self._log.warning(
                    rejection.reason.name,
                    "A report was rejected",
                    client_id=stream.client_id,
                    sequence=sequence,
                    index=rejection.index,
                    reason=rejection.message,
                )


async def _read(context: Context) -> bytes | None:
    """The next message; None: the client closed its side, or is gone."""
    message: object = await context.read()
    return message if isinstance(message, bytes) else None


def _software(context: Context) -> str:
    """What the client says of its library; what is no short name is left out, since it is shown."""
    for key, value in context.invocation_metadata() or ():
        if key == SOFTWARE_KEY and isinstance(value, str) and len(value) <= MAX_SOFTWARE_CHARACTERS:
            return value if value.isprintable() else ""
    return ""


async def _abort(context: Context, status: grpc.StatusCode, detail: str, retry_delay_ms: int | None = None) -> NoReturn:
    trailer: Any = () if retry_delay_ms is None else ((RETRY_DELAY_KEY, str(retry_delay_ms)),)
    await context.abort(status, detail, trailer)
    raise AssertionError("abort does not return")
