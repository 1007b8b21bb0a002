"""What a message on a stream says, and which messages cannot be read as a whole."""

from __future__ import annotations

import contextlib
import re

import numpy as np
import pytest
from appstatsd.collect.batch import Batch
from appstatsd.decode import MAX_BATCH_BYTES, MAX_REPORTS, Decoder, Request
from appstatsd.errors import BrokenMessage
from appstatsd.slices import slice_columns
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire
from hypothesis import given
from hypothesis import strategies as st

from tests.support.raw_client import request
from tests.support.reports import SECOND, T0, app, report, reports_of

SOME = [report(1), report(2, end=T0 + SECOND, of=app(2)), report(3, requests=2**32 - 1)]


def decode(message: bytes) -> Request:
    return Decoder().decode(message)


def batch_of(message: wire.StreamReportsRequest) -> Batch:
    batch = decode(message.SerializeToString()).batch
    assert batch is not None
    return batch


def padded(bytes_of_batch: int) -> wire.StreamReportsRequest:
    """A message whose batch, one report and an app that nobody names, has so many bytes serialized."""
    message = request(1, SOME[:1])
    spare = message.columns.apps.add(slug_or_port="x" * (bytes_of_batch - 200))
    bare = wire.StreamReportsRequest(columns=message.columns)
    spare.slug_or_port += "x" * (bytes_of_batch - bare.ByteSize())
    assert wire.StreamReportsRequest(columns=message.columns).ByteSize() == bytes_of_batch
    return message


class TestReportsAndColumnsMeanTheSame:
    def test_a_batch_of_reports_is_the_batch_that_the_same_columns_are(self) -> None:
        assert reports_of(batch_of(request(1, SOME))) == reports_of(batch_of(request(1, reports=SOME))) == SOME

    def test_columns_come_after_reports(self) -> None:
        assert reports_of(batch_of(request(1, SOME[1:], reports=SOME[:1]))) == SOME

    def test_a_count_and_times_of_any_size_come_through(self) -> None:
        high = report(1, start=2**63 // 1000, end=2**64 // 1000 - 1, requests=2**32 - 1)
        assert reports_of(batch_of(request(1, [high], reports=[high]))) == [high, high]

    def test_a_session_id_of_the_wrong_length_is_kept_for_the_rejection(self) -> None:
        message = request(1, SOME[:1], reports=SOME[:1])
        message.reports[0].session_id = b"short"
        assert batch_of(message).flawed_ids == {0: b"short"}


class TestWhatBesidesTheBatchIsRead:
    def test_the_first_and_the_last_word_of_a_client_need_no_batch(self) -> None:
        first = decode(request(client_id="c", dropped=7).SerializeToString())
        last = decode(request(closing=True).SerializeToString())
        assert (first.client_id, first.batch, first.dropped_reports, first.closing) == ("c", None, 7, False)
        assert (last.client_id, last.batch, last.closing) == ("", None, True)

    def test_a_batch_takes_nothing_from_what_is_said_beside_it(self) -> None:
        said = decode(request(3, SOME, client_id="c", closing=True, dropped=7).SerializeToString())
        assert (said.client_id, said.sequence, said.closing, said.dropped_reports) == ("c", 3, True, 7)

    def test_columns_without_a_report_are_no_batch(self) -> None:
        message = request(client_id="c")
        message.columns.SetInParent()
        assert decode(message.SerializeToString()).batch is None


class TestTheDigest:
    def test_it_is_that_of_the_reports_alone(self) -> None:
        plain = decode(request(1, SOME).SerializeToString())
        dressed = decode(request(9, SOME, client_id="c", closing=True, dropped=3).SerializeToString())
        assert plain.digest == dressed.digest

    def test_a_field_of_a_later_version_beside_the_batch_does_not_change_it(self) -> None:
        message = request(1, SOME).SerializeToString()
        assert decode(message + b"\xfa\x07\x03new").digest == decode(message).digest

    @pytest.mark.parametrize("changed", ["requests", "session_started_at_unix_nano", "session_ended_at_unix_nano"])
    def test_another_value_in_a_column_is_another_content(self, changed: str) -> None:
        other = request(1, SOME)
        getattr(other.columns, changed)[0] += 1
        assert decode(other.SerializeToString()).digest != decode(request(1, SOME).SerializeToString()).digest

    def test_another_order_is_another_content(self) -> None:
        assert (
            decode(request(1, SOME).SerializeToString()).digest
            != decode(request(1, SOME[::-1]).SerializeToString()).digest
        )


def broken(message: wire.StreamReportsRequest | bytes) -> str:
    with pytest.raises(BrokenMessage) as caught:
        decode(message if isinstance(message, bytes) else message.SerializeToString())
    return str(caught.value)


class TestLimits:
    def test_10000_reports_are_a_batch(self) -> None:
        assert len(batch_of(request(1, [report(1)] * 6_000, reports=[report(2)] * 4_000))) == MAX_REPORTS

    def test_10001_reports_are_too_many_whatever_their_form(self) -> None:
        for message in (request(1, [report(1)] * 10_001), request(1, [report(1)] * 6_000, reports=[report(2)] * 4_001)):
            assert broken(message) == "the batch has 10001 reports; expected 1 to 10000"

    def test_a_batch_of_4_mib_is_taken(self) -> None:
        assert len(batch_of(padded(MAX_BATCH_BYTES))) == 1

    def test_a_byte_more_than_4_mib_is_too_much(self) -> None:
        assert broken(padded(MAX_BATCH_BYTES + 1)) == (
            "the batch is 4194305 bytes serialized; expected at most 4194304 (4 MiB)"
        )

    def test_a_client_id_of_128_characters_is_taken_however_many_bytes_they_have(self) -> None:
        assert decode(request(client_id="é" * 128).SerializeToString()).client_id == "é" * 128

    def test_a_client_id_of_129_characters_is_too_long(self) -> None:
        assert broken(request(client_id="é" * 129)) == "client_id has 129 characters; expected 1 to 128"


class TestBrokenMessages:
    def test_bytes_that_are_no_message_are_refused(self) -> None:
        assert "expected the proto of appstats.v1" in broken(b"\x0a\xff")

    def test_text_that_is_no_utf_8_is_refused(self) -> None:
        assert "expected the proto of appstats.v1" in broken(b"\x0a\x01\xff")

    @pytest.mark.parametrize(
        "column", ["app", "session_started_at_unix_nano", "session_ended_at_unix_nano", "requests"]
    )
    def test_a_column_that_is_shorter_than_the_others_breaks_the_batch(self, column: str) -> None:
        message = request(1, SOME)
        getattr(message.columns, column).pop()
        said = broken(message)
        assert re.search(rf"\b{column}: 2\b", said)
        assert "expected one length for all" in said

    @pytest.mark.parametrize("bytes_left", [47, 32])
    def test_session_ids_that_are_not_16_bytes_for_each_report_break_the_batch(self, bytes_left: int) -> None:
        message = request(1, SOME)
        message.columns.session_ids = message.columns.session_ids[:bytes_left]
        assert f"session_ids / 16: {bytes_left / 16:g}" in broken(message)

    def test_a_column_alone_breaks_the_batch(self) -> None:
        message = wire.StreamReportsRequest(sequence=1)
        message.columns.requests.append(1)
        assert "expected one length for all" in broken(message)

    def test_a_place_that_is_not_in_apps_breaks_the_batch(self) -> None:
        message = request(1, SOME)
        message.columns.app[1] = 2
        assert broken(message) == "a report of the batch names app 2; expected a place in apps, which has 2"


@given(st.binary(max_size=200))
def test_whatever_the_bytes_they_are_read_or_refused(message: bytes) -> None:
    with contextlib.suppress(BrokenMessage):
        decode(message)


@given(
    st.lists(st.integers(0, 3), max_size=3),
    st.binary(max_size=64),
    st.lists(st.integers(0, 2**64 - 1), max_size=3),
    st.lists(st.integers(0, 2**64 - 1), max_size=3),
    st.lists(st.integers(0, 2**32 - 1), max_size=3),
)
def test_whatever_the_columns_they_fit_together_or_are_refused(
    app: list[int], session_ids: bytes, started: list[int], ended: list[int], requests: list[int]
) -> None:
    columns = wire.SessionReportColumns(
        apps=[wire.App(), wire.App()],
        app=app,
        session_ids=session_ids,
        session_started_at_unix_nano=started,
        session_ended_at_unix_nano=ended,
        requests=requests,
    )
    lengths = {len(app), len(session_ids) / 16, len(started), len(ended), len(requests)}
    whole = len(lengths) == 1 and all(place < 2 for place in app)
    try:
        batch = decode(wire.StreamReportsRequest(sequence=1, columns=columns).SerializeToString()).batch
    except BrokenMessage:
        assert not whole
        return
    assert whole
    assert (0 if batch is None else len(batch)) == len(app)
    if batch is not None:
        assert np.array_equal(batch.started_ns, np.array(started, np.uint64))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 300),
            st.binary(min_size=16, max_size=16),
            *[st.integers(0, 2**64 - 1)] * 2,
            st.one_of(st.integers(0, 127), st.integers(0, 2**32 - 1)),
        ),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 301),
)
def test_slices_of_a_message_say_what_its_fields_say(
    reports: list[tuple[int, bytes, int, int, int]], apps: int
) -> None:
    app, session_ids, started, ended, requests = (list(column) for column in zip(*reports, strict=True))
    columns = wire.SessionReportColumns(
        apps=[wire.App(slug_or_port=str(number)) for number in range(apps)],
        app=app,
        session_ids=b"".join(session_ids),
        session_started_at_unix_nano=started,
        session_ended_at_unix_nano=ended,
        requests=requests,
    )
    slices = slice_columns(columns.SerializeToString())
    assert slices is not None
    assert [wire.App.FromString(each).slug_or_port for each in slices.apps] == [str(number) for number in range(apps)]
    assert slices.app.tolist() == app
    assert [each.tobytes() for each in slices.session_ids] == session_ids
    assert (slices.started_ns.tolist(), slices.ended_ns.tolist()) == (started, ended)
    assert slices.requests.tolist() == requests


class TestColumnsInAnUnusualForm:
    """What a writer may do, and none of the common ones does, is read by the generated classes."""

    USUAL = request(1, SOME).columns.SerializeToString()

    def test_a_column_in_two_parts_is_one(self) -> None:
        one, rest = (request(1, reports).columns for reports in (SOME[:1], SOME[1:]))
        rest.session_ids = one.session_ids + rest.session_ids  # of a field that is no list, the last one counts
        rest.app[:] = [place + len(one.apps) for place in rest.app]
        in_parts = one.SerializeToString() + rest.SerializeToString()
        assert slice_columns(in_parts) is None
        assert reports_of(decode(message_of(in_parts)).batch) == SOME

    def test_a_column_that_is_not_packed_is_read(self) -> None:
        columns = columns_of(self.USUAL)
        unpacked = b"".join(b"\x30" + varint(count) for count in columns.requests)  # field 6, a varint each
        columns.ClearField("requests")
        serialized = columns.SerializeToString() + unpacked
        assert slice_columns(serialized) is None
        assert reports_of(decode(message_of(serialized)).batch) == SOME

    def test_a_number_in_more_bytes_than_it_needs_is_read(self) -> None:
        columns = columns_of(self.USUAL)
        columns.ClearField("app")
        serialized = columns.SerializeToString() + b"\x12\x08" + b"\x80" * 5 + b"\0" + b"\1\0"  # field 2: 0, 1, 0
        assert slice_columns(serialized) is None
        assert reports_of(decode(message_of(serialized)).batch) == SOME


def columns_of(serialized: bytes) -> wire.SessionReportColumns:
    return wire.SessionReportColumns.FromString(serialized)


def message_of(columns: bytes) -> bytes:
    return b"\x22" + varint(len(columns)) + columns  # field 4


def varint(number: int) -> bytes:
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*octets, number])
