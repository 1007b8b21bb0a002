"""Whatever bytes come as a message: they are a batch, the same that protobuf's own classes read in them, or are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from appstatsd.decode import Decoder, Request
from appstatsd.errors import BrokenMessage
from appstatsd.wire.appstats.v1.appstats_pb2 import StreamReportsRequest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.raw_client import request
from tests.support.reports import SECOND, T0, app, report

SOME = [report(1), report(2, end=T0 + SECOND, of=app(2)), report(3, requests=2**32 - 1, of=app(3, slug="é"))]
VALID = [
    request(1, SOME).SerializeToString(),
    request(2, SOME[1:], reports=SOME[:1], client_id="c", closing=True, dropped=2**64 - 1).SerializeToString(),
    request(3, [report(number, requests=number) for number in range(200)]).SerializeToString(),
    request(client_id="a client").SerializeToString(),
]
VALID_APP = request(1, SOME[:1]).columns.apps[0].SerializeToString()
_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)

varints = st.one_of(
    st.integers(0, 2**64 - 1).map(lambda number: varint(number)),
    # Longer than need be, and longer than may be.
    st.tuples(st.integers(0, 300), st.integers(0, 12)).map(lambda pair: varint(pair[0], pair[1])),
)


def varint(number: int, longer: int = 0) -> bytes:
    """As protobuf writes it, or with so many bytes more that say nothing."""
    septets = [number & 0x7F]
    while number := number >> 7:
        septets.append(number & 0x7F)
    septets += [0] * longer
    return bytes([*(septet | 0x80 for septet in septets[:-1]), septets[-1]])


def field(number: int, content: bytes, lie: int = 0) -> bytes:
    """A field of bytes, which may say that it is longer or shorter than it is."""
    return varint(number << 3 | _BYTES) + varint(max(0, len(content) + lie)) + content


any_field = st.one_of(
    st.tuples(st.integers(0, 20), varints).map(lambda pair: varint(pair[0] << 3 | _VARINT) + pair[1]),
    st.tuples(st.integers(0, 20), st.binary(min_size=8, max_size=8)).map(
        lambda pair: varint(pair[0] << 3 | _FIXED64) + pair[1]
    ),
    st.tuples(st.integers(0, 20), st.sampled_from((_GROUP, _END_GROUP, _FIXED32, 6, 7)), st.binary(max_size=4)).map(
        lambda three: varint(three[0] << 3 | three[1]) + three[2]
    ),
    st.tuples(st.integers(0, 20), st.binary(max_size=20), st.sampled_from((0, 0, 0, -1, 1, 2**31, 2**63))).map(
        lambda three: field(*three)
    ),
)
TOO_LONG = varint(1, 10)
small = st.sampled_from((0, 1, 2, 3, 127, 128, 300, 2**32 - 1, 2**32, 2**35, 2**64 - 1)).map(varint)
numbers = st.one_of(
    st.sampled_from((b"\0", b"\1", b"\2")), small, varints, st.sampled_from((TOO_LONG, b"\x80", b"\0\0", b""))
)
"""Of a packed column: mostly such as there may be, else large, spelled strangely, cut off, two, none."""


@st.composite
def structured(draw: st.DrawFn) -> bytes:
    """A message with columns that mostly fit together; some in parts, moved, spelled strangely, with unknown fields."""
    count = draw(st.integers(0, 4))
    wrong = draw(
        st.sampled_from((0, 0, 0, 1, 2, 3, 4, 4, 4, -1, -1, -1))
    )  # which of the columns is not as it should be
    tail = draw(st.sampled_from((b"", b"", b"\x80")))
    fields = [field(1, VALID_APP)] * 3 + [
        field(
            2, b"".join(draw(numbers) if wrong == 0 else b"\1" for _ in range(count)) + (tail if wrong == 0 else b"")
        ),
        field(3, draw(st.binary(max_size=40)) if wrong == 1 else bytes(range(16)) * count),
        field(4, draw(st.binary(max_size=40)) if wrong == 2 else bytes(range(8)) * count),
        field(5, draw(st.binary(max_size=40)) if wrong == 3 else bytes(8) * count),
        field(
            6, b"".join(draw(numbers) if wrong == 4 else b"\7" for _ in range(count)) + (tail if wrong == 4 else b"")
        ),
    ]
    what = draw(st.sampled_from(("nothing", "nothing", "app", "more", "order", "twice", "less")))
    if what == "app":
        fields[0] = field(1, draw(st.binary(max_size=6) | any_field))
    elif what == "more":
        fields.insert(draw(st.integers(0, len(fields))), draw(any_field))
    elif what == "order":
        fields = draw(st.permutations(fields))
    elif what == "twice":
        fields.append(draw(st.sampled_from(fields)))
    elif what == "less":
        del fields[draw(st.integers(0, len(fields) - 1))]
    columns = field(4, b"".join(fields), draw(st.sampled_from((0, 0, 0, 0, 0, 0, 0, 1, -1, 2**63))))
    return b"".join([varint(2 << 3) + b"\1", columns, *draw(st.lists(any_field | st.just(columns), max_size=1))])


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A message to which something was done: bytes changed, cut out, put in, brought from elsewhere."""
    message = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(message)))
        end = draw(st.integers(begin, min(len(message), begin + 30)))
        other = draw(st.sampled_from(VALID))
        at = draw(st.integers(0, len(other)))
        instead = draw(st.binary(max_size=10) | varints | st.just(other[at : at + 40]) | st.just(b""))
        message = message[:begin] + instead + message[end:]
    return message


def spelled(read: Request) -> object:
    """What a request says, in a form that can be compared, but for the digest, which depends on the spelling."""
    batch = read.batch
    plain = replace(read, batch=None, digest=0)
    if batch is None:
        return plain
    values = (batch.app, batch.started_ns, batch.ended_ns, batch.requests)
    return (
        plain,
        batch.apps,
        batch.session_ids.tobytes(),
        batch.flawed_ids,
        [np.asarray(each).tolist() for each in values],
    )


def by_protobuf(message: bytes) -> Request:
    """The slow way, which asks the generated classes for everything."""
    try:
        whole = StreamReportsRequest.FromString(message)
    except DecodeError:
        raise BrokenMessage("no message") from None
    if len(whole.client_id) > 128:
        raise BrokenMessage("too long")
    batch = Decoder()._of_request(whole)
    return Request(whole.client_id, whole.sequence, batch, whole.closing, whole.dropped_reports, 0)


@settings(max_examples=1_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(structured() | mutated() | st.binary(max_size=100))
@example(b"\x22\x0c\x08\x00\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x00")  # all columns there, and empty
@example(
    b"\x22\x1c\x10\x00\x0a\x00\x12\x01\x00\x1a\x00\x22\x00\x2a\x00\x32\x00\x1a\x00\x22\x00\x2a\x00\x32\x00"
)  # a number of a column before the column
def test_whatever_the_bytes_they_say_what_protobuf_reads_in_them_or_are_refused(message: bytes) -> None:
    try:
        expected: object = spelled(by_protobuf(message))
    except BrokenMessage:
        expected = BrokenMessage
    try:
        found: object = spelled(Decoder().decode(message))
    except BrokenMessage:
        found = BrokenMessage
    assert found == expected
