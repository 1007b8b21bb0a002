"""What a client sees of `StreamReports` over a real connection: answers, statuses and trailers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import pytest
from appstatsd.collect.batch import Reason
from appstatsd.decode import MAX_BATCH_BYTES
from appstatsd.events import Came, Received, Went
from appstatsd.ingest.server import MAX_MESSAGE_BYTES
from appstatsd.ingest.stream import MAX_RESPONSE_BYTES, MAX_UNANSWERED
from appstatsd.ledger import Ledger

from tests.support.daemon import eventually
from tests.support.raw_client import Ended, RawStream, request
from tests.support.reports import HOUR, T0, app, report
from tests.support.served import Served

RETRY_DELAY = "appstats-retry-delay-ms"
Open = Callable[..., RawStream]


@pytest.fixture
def open_stream() -> Iterator[Open]:
    """Open a stream and, where a client_id is given, read the answer to its first message."""
    with ExitStack() as streams:

        def open_stream(served: Served, client_id: str = "", *options: tuple[str, object]) -> RawStream:
            stream = streams.enter_context(RawStream(served.target, *options))
            if client_id:
                stream.send(request(client_id=client_id))
                stream.receive()
            return stream

        yield open_stream


class TestTheFirstMessage:
    def test_it_is_answered_at_once_with_the_number_held(self, served: Served, open_stream: Open) -> None:
        stream = open_stream(served)
        stream.send(request(client_id="c"))
        assert stream.receive().acked_sequence == 0
        stream.send(request(1, [report(1)]))
        stream.acked(1)
        again = open_stream(served)
        again.send(request(client_id="c"))
        assert again.receive().acked_sequence == 1

    def test_it_may_carry_a_batch_which_is_acknowledged_after_the_number_held(
        self, served: Served, open_stream: Open
    ) -> None:
        stream = open_stream(served)
        stream.send(request(1, [report(1)], client_id="c"))
        assert [stream.receive().acked_sequence for _ in range(2)] == [0, 1]

    def test_it_tells_how_many_reports_were_dropped_though_it_carries_none(
        self, served: Served, open_stream: Open
    ) -> None:
        stream = open_stream(served)
        stream.send(request(client_id="c", dropped=2**64 - 1))
        stream.receive()
        assert served.ask(lambda ledger: [client.dropped_reports for client in ledger.collector.clients]) == [2**64 - 1]

    def test_columns_without_a_report_are_no_batch(self, served: Served, open_stream: Open) -> None:
        stream = open_stream(served)
        message = request(client_id="c")
        message.columns.SetInParent()
        stream.send(message)
        stream.receive()
        stream.send(request(1, [report(1)]))
        stream.acked(1)

    @pytest.mark.parametrize(
        ("message", "said"),
        [
            (request(1, [report(1)]), "the first message has a client_id of 0 characters; expected 1 to 128"),
            (
                request(client_id="é" * 129),
                "the first message has a client_id of 129 characters; expected 1 to 128",
            ),
            (b"\xff", "the first message is not a StreamReportsRequest; expected the proto of appstats.v1"),
        ],
    )
    def test_without_a_client_id_of_1_to_128_characters_it_breaks_the_protocol(
        self, served: Served, open_stream: Open, message: bytes, said: str
    ) -> None:
        stream = open_stream(served)
        stream.send(message)
        assert stream.end() == Ended(grpc.StatusCode.INVALID_ARGUMENT, said, {})

    def test_a_client_id_of_128_characters_will_do(self, served: Served, open_stream: Open) -> None:
        open_stream(served, "é" * 128)


class TestOk:
    def test_a_client_that_closes_its_side_is_told_all_first(self, served: Served, open_stream: Open) -> None:
        stream = open_stream(served, "c")
        for number in range(1, 21):
            stream.send(request(number, [report(number)]))
        stream.half_close()
        stream.acked(20)
        assert stream.end().code is grpc.StatusCode.OK

    def test_one_that_closes_its_side_at_once_is_still_told_the_number_held(
        self, served: Served, open_stream: Open
    ) -> None:
        stream = open_stream(served)
        served.log.gate.clear()
        stream.send(request(client_id="c"))
        stream.half_close()
        eventually(lambda: served.streams.open, lambda count: count == 1)
        served.log.gate.set()
        assert stream.receive().acked_sequence == 0
        assert stream.end().code is grpc.StatusCode.OK

    def test_one_that_never_says_anything_may_close_its_side(self, served: Served, open_stream: Open) -> None:
        stream = open_stream(served)
        stream.half_close()
        assert stream.end().code is grpc.StatusCode.OK
        assert not [event for event in served.ask(lambda _: served.log.events) if isinstance(event, Came)]

    def test_after_closing_what_was_acknowledged_before_is_told_first(self, served: Served, open_stream: Open) -> None:
        stream = open_stream(served, "c")
        stream.send(request(1, [report(1), report(2, start=0)]))
        stream.send(request(2, [report(3)], closing=True))
        [rejected] = stream.acked(2)
        assert (rejected.sequence, rejected.index) == (1, 1)
        assert stream.end().code is grpc.StatusCode.OK
        assert served.ask(lambda ledger: ledger.collector.live_sessions) == 0

    def test_closing_is_answered_only_once_it_is_as_durable_as_a_batch(self, served: Served, open_stream: Open) -> None:
        stream = open_stream(served, "c")
        served.log.gate.clear()
        stream.send(request(closing=True))
        while not served.log.asked.acquire(timeout=0):
            pass
        with pytest.raises(AssertionError, match="no response"):
            stream.receive(0.1)
        served.log.gate.set()
        assert stream.end().code is grpc.StatusCode.OK


class TestUnavailable:
    def test_a_daemon_that_stops_ends_its_streams_and_says_when_to_come_back(
        self, served: Served, open_stream: Open
    ) -> None:
        streams = [open_stream(served, "c"), open_stream(served, "d")]
        served.refuse("the daemon stops; it will be back", 1_000)
        for stream in streams:
            assert stream.end() == Ended(
                grpc.StatusCode.UNAVAILABLE, "the daemon stops; it will be back", {RETRY_DELAY: "1000"}
            )
        served.run(served.streams.closed(30.0))
        assert served.streams.open == 0

    def test_a_stream_that_has_not_said_anything_is_ended_too(self, served: Served, open_stream: Open) -> None:
        stream = open_stream(served)
        eventually(lambda: served.streams.open, lambda count: count == 1)
        served.refuse("stopped", 7)
        assert stream.end() == Ended(grpc.StatusCode.UNAVAILABLE, "stopped", {RETRY_DELAY: "7"})
        served.run(served.streams.closed(30.0))
        assert served.streams.open == 0

    def test_new_streams_are_refused_from_then_on_until_they_are_taken_again(
        self, served: Served, open_stream: Open
    ) -> None:
        served.refuse("full", 5_000)
        assert open_stream(served).end() == Ended(grpc.StatusCode.UNAVAILABLE, "full", {RETRY_DELAY: "5000"})
        served.take_again()
        open_stream(served, "c")

    def test_what_was_acknowledged_before_stays_and_nothing_else_was_told(
        self, served: Served, open_stream: Open
    ) -> None:
        stream = open_stream(served, "c")
        stream.send(request(1, [report(1)]))
        stream.acked(1)
        served.refuse("stopped", 1_000)
        stream.end()
        served.take_again()
        again = open_stream(served)
        again.send(request(client_id="c"))
        assert again.receive().acked_sequence == 1

    def test_one_stream_more_than_the_most_is_ended_at_once_whatever_it_says(
        self, serve: Callable[..., Served], open_stream: Open
    ) -> None:
        served = serve(max_streams=2)
        open_stream(served, "c")
        silent = open_stream(served)
        eventually(lambda: served.streams.open, lambda count: count == 2)
        assert open_stream(served).end() == Ended(
            grpc.StatusCode.UNAVAILABLE,
            "the daemon has its most streams (2, --max-streams); try again later",
            {RETRY_DELAY: "10000"},
        )
        silent.half_close()
        silent.end()
        eventually(lambda: served.streams.open, lambda count: count == 1)
        open_stream(served, "d")


class TestInvalidArgument:
    """Which messages break the protocol is the ledger's to say, see tests/unit/test_ledger.py."""

    def test_the_stream_ends_and_the_status_says_what_was_expected(self, served: Served, open_stream: Open) -> None:
        stream = open_stream(served, "c")
        stream.send(request(1, [report(1)]))
        stream.send(request(3, [report(3)]))
        stream.acked(1)
        assert stream.end() == Ended(grpc.StatusCode.INVALID_ARGUMENT, "batch 3 leaves a gap; expected 2", {})

    def test_a_batch_of_more_than_4_mib_in_a_message_of_8_mib_is_refused_as_too_large(
        self, served: Served, open_stream: Open
    ) -> None:
        message = request(1, [report(1)])
        message.columns.apps.add(slug_or_port="x" * (MAX_MESSAGE_BYTES - message.ByteSize() - 32))
        message.columns.apps[-1].slug_or_port += "x" * (MAX_MESSAGE_BYTES - message.ByteSize())
        assert message.ByteSize() == MAX_MESSAGE_BYTES
        stream = open_stream(served, "c")
        stream.send(message)
        ended = stream.end()
        assert ended.code is grpc.StatusCode.INVALID_ARGUMENT
        assert f"expected at most {MAX_BATCH_BYTES} (4 MiB)" in ended.details

    def test_what_was_acknowledged_is_not_affected(self, served: Served, open_stream: Open) -> None:
        stream = open_stream(served, "c")
        stream.send(request(1, [report(1)]))
        stream.acked(1)
        stream.send(b"\xff")
        assert stream.end().code is grpc.StatusCode.INVALID_ARGUMENT
        assert served.ask(lambda ledger: ledger.collector.live_sessions) == 1


def test_a_message_of_more_than_8_mib_is_resource_exhausted(served: Served, open_stream: Open) -> None:
    stream = open_stream(served, "c")
    stream.send(request(1, [report(1)]))
    stream.acked(1)
    stream.send(bytes(MAX_MESSAGE_BYTES + 1))
    assert stream.end().code is grpc.StatusCode.RESOURCE_EXHAUSTED
    # Nothing of it was taken, and the client may come back.
    again = open_stream(served)
    again.send(request(client_id="c"))
    assert again.receive().acked_sequence == 1


def test_other_content_under_a_number_used_before_already_exists(served: Served, open_stream: Open) -> None:
    stream = open_stream(served, "c")
    stream.send(request(1, [report(1)]))
    stream.send(request(1, [report(2)]))
    ended = stream.end()
    assert ended.code is grpc.StatusCode.ALREADY_EXISTS
    assert "the client_id is in use twice" in ended.details


def test_a_stream_that_is_taken_over_is_aborted(served: Served, open_stream: Open) -> None:
    older = open_stream(served, "c")
    newer = open_stream(served, "c")
    assert older.end() == Ended(
        grpc.StatusCode.ABORTED,
        "a newer stream took over client_id 'c'; a client_id is for one process alone",
        {},
    )
    newer.send(request(1, [report(1)]))
    newer.acked(1)


class TestRejections:
    BAD = (
        (report(1, of=app(0)), None),
        (report(2, of=app(1, method=9)), Reason.INVALID_ACCESS_METHOD),
        (report(3, of=app(1, slug="x" * 257)), Reason.INVALID_SLUG_OR_PORT),
        (report(4, start=0), Reason.INVALID_TIME),
        (report(5, of=app(2)), None),
        (report(5, of=app(3)), Reason.CONFLICT),
    )

    def test_each_is_listed_with_its_place_reports_first_its_reason_and_what_is_allowed(
        self, served: Served, open_stream: Open
    ) -> None:
        message = request(1, [one for one, _ in self.BAD[3:]], reports=[one for one, _ in self.BAD[:3]], client_id="c")
        message.reports[0].user_id = bytes(16)
        stream = open_stream(served)
        stream.send(message)
        rejected = stream.acked(1)
        assert [(one.sequence, one.index, one.reason) for one in rejected] == [
            (1, 0, Reason.INVALID_ID),
            (1, 1, Reason.INVALID_ACCESS_METHOD),
            (1, 2, Reason.INVALID_SLUG_OR_PORT),
            (1, 3, Reason.INVALID_TIME),
            (1, 5, Reason.CONFLICT),
        ]
        for one, word in zip(
            rejected,
            ("user_id", "access_method is 9", "257 characters", "session_started_at_unix_nano is 0", "workspace"),
            strict=True,
        ):
            assert word in one.message
        assert served.ask(lambda ledger: ledger.collector.live_sessions) == 1

    def test_10000_of_them_come_in_responses_of_at_most_1_mib_before_the_acknowledgement(
        self, served: Served, open_stream: Open
    ) -> None:
        bad = [report(number, of=app(1, slug="é" * 257)) for number in range(10_000)]
        stream = open_stream(served, "c")
        stream.send(request(1, bad))
        indexes: list[int] = []
        while True:
            response = stream.receive()
            assert response.ByteSize() <= MAX_RESPONSE_BYTES
            indexes += [one.index for one in response.rejected]
            if response.acked_sequence == 1:
                break
        assert indexes == list(range(10_000))


class TestFlowControl:
    def test_nothing_is_acknowledged_before_it_is_durable(self, served: Served, open_stream: Open) -> None:
        stream = open_stream(served, "c")
        served.log.gate.clear()
        stream.send(request(1, [report(1)]))
        with pytest.raises(AssertionError, match="no response"):
            stream.receive(0.2)
        served.log.gate.set()
        stream.acked(1)

    def test_a_client_in_a_hurry_has_so_many_messages_taken_at_once_and_no_more(
        self, served: Served, open_stream: Open
    ) -> None:
        stream = open_stream(served, "c")
        served.log.gate.clear()
        for number in range(1, 101):
            stream.send(request(number, [report(number)]))
        other = open_stream(served)  # its first message comes to the drain behind all that was taken
        other.send(request(client_id="d"))
        served.log.gate.set()
        other.receive()
        stream.acked(100)
        together = [
            sum(isinstance(event, Received) for event in drain)
            for drain in served.ask(lambda _: list(served.log.drains))
        ]
        assert sum(together) == 100
        assert max(together) <= MAX_UNANSWERED

    @pytest.fixture
    def stuck(self, served: Served) -> Iterator[RawStream]:
        """A stream whose client reads nothing, up to where the daemon has stopped reading from it, of 80 batches."""
        bad = request(1, [report(number, of=app(1, slug="é" * 257)) for number in range(2_000)])
        with RawStream(served.target, reads=False) as stuck:
            stuck.send(request(client_id="stuck"))
            for number in range(1, 81):
                bad.sequence = number
                stuck.send(bad)
            eventually(lambda: self.applied(served), lambda applied: applied >= MAX_UNANSWERED)
            yield stuck

    def applied(self, served: Served) -> int:
        def look(ledger: Ledger) -> int:
            client = ledger.collector.clients.get("stuck")
            return 0 if client is None else client.applied_sequence

        return served.ask(look)

    def test_a_client_that_reads_nothing_holds_back_nobody_else(
        self, served: Served, open_stream: Open, stuck: RawStream
    ) -> None:
        other = open_stream(served, "c")
        for number in range(1, 50):
            other.send(request(number, [report(number)]))
            other.acked(number)
        # What it takes meanwhile is bounded; once its client reads, it goes on where it stood.
        assert self.applied(served) < 80
        stuck.read()
        stuck.acked(80)

    def test_nor_a_stop(self, served: Served, open_stream: Open, stuck: RawStream) -> None:
        other = open_stream(served, "c")
        served.refuse("stopped", 1_000)
        assert other.end().code is grpc.StatusCode.UNAVAILABLE
        served.run(served.streams.closed(0.2))
        assert served.streams.open == 1


class TestComingAndGoing:
    def test_a_stream_begins_with_came_and_ends_with_one_went_whatever_ended_it(
        self, served: Served, open_stream: Open
    ) -> None:
        def ends() -> list[int]:
            return [event.stream for event in served.ask(lambda _: served.log.events) if isinstance(event, Went)]

        closed, cancelled, broken, taken_over = (open_stream(served, name) for name in "abcd")
        closed.half_close()
        cancelled.close()
        broken.send(b"\xff")
        open_stream(served, "d")
        eventually(lambda: sorted(ends()), lambda numbers: numbers == [1, 2, 3, 4])
        began = [event.stream for event in served.log.events if isinstance(event, Came)]
        assert began == [1, 2, 3, 4, 5]
        assert served.ask(lambda ledger: ledger.open_streams) == 1
        assert eventually(lambda: served.streams.open, lambda count: count == 1) == 1
        taken_over.end()

    def test_messages_of_one_stream_come_to_the_drain_in_their_order(self, served: Served, open_stream: Open) -> None:
        stream = open_stream(served, "c")
        for number in range(1, 301):
            stream.send(request(number, [report(number)]))
        stream.acked(300)  # any other order would have left a gap

    def test_a_client_is_away_as_soon_as_its_connection_is_cut(self, served: Served, open_stream: Open) -> None:
        stream = open_stream(served, "c")
        stream.send(request(1, [report(1, T0 - HOUR)]))
        stream.acked(1)
        stream.close()
        eventually(
            lambda: served.ask(lambda ledger: [client.here for client in ledger.collector.clients]),
            lambda here: here == [False],
        )
