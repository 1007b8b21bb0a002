"""What a stream still has to be told, in which order, and how much may wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from appstatsd.answers import Answer, EndReason
from appstatsd.collect.batch import Reason, Rejection
from appstatsd.ingest.stream import MAX_RESPONSE_BYTES, MAX_UNANSWERED, MAX_UNANSWERED_BYTES, Room, Stream
from appstatsd.wire.appstats.v1.appstats_pb2 import StreamReportsResponse


@pytest.fixture
def stream() -> Stream:
    return Stream(1, "c", Room(1 << 30))


def told(stream: Stream) -> list[StreamReportsResponse]:
    """What the client is told now; it takes all of it."""
    responses = list(stream.responses())
    stream.told()
    return responses


def rejections(sequence: int, count: int, message: str = "no") -> list[tuple[int, Rejection]]:
    return [(sequence, Rejection(index, Reason.INVALID_TIME, message)) for index in range(count)]


Waits = Callable[[Awaitable[None]], bool]


@pytest.fixture
def waits() -> Iterator[Waits]:
    """Tells whether something is still to come once all that is under way is done."""
    loop = asyncio.new_event_loop()

    async def look(event: Awaitable[None]) -> bool:
        task = asyncio.ensure_future(event)
        for _ in range(5):
            await asyncio.sleep(0)
        if task.done():
            task.result()
            return False
        task.cancel()
        return True

    yield lambda event: loop.run_until_complete(look(event))
    loop.close()


class TestResponses:
    def test_the_number_held_is_told_before_anything_else(self, stream: Stream) -> None:
        stream.took(b"first")
        stream.answer(Answer(greeting=4, acked_sequence=5, messages=1))
        assert [response.acked_sequence for response in told(stream)] == [4, 5]

    def test_acknowledgements_that_come_together_are_told_as_one(self, stream: Stream) -> None:
        for number in (1, 2, 3):
            stream.took(b"batch")
            stream.answer(Answer(acked_sequence=number, messages=1))
        assert [response.acked_sequence for response in told(stream)] == [3]

    def test_the_same_number_is_told_again_when_a_batch_came_again(self, stream: Stream) -> None:
        for _ in range(2):
            stream.took(b"batch")
            stream.answer(Answer(acked_sequence=3, messages=1))
            assert [response.acked_sequence for response in told(stream)] == [3]

    def test_nothing_is_told_twice(self, stream: Stream) -> None:
        stream.took(b"batch")
        stream.answer(Answer(greeting=0, acked_sequence=1, rejected=rejections(1, 1), messages=1))
        assert len(told(stream)) == 2
        assert told(stream) == []

    def test_rejections_come_with_the_acknowledgement_that_covers_them(self, stream: Stream) -> None:
        stream.took(b"batch")
        stream.answer(Answer(acked_sequence=7, rejected=rejections(7, 2, "too old"), messages=1))
        [response] = told(stream)
        assert response.acked_sequence == 7
        assert [(one.sequence, one.index, one.reason, one.message) for one in response.rejected] == [
            (7, 0, Reason.INVALID_TIME, "too old"),
            (7, 1, Reason.INVALID_TIME, "too old"),
        ]

    @pytest.mark.parametrize("characters", [1, 150, 5_000])
    def test_a_response_is_never_over_1_mib_and_the_acknowledgement_comes_last(
        self, stream: Stream, characters: int
    ) -> None:
        stream.took(b"one")
        stream.answer(Answer(acked_sequence=2**63, messages=1))
        told(stream)
        stream.took(b"batch")
        stream.answer(
            Answer(acked_sequence=2**63 + 1, rejected=rejections(2**63 + 1, 10_000, "é" * characters), messages=1)
        )
        responses = told(stream)
        assert all(response.ByteSize() <= MAX_RESPONSE_BYTES for response in responses)
        assert [one.index for response in responses for one in response.rejected] == list(range(10_000))
        assert [response.acked_sequence for response in responses] == [2**63] * (len(responses) - 1) + [2**63 + 1]
        # And not in more responses than it takes.
        assert len(responses) <= sum(response.ByteSize() for response in responses) // (MAX_RESPONSE_BYTES * 0.9) + 1

    def test_the_first_reason_for_an_end_stays(self, stream: Stream) -> None:
        stream.answer(Answer(end=EndReason.INVALID_ARGUMENT, detail="a gap"))
        stream.answer(Answer(end=EndReason.ABORTED, detail="taken over"))
        assert (stream.end, stream.detail) == (EndReason.INVALID_ARGUMENT, "a gap")


class TestAllTold:
    def test_a_stream_that_was_not_told_what_is_held_has_not_been_told_all(self, stream: Stream) -> None:
        assert not stream.all_told
        stream.answer(Answer(greeting=0))
        assert not stream.all_told
        told(stream)
        assert stream.all_told

    def test_nor_has_one_whose_message_the_drain_has_not_dealt_with(self, stream: Stream) -> None:
        stream.answer(Answer(greeting=0))
        told(stream)
        stream.took(b"batch")
        assert not stream.all_told
        stream.answer(Answer(acked_sequence=1, messages=1))
        assert not stream.all_told
        told(stream)
        assert stream.all_told

    def test_what_comes_while_the_client_takes_the_last_is_still_to_be_told(self, stream: Stream) -> None:
        stream.took(b"first")
        stream.took(b"second")
        stream.answer(Answer(greeting=0, acked_sequence=1, messages=1))
        assert [response.acked_sequence for response in stream.responses()] == [0, 1]
        stream.answer(Answer(acked_sequence=2, rejected=rejections(2, 1), messages=1))
        stream.told()
        assert stream.has_news
        assert not stream.all_told
        [response] = told(stream)
        assert (response.acked_sequence, len(response.rejected)) == (2, 1)
        assert stream.all_told


class TestRoomOfOneStream:
    """A stream is not read from while too much of it is unanswered: it is the client that waits then, and nobody else."""

    def test_so_many_messages_may_be_unanswered_and_no_more(self, stream: Stream, waits: Waits) -> None:
        for _ in range(MAX_UNANSWERED - 1):
            stream.took(b"batch")
        assert not waits(stream.room())
        stream.took(b"batch")
        assert waits(stream.room())

    def test_so_many_bytes_may_be_unanswered_and_no_more(self, stream: Stream, waits: Waits) -> None:
        stream.took(bytes(MAX_UNANSWERED_BYTES - 1))
        assert not waits(stream.room())
        stream.took(b"x")
        assert waits(stream.room())

    def test_there_is_room_again_only_when_the_client_has_taken_its_answers(self, stream: Stream, waits: Waits) -> None:
        for _ in range(MAX_UNANSWERED):
            stream.took(b"batch")
        stream.answer(Answer(greeting=0, acked_sequence=MAX_UNANSWERED, messages=MAX_UNANSWERED))
        assert waits(stream.room())
        told(stream)
        assert not waits(stream.room())


class TestRoomOfAllStreams:
    def test_what_waits_for_the_drain_is_bounded_for_all_together(self, waits: Waits) -> None:
        shared = Room(100)
        one, other = Stream(1, "c", shared), Stream(2, "d", shared)
        one.took(bytes(99))
        assert not waits(other.room())
        one.took(b"x")
        assert waits(other.room())
        one.answer(Answer(messages=1))
        assert not waits(other.room())

    def test_what_a_client_does_not_read_takes_no_room_from_others(self, waits: Waits) -> None:
        shared = Room(100)
        stuck, other = Stream(1, "c", shared), Stream(2, "d", shared)
        for _ in range(20):
            stuck.took(bytes(100))
            stuck.answer(Answer(acked_sequence=1, messages=1))
        assert not waits(other.room())

    def test_a_stream_that_ends_gives_back_what_it_took(self, waits: Waits) -> None:
        shared = Room(100)
        one, other = Stream(1, "c", shared), Stream(2, "d", shared)
        one.took(bytes(100))
        assert waits(other.room())
        one.close()
        assert not waits(other.room())
