"""What the daemon knows of its clients' streams, batch by batch, and what it tells them."""

from __future__ import annotations

import numpy as np
import pytest
from appstatsd.answers import Answer, EndReason
from appstatsd.collect.rows import EndSource
from appstatsd.collect.rules import Rules
from appstatsd.events import (
    Came,
    Event,
    Flushed,
    Forgotten,
    Quarantined,
    QuarantineDropped,
    QuarantineRetried,
    Received,
    RoomChanged,
    Started,
    Went,
    Written,
)
from appstatsd.ledger import Ledger
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

from tests.support.raw_client import request
from tests.support.reports import HOUR, MINUTE, SECOND, T0, Table, app, plain, report, row, session, user

LIVE_LONG_AGO = T0 - HOUR


class Story:
    """Tells a ledger what happens, on clocks that stand still until they are moved."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.ledger = Ledger(self.rules)
        self.wall, self.mono = T0, 0
        self.names: dict[int, str] = {}
        self.happens(Started(self.rules, self.wall, self.mono))

    def happens(self, *events: Event) -> dict[int, Answer]:
        return self.ledger.apply_all(events)

    def passes(self, microseconds: int) -> None:
        self.wall += microseconds
        self.mono += microseconds

    def came(self, client_id: str = "c") -> Came:
        stream = self.ledger.next_stream
        self.names[stream] = client_id
        return Came(stream, client_id, self.wall, self.mono)

    def opens(self, client_id: str = "c") -> int:
        came = self.came(client_id)
        self.happens(came)
        return came.stream

    def held(self, client_id: str = "c") -> int | None:
        """What a new stream of the client is told at first."""
        came = self.came(client_id)
        return self.happens(came)[came.stream].greeting

    def received(self, stream: int, message: wire.StreamReportsRequest | bytes) -> Received:
        data = message if isinstance(message, bytes) else message.SerializeToString()
        return Received(stream, self.names[stream], data, self.wall, self.mono)

    def says(self, stream: int, *messages: wire.StreamReportsRequest | bytes) -> Answer:
        """The stream's messages come in together; what it is told."""
        return self.happens(*(self.received(stream, message) for message in messages)).get(stream, Answer())

    def went(self, stream: int) -> Went:
        return Went(stream, self.wall, self.mono)

    def flush(self) -> Table:
        """The rows that a flush now makes."""
        rolled_up, _ = self.ledger.flushed(Flushed(self.wall, self.wall, self.mono))
        return plain(rolled_up.rows)


@pytest.fixture
def story() -> Story:
    return Story()


class TestTheFirstMessage:
    def test_an_unknown_client_is_told_that_nothing_is_held(self, story: Story) -> None:
        assert story.held() == 0

    def test_a_client_that_comes_back_is_told_the_last_number_applied(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(1, [report(1)]), request(2, [report(2)]))
        story.happens(story.went(stream))
        assert story.held() == 2

    def test_the_number_told_is_the_one_from_before_its_own_batch(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(1, [report(1)]))
        came = story.came()
        answer = story.happens(came, story.received(came.stream, request(2, [report(2)], client_id="c")))[came.stream]
        assert (answer.greeting, answer.acked_sequence) == (1, 2)

    def test_a_client_that_never_reported_leaves_nothing_behind(self, story: Story) -> None:
        story.happens(story.went(story.opens()))
        assert len(story.ledger.collector.clients) == 0


class TestNumbers:
    def test_the_first_number_of_an_unknown_client_is_taken_as_it_comes(self, story: Story) -> None:
        stream = story.opens()
        assert story.says(stream, request(17, [report(1)])).acked_sequence == 17
        assert story.says(stream, request(18, [report(2)])).acked_sequence == 18

    def test_batches_that_come_together_are_acknowledged_once_with_the_last_number(self, story: Story) -> None:
        answer = story.says(story.opens(), *(request(number, [report(number)]) for number in (1, 2, 3)))
        assert (answer.acked_sequence, answer.messages) == (3, 3)

    def test_the_highest_number_of_64_bits_is_a_number(self, story: Story) -> None:
        assert story.says(story.opens(), request(2**64 - 1, [report(1)])).acked_sequence == 2**64 - 1

    @pytest.mark.parametrize(
        ("message", "said"),
        [
            (request(4, [report(3)]), "batch 4 leaves a gap; expected 3"),
            (request(0, [report(3)]), "the batch has sequence 0; expected numbers from 1"),
            (request(3), "batch 3 is empty; expected 1 to 10000 reports, or sequence 0 with none"),
            (
                request(3, closing=True),
                "batch 3 is empty; expected 1 to 10000 reports, or sequence 0 with none",
            ),
            (request(), "a message without a batch; only the first of a stream and a closing one may be so"),
            (request(3, [report(3)], client_id="d"), "client_id changed to 'd'; expected 'c' or none on this stream"),
            (b"\xff", "the message is not a StreamReportsRequest; expected the proto of appstats.v1"),
            (
                request(3, [report(3)] * 10_001),
                "the batch has 10001 reports; expected 1 to 10000",
            ),
        ],
    )
    def test_what_breaks_the_protocol_ends_the_stream_and_is_told_what_was_expected(
        self, story: Story, message: wire.StreamReportsRequest | bytes, said: str
    ) -> None:
        stream = story.opens()
        answer = story.says(stream, request(1, [report(1)]), request(2, [report(2)]), message, request(3, [report(4)]))
        assert (answer.end, answer.detail) == (EndReason.INVALID_ARGUMENT, said)
        assert story.ledger.open_streams == 0
        # What was acknowledged stays so, and what came after counts for nothing.
        assert answer.acked_sequence == 2
        assert story.ledger.collector.live_sessions == 2
        assert story.held() == 2

    def test_the_client_id_may_be_said_again(self, story: Story) -> None:
        stream = story.opens()
        assert story.says(stream, request(1, [report(1)], client_id="c")).acked_sequence == 1

    def test_a_stream_that_broke_the_protocol_is_away_since_then(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(1, [report(1, LIVE_LONG_AGO)]))
        story.says(stream, request())
        gone_at = story.wall
        story.passes(2 * MINUTE + 1)
        story.happens(story.went(stream))  # the handler notices later, which changes nothing
        assert story.flush() == {
            row(1, 0, 0, 0).key: row(1, LIVE_LONG_AGO, gone_at, story.wall, 1, 1, EndSource.INFERRED)
        }


class TestResends:
    def test_a_batch_sent_again_is_acknowledged_again_and_not_applied(self, story: Story) -> None:
        stream = story.opens()
        batch = request(1, [report(1, end=T0), report(2, end=T0, requests=3)])
        story.says(stream, batch)
        answer = story.says(stream, batch)
        assert (answer.acked_sequence, answer.end) == (1, None)
        tally = story.ledger.tally
        assert (tally.accepted, tally.duplicate) == (2, 2)

    def test_one_sent_again_is_acknowledged_with_the_last_number_applied(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(1, [report(1)]), request(2, [report(2)]))
        assert story.says(stream, request(1, [report(1)])).acked_sequence == 2

    def test_one_sent_again_on_a_new_stream_is_known(self, story: Story) -> None:
        story.says(story.opens(), request(1, [report(1)]))
        answer = story.says(story.opens(), request(1, [report(1)]))
        assert (answer.acked_sequence, answer.end, story.ledger.tally.duplicate) == (1, None, 1)

    def test_its_rejections_are_not_listed_again(self, story: Story) -> None:
        stream = story.opens()
        batch = request(1, [report(1, start=0), report(2)])
        assert len(story.says(stream, batch).rejected) == 1
        assert story.says(stream, batch).rejected == []
        assert story.ledger.tally.rejected.total() == 1

    def test_other_content_under_a_number_applied_means_that_the_client_id_is_in_use_twice(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(1, [report(1)]), request(2, [report(2)]))
        answer = story.says(stream, request(1, [report(3)]))
        assert answer.end is EndReason.ALREADY_EXISTS
        assert "batch 1 of client_id 'c' was applied with other content" in answer.detail
        assert "in use twice" in answer.detail
        assert story.ledger.collector.live_sessions == 2

    def test_the_last_1024_are_known_and_what_is_older_is_refused(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, *(request(number, [report(number)]) for number in range(1, 1_025)))
        story.says(stream, request(1_025, [report(1)]))  # content that was there before, so that the number alone tells
        assert story.says(stream, request(2, [report(2)])).acked_sequence == 1_025
        answer = story.says(stream, request(1, [report(1)]))
        assert answer.end is EndReason.ALREADY_EXISTS
        assert "too long ago to tell (the last is 1025)" in answer.detail

    def test_a_number_from_before_the_first_one_known_is_refused(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(5, [report(5)]))
        assert story.says(stream, request(4, [report(4)])).end is EndReason.ALREADY_EXISTS


class TestTakeOver:
    def test_a_newer_stream_of_a_client_ends_the_older_one(self, story: Story) -> None:
        older = story.opens()
        came = story.came()
        answers = story.happens(came)
        assert answers[older].end is EndReason.ABORTED
        assert answers[older].detail == ("a newer stream took over client_id 'c'; a client_id is for one process alone")
        assert (answers[came.stream].greeting, answers[came.stream].end) == (0, None)

    def test_what_the_older_one_says_from_then_on_counts_for_nothing(self, story: Story) -> None:
        older = story.opens()
        newer = story.opens()
        assert story.says(older, request(1, [report(1)])) == Answer()
        assert story.says(newer, request(1, [report(2)])).acked_sequence == 1

    def test_what_the_older_one_said_before_stays(self, story: Story) -> None:
        older = story.opens()
        came = story.came()
        answers = story.happens(story.received(older, request(1, [report(1)])), came)
        assert (answers[older].acked_sequence, answers[older].end) == (1, EndReason.ABORTED)
        assert answers[came.stream].greeting == 1

    def test_the_client_is_not_away_when_the_older_one_is_gone(self, story: Story) -> None:
        older = story.opens()
        newer = story.opens()
        story.says(newer, request(1, [report(1, LIVE_LONG_AGO)]))
        story.happens(story.went(older))
        story.passes(HOUR)
        [live] = story.flush().values()
        assert live.end_source is EndSource.LIVE


class TestRejections:
    def test_a_bad_report_costs_none_of_its_neighbours(self, story: Story) -> None:
        answer = story.says(
            story.opens(), request(1, [report(1), report(2, start=0), report(3)], reports=[report(4, start=0)])
        )
        assert answer.acked_sequence == 1
        assert [(number, each.index) for number, each in answer.rejected] == [(1, 0), (1, 2)]
        assert story.ledger.collector.live_sessions == 2
        assert (story.ledger.tally.accepted, story.ledger.tally.rejected.total()) == (2, 2)

    def test_rejections_of_batches_that_come_together_keep_their_numbers(self, story: Story) -> None:
        stream = story.opens()
        other = story.opens("d")
        answers = story.happens(
            story.received(stream, request(1, [report(1, start=0)])),
            story.received(other, request(1, [report(2), report(3, start=0)])),
            story.received(stream, request(2, [report(4), report(5), report(6, start=0)])),
        )
        assert [(number, each.index) for number, each in answers[stream].rejected] == [(1, 0), (2, 2)]
        assert [(number, each.index) for number, each in answers[other].rejected] == [(1, 1)]

    def test_a_batch_of_which_all_is_rejected_is_acknowledged(self, story: Story) -> None:
        stream = story.opens()
        assert story.says(stream, request(1, [report(1, start=0)])).acked_sequence == 1
        assert story.says(stream, request(2, [report(1)])).acked_sequence == 2


class TestClosing:
    def test_its_batch_is_applied_first_then_what_is_live_ends(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(1, [report(1, LIVE_LONG_AGO), report(2, LIVE_LONG_AGO)]))
        story.passes(MINUTE)
        answer = story.says(stream, request(2, [report(1, LIVE_LONG_AGO, T0 - SECOND)], closing=True))
        assert (answer.acked_sequence, answer.end) == (2, EndReason.OK)
        ended = {key.session_id: (row.ended, row.end_source) for key, row in story.flush().items()}
        assert ended == {
            session(1): (T0 - SECOND, EndSource.REPORTED),
            session(2): (T0 + MINUTE, EndSource.REPORTED),
        }

    def test_it_needs_no_batch(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(1, [report(1)]))
        assert story.says(stream, request(closing=True)).end is EndReason.OK
        assert story.ledger.collector.live_sessions == 0

    def test_it_may_be_the_first_message_of_a_stream(self, story: Story) -> None:
        came = story.came()
        closing = request(1, [report(1)], client_id="c", closing=True)
        answer = story.happens(came, story.received(came.stream, closing))[came.stream]
        assert (answer.greeting, answer.acked_sequence, answer.end) == (0, 1, EndReason.OK)

    @pytest.mark.parametrize("batch", [(), (report(1), report(2))])
    def test_sent_again_on_a_new_stream_it_is_answered_again_and_changes_nothing(
        self, story: Story, batch: tuple[()]
    ) -> None:
        first = story.opens()
        story.says(first, request(1, [report(3)]))
        message = request(2 if batch else 0, batch, closing=True)
        story.says(first, message)
        accepted, rows = story.ledger.tally.accepted, story.flush()
        assert len(rows) == 1
        story.passes(SECOND)
        answer = story.says(story.opens(), message)
        assert (answer.acked_sequence, answer.end) == (2 if batch else None, EndReason.OK)
        assert story.ledger.tally.accepted == accepted
        assert story.flush() == {}

    def test_what_others_report_goes_on(self, story: Story) -> None:
        stream, other = story.opens(), story.opens("d")
        story.says(stream, request(1, [report(1), report(2)]))
        story.says(other, request(1, [report(2)]))  # a session is whose report of it was accepted last
        story.says(stream, request(closing=True))
        assert story.ledger.collector.live_sessions == 1

    def test_what_comes_after_it_counts_for_nothing(self, story: Story) -> None:
        stream = story.opens()
        answer = story.says(stream, request(closing=True), request(1, [report(1)]))
        assert (answer.acked_sequence, answer.end, answer.messages) == (None, EndReason.OK, 1)
        assert story.ledger.collector.live_sessions == 0

    def test_batches_of_others_that_come_together_with_it_are_merged_in_their_order(self, story: Story) -> None:
        stream, other = story.opens(), story.opens("d")
        story.happens(
            story.received(other, request(1, [report(1)])),
            story.received(stream, request(1, [report(1)], closing=True)),
            story.received(other, request(2, [report(2)])),
        )
        assert story.ledger.collector.live_sessions == 1
        assert story.held() == 1


class TestClientsThatAreAway:
    def test_a_live_session_ends_when_its_stream_did_once_the_grace_is_over(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(1, [report(1, LIVE_LONG_AGO)]))
        story.passes(SECOND)
        story.happens(story.went(stream))
        story.passes(2 * MINUTE)
        assert story.flush() == {}
        story.passes(1)
        [ended] = story.flush().values()
        assert (ended.ended, ended.end_source) == (T0 + SECOND, EndSource.INFERRED)

    def test_no_grace_runs_while_there_is_no_room_for_reports(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(1, [report(1, LIVE_LONG_AGO)]))
        story.happens(story.went(stream), RoomChanged(False, story.wall, story.mono))
        story.passes(HOUR)
        story.happens(RoomChanged(True, story.wall, story.mono))
        story.passes(2 * MINUTE)
        assert story.flush() == {}

    def test_after_a_restart_clients_that_were_there_are_away_since_the_last_moment_known(self, story: Story) -> None:
        story.says(story.opens(), request(1, [report(1, LIVE_LONG_AGO)]))
        story.passes(HOUR)
        story.happens(Started(story.rules, story.wall, story.mono))
        assert story.ledger.open_streams == 0
        story.passes(2 * MINUTE + 1)
        [ended] = story.flush().values()
        assert (ended.ended, ended.end_source) == (T0, EndSource.INFERRED)

    def test_a_client_is_forgotten_24_h_after_its_last_sign_of_life(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(1, [report(1)]))
        story.happens(story.went(stream))
        story.passes(24 * HOUR)
        story.flush()
        assert story.held() == 1
        story.happens(story.went(story.ledger.next_stream - 1))
        story.passes(24 * HOUR + 1)
        story.flush()
        assert story.held() == 0

    def test_a_client_with_an_open_stream_is_never_forgotten(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(1, [report(1)]))
        story.passes(100 * HOUR)
        story.flush()
        assert story.says(stream, request(1, [report(1)])).acked_sequence == 1

    def test_a_forgotten_client_may_begin_anywhere(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(1, [report(1)]))
        story.happens(story.went(stream))
        story.passes(24 * HOUR + 1)
        story.flush()
        assert story.says(story.opens(), request(7, [report(7, T0 + 24 * HOUR)])).acked_sequence == 7


class TestDroppedReports:
    def test_the_largest_number_that_a_client_has_told_is_kept(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(1, [report(1)], dropped=5))
        story.says(stream, request(2, [report(2)]))
        [client] = story.ledger.collector.clients
        assert client.dropped_reports == 5


class TestAccessLogs:
    """Proxies that tell their access log: several streams of one client, and batches without numbers."""

    LOG = "als/edge-1/http"

    def test_streams_of_one_log_are_open_side_by_side(self, story: Story) -> None:
        first, second = story.opens(self.LOG), story.opens(self.LOG)
        for number, stream in enumerate((first, second, first), 1):
            answer = story.says(stream, request(0, [report(number)]))
            assert (answer.end, answer.messages) == (None, 1)
        assert story.ledger.open_streams == 2
        assert story.ledger.tally.accepted == 3

    def test_the_same_told_twice_is_no_batch_sent_again(self, story: Story) -> None:
        stream = story.opens(self.LOG)
        story.says(stream, request(0, [report(1)]), request(0, [report(1)]))
        assert (story.ledger.tally.accepted, story.ledger.tally.duplicate) == (2, 0)
        assert story.ledger.collector.live_sessions == 1

    def test_it_is_away_when_its_last_stream_is_gone(self, story: Story) -> None:
        streams = [story.opens(self.LOG) for _ in range(3)]
        story.says(streams[0], request(0, [report(1, LIVE_LONG_AGO)]))
        story.happens(story.went(streams[0]))
        story.passes(MINUTE)
        story.happens(story.went(streams[2]))
        story.passes(MINUTE)
        told_at = story.wall
        story.says(streams[1], request(0, [report(1, LIVE_LONG_AGO)]))
        story.passes(2 * MINUTE + 1)
        assert [one.end_source for one in story.flush().values()] == [EndSource.LIVE]
        story.happens(story.went(streams[1]))
        gone_at = story.wall
        story.passes(2 * MINUTE + 1)
        assert told_at < gone_at
        assert story.flush() == {
            row(1, 0, 0, 0).key: row(1, LIVE_LONG_AGO, gone_at, story.wall, 1, 1, EndSource.INFERRED)
        }

    def test_none_of_its_streams_outlives_a_restart_and_it_may_come_back_within_the_grace(self, story: Story) -> None:
        for _ in range(2):
            story.says(story.opens(self.LOG), request(0, [report(1, LIVE_LONG_AGO)]))
        story.happens(Started(story.rules, story.wall, story.mono))
        assert story.ledger.open_streams == 0
        story.passes(MINUTE)
        story.says(story.opens(self.LOG), request(0, [report(1, LIVE_LONG_AGO)]))
        story.passes(MINUTE + 1)
        assert [one.end_source for one in story.flush().values()] == [EndSource.LIVE]

    def test_what_comes_after_lost_events_is_taken_though_its_streams_beginning_is_among_them(
        self, story: Story
    ) -> None:
        story.ledger.lost_events()
        for stream in (7, 8):
            story.names[stream] = self.LOG
            assert story.says(stream, request(0, [report(stream)])).messages == 1
        assert story.ledger.open_streams == 2


class TestRows:
    """The rows that a flush made wait in the outbox until they are written, or the database refuses them."""

    def ended(self, story: Story, count: int) -> int:
        story.says(story.opens(), request(1, [report(number, T0 - HOUR, T0) for number in range(1, count + 1)]))
        _, stamp = story.ledger.flushed(Flushed(story.wall, story.wall, story.mono))
        return stamp

    def test_those_written_wait_no_longer(self, story: Story) -> None:
        stamp = self.ended(story, 3)
        waiting = story.ledger.outbox.peek(10)
        story.happens(Written(waiting.serials[:2], stamp, story.wall))
        assert len(story.ledger.outbox) == 1
        assert story.ledger.outbox.owes(stamp)
        story.happens(Written(waiting.serials[2:], stamp, story.wall))
        assert not story.ledger.outbox.owes(stamp)

    def test_one_that_is_refused_goes_to_quarantine_and_may_be_tried_again_or_dropped(self, story: Story) -> None:
        stamp = self.ended(story, 2)
        first, second = story.ledger.outbox.peek(10).serials.tolist()
        story.happens(
            Quarantined(first, stamp, "no", "23514", story.wall), Quarantined(second, stamp, "no", None, story.wall)
        )
        assert len(story.ledger.outbox) == 0
        [one, other] = story.ledger.quarantine.ids()
        story.happens(QuarantineRetried((one,), story.wall), QuarantineDropped((other,), story.wall))
        assert len(story.ledger.quarantine) == 0
        [waits] = plain(story.ledger.outbox.peek(10).rows).values()
        assert waits.user_id == user(1)

    def test_one_pass_over_what_comes_together_is_the_same_as_one_event_after_another(self) -> None:
        together, apart = Story(), Story()
        for story in (together, apart):
            streams = [story.opens(name) for name in "abc"]
            events: list[Event] = [
                story.received(
                    stream,
                    request(number, [report(number * 3 + place, LIVE_LONG_AGO, requests=number, of=app(stream))]),
                )
                for number in range(1, 5)
                for place, stream in enumerate(streams)
            ]
            events.insert(7, story.received(streams[1], request(closing=True)))
            if story is together:
                story.happens(*events)
            else:
                for event in events:
                    story.happens(event)
        assert together.ledger.tally == apart.ledger.tally
        assert together.flush() == apart.flush()
        assert np.array_equal(together.ledger.collector.live_by_client(), apart.ledger.collector.live_by_client())


class TestForgetting:
    def test_a_person_is_erased_from_every_part_and_counted(self, story: Story) -> None:
        stream = story.opens()
        start = story.wall - HOUR
        story.says(
            stream,
            request(
                1, [report(1, start, of=app(1)), report(2, start, start + 1, of=app(1)), report(3, start, of=app(2))]
            ),
        )
        story.flush()
        refused = story.ledger.outbox.peek(1)
        [place] = refused.serials.tolist()
        story.happens(Quarantined(place, refused.as_of_stamp, "no", "23514", story.wall))
        before = story.ledger.held(user(1))
        event = Forgotten(user(1), story.wall)
        assert story.ledger.forgotten(event) == before
        assert (before.collected.live_sessions, before.collected.ended_sessions) == (1, 1)
        assert (before.backlog_rows, before.quarantined_rows) == (1, 1)
        after = story.ledger.held(user(1))
        assert (after.backlog_rows, after.quarantined_rows) == (0, 0)
        assert len(story.ledger.outbox) == 1
        assert story.ledger.collector.sessions == 1

    def test_the_client_goes_on_under_its_numbers_and_may_report_the_person_anew(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(1, [report(1, of=app(1))]))
        story.happens(Forgotten(user(1), story.wall))
        answer = story.says(stream, request(2, [report(1, T0 - 1, of=app(1))]))
        assert (answer.acked_sequence, answer.rejected) == (2, [])
        assert story.ledger.collector.sessions == 1

    def test_whoever_comes_next_takes_over_nothing_of_the_person(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(1, [report(7_777_777, T0 - 1, T0, of=app(1))]))
        story.flush()
        story.happens(Forgotten(user(1), story.wall))
        story.says(stream, request(2, [report(2, of=app(2))]))
        arrays, _ = story.ledger.to_snapshot()
        assert [name for name, array in arrays.items() if session(7_777_777) in array.tobytes()] == []

    def test_news_of_rows_that_are_gone_do_no_harm(self, story: Story) -> None:
        stream = story.opens()
        story.says(stream, request(1, [report(1, T0 - HOUR, of=app(1)), report(2, T0 - HOUR, of=app(2))]))
        story.flush()
        sent = story.ledger.outbox.peek(10)
        story.happens(
            Forgotten(user(1), story.wall),
            Quarantined(int(sent.serials[0]), sent.as_of_stamp, "no", None, story.wall),
            Written(sent.serials, sent.as_of_stamp, story.wall),
        )
        assert len(story.ledger.outbox) == len(story.ledger.quarantine) == 0
