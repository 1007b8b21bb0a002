"""How is a batch of columns read without an object for each thing in it?

On the wire a packed column of fixed64 is the array itself, a column of small numbers is a byte for each, and a message in
a message is bytes. So here messages of the same field numbers are declared whose fields are plain bytes, and what they
give is looked at as arrays. Invariant: what this module reads is what the generated classes would have read; where it
cannot tell, it gives None, and the caller asks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from appstatsd.wire.appstats.v1 import appstats_pb2

_ID_BYTES: Final = 16
_TIME_BYTES: Final = 8
_MOST_VARINT_BYTES: Final = 5
"""What a uint32 takes at most, from a writer that keeps to its type."""
_PACKAGE: Final = "appstatsd.slices"


class SlicedRequest(Protocol):
    """A StreamReportsRequest whose reports and columns are not looked into."""

    client_id: str
    sequence: int
    closing: bool
    dropped_reports: int
    reports: Sequence[bytes]
    columns: Sequence[bytes]

    def ParseFromString(self, message: bytes) -> int:  # noqa: N802
        """See `google.protobuf.message.Message`."""


class _SlicedColumns(Protocol):
    apps: Sequence[bytes]
    app: Sequence[bytes]
    session_ids: Sequence[bytes]
    session_started_at_unix_nano: Sequence[bytes]
    session_ended_at_unix_nano: Sequence[bytes]
    requests: Sequence[bytes]

    def ParseFromString(self, message: bytes) -> int:  # noqa: N802
        """See `google.protobuf.message.Message`."""


def _declare() -> tuple[type[SlicedRequest], type[_SlicedColumns]]:
    """The two classes, made from the generated ones, so that the numbers of fields stand in one place."""
    field_proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    for whole in (appstats_pb2.StreamReportsRequest, appstats_pb2.SessionReportColumns):
        sliced = file.message_type.add()
        whole.DESCRIPTOR.CopyToProto(sliced)
        for field in sliced.field:
            if whole is appstats_pb2.SessionReportColumns or field.type == field_proto.TYPE_MESSAGE:
                field.type, field.label = field_proto.TYPE_BYTES, field_proto.LABEL_REPEATED
                field.ClearField("type_name")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    request, columns = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{message.name}"))
        for message in file.message_type
    )
    return cast(type[SlicedRequest], request), cast(type[_SlicedColumns], columns)


_Request, _Columns = _declare()


@dataclass(frozen=True, slots=True)
class Slices:
    """The columns of a batch; the arrays are views of the message's bytes where they can be."""

    apps: Sequence[bytes]
    """Each a serialized App."""
    app: npt.NDArray[np.unsignedinteger]
    session_ids: npt.NDArray[np.void]
    started_ns: npt.NDArray[np.uint64]
    ended_ns: npt.NDArray[np.uint64]
    requests: npt.NDArray[np.unsignedinteger]


def slice_request(message: bytes) -> SlicedRequest:
    """Read what stands beside the batch.

    Raises:
        DecodeError: the message is no StreamReportsRequest.
    """
    request = _Request()
    request.ParseFromString(message)
    return request


def slice_columns(serialized: bytes) -> Slices | None:
    """Read a serialized SessionReportColumns; None: it does not have the form that every common writer gives it.

    Raises:
        DecodeError: it is no SessionReportColumns.
    """
    columns = _Columns()
    columns.ParseFromString(serialized)
    if len(UnknownFieldSet(cast(Message, columns))):  # numbers of a column may also stand one by one, between others
        return None
    try:
        (app,), (session_ids,), (requests,) = columns.app, columns.session_ids, columns.requests
        (started,), (ended,) = columns.session_started_at_unix_nano, columns.session_ended_at_unix_nano
    except ValueError:  # a column is missing, or in parts
        return None
    count, rest = divmod(len(session_ids), _ID_BYTES)
    if rest or not count or not len(started) == len(ended) == _TIME_BYTES * count:
        return None
    apps, counts = _numbers(app, count), _numbers(requests, count)
    if apps is None or counts is None:
        return None
    return Slices(
        columns.apps,
        apps,
        np.frombuffer(session_ids, "V16"),
        np.frombuffer(started, "<u8"),
        np.frombuffer(ended, "<u8"),
        counts,
    )


def _numbers(packed: bytes, count: int) -> npt.NDArray[np.unsignedinteger] | None:
    """A packed column of `count` uint32; None: it does not hold as many, or is written strangely."""
    octets = np.frombuffer(packed, np.uint8)
    if len(packed) == count and packed.isascii():  # the top bit says that more follows
        return octets
    ends = np.flatnonzero(octets < 0x80)
    if len(ends) != count or not count or ends[-1] != len(packed) - 1:
        return None
    begins = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - begins + 1
    if int(lengths.max()) > _MOST_VARINT_BYTES:
        return None
    shifts = 7 * (np.arange(len(packed)) - np.repeat(begins, lengths))
    values = np.add.reduceat((octets & 0x7F).astype(np.uint64) << shifts.astype(np.uint64), begins)
    return values.astype(np.uint32)  # as protobuf does with what is too large
