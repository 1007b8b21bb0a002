"""What does one open stream still have to be told?

The other half of a stream's life happens in the drain; here is what waits for the network. Invariant: what the client
does not read holds back its own stream alone, and what waits for it is bounded, since a stream that has not been told of
its last messages is not read from.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from appstatsd.answers import Answer, EndReason
from appstatsd.wire.appstats.v1.appstats_pb2 import RejectedReport, RejectionReason, StreamReportsResponse

MAX_UNANSWERED: Final = 32
"""Messages of one stream that the daemon takes before it has answered the first of them."""
MAX_UNANSWERED_BYTES: Final = 16 << 20
MAX_RESPONSE_BYTES: Final = 1 << 20
_ACKNOWLEDGEMENT_BYTES: Final = 16  # a number of 64 bits with its tag takes 11 at most
_PREFIX_BYTES: Final = 8  # tag and length of a rejection


class Room:
    """How much of all streams may wait for the drain; what does not fit is left on the network."""

    def __init__(self, limit_bytes: int) -> None:
        self._left_bytes = limit_bytes
        self._some = asyncio.Event()
        self._some.set()

    def take(self, size: int) -> None:
        """So many bytes wait now; a message too many is let in rather than thrown away."""
        self._left_bytes -= size
        if self._left_bytes <= 0:
            self._some.clear()

    def give(self, size: int) -> None:
        """So many bytes wait no longer."""
        self._left_bytes += size
        if self._left_bytes > 0:
            self._some.set()

    async def some(self) -> None:
        """Wait until there is some."""
        await self._some.wait()


class Stream:
    """One open stream, on the event loop alone."""

    def __init__(self, number: int, client_id: str, shared: Room) -> None:
        self.number = number
        self.client_id = client_id
        self.end: EndReason | None = None
        """Why it is to be ended, once all that was said before is told."""
        self.detail = ""
        self._shared = shared
        self._waiting: deque[int] = deque()  # sizes of the messages that the drain has not dealt with
        self._untold: list[int] = []  # sizes of those that it has, and that the client has not been told of
        self._telling: list[int] = []  # sizes of those that the client is being told of
        self._unanswered_bytes = 0
        self._acknowledge = False
        self._greeting: int | None = None
        self._greeted = False
        self._acked = 0
        self._told_acked = 0
        self._rejected: list[RejectedReport] = []
        self._something = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def took(self, message: bytes) -> None:
        """A message is on its way to the drain."""
        self._waiting.append(len(message))
        self._shared.take(len(message))
        self._unanswered_bytes += len(message)
        if self.unanswered >= MAX_UNANSWERED or self._unanswered_bytes >= MAX_UNANSWERED_BYTES:
            self._room.clear()

    async def room(self) -> None:
        """Wait until another message may be read."""
        await self._room.wait()
        await self._shared.some()

    def close(self) -> None:
        """The stream is no more; what the drain has not dealt with counts for nobody's room."""
        self._shared.give(sum(self._waiting))
        self._waiting.clear()

    @property
    def unanswered(self) -> int:
        """How many messages the drain has not dealt with yet, or the client has not been told of."""
        return len(self._waiting) + len(self._untold) + len(self._telling)

    @property
    def has_news(self) -> bool:
        """Whether there is more to tell, or to do, than the last `responses` held."""
        return self._something.is_set()

    @property
    def all_told(self) -> bool:
        """Whether the client has been told of all its messages, the first included."""
        return self._greeted and not self.unanswered

    def answer(self, answer: Answer) -> None:
        """The drain has dealt with some of the stream's messages."""
        if answer.greeting is not None:
            self._greeting = answer.greeting
        if answer.acked_sequence is not None:
            self._acked = answer.acked_sequence
            self._acknowledge = True
        self._rejected += [
            RejectedReport(
                sequence=sequence,
                index=rejection.index,
                reason=RejectionReason.Name(rejection.reason),
                message=rejection.message,
            )
            for sequence, rejection in answer.rejected
        ]
        dealt_with = [self._waiting.popleft() for _ in range(answer.messages)]
        self._shared.give(sum(dealt_with))
        self._untold += dealt_with
        self.end = self.end or answer.end
        self.detail = self.detail or answer.detail
        self._something.set()

    def wake(self) -> None:
        """Let whoever waits in `something` look again."""
        self._something.set()

    async def something(self) -> None:
        """Wait until there is something to tell, or to do."""
        await self._something.wait()
        self._something.clear()

    def responses(self) -> list[StreamReportsResponse]:
        """What there is to tell now. Rejections come no later than the acknowledgement that covers them."""
        self._telling, self._untold = self._untold, []
        responses = []
        if self._greeting is not None:
            responses.append(StreamReportsResponse(acked_sequence=self._greeting))
            self._told_acked = self._greeting
            self._acked = max(self._acked, self._greeting)
            self._greeting, self._greeted = None, True
        rejected, self._rejected = self._rejected, []
        response, size = StreamReportsResponse(), _ACKNOWLEDGEMENT_BYTES
        for report in rejected:
            length = report.ByteSize() + _PREFIX_BYTES
            if size + length > MAX_RESPONSE_BYTES:
                response.acked_sequence = self._told_acked
                responses.append(response)
                response, size = StreamReportsResponse(), _ACKNOWLEDGEMENT_BYTES
            response.rejected.append(report)
            size += length
        if rejected or self._acknowledge:
            self._acknowledge = False
            response.acked_sequence = self._told_acked = self._acked
            responses.append(response)
        return responses

    def told(self) -> None:
        """The client's side has taken all of the last `responses`."""
        self._unanswered_bytes -= sum(self._telling)
        self._telling.clear()
        if self.unanswered < MAX_UNANSWERED and self._unanswered_bytes < MAX_UNANSWERED_BYTES:
            self._room.set()
