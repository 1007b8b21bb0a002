"""Whose is a stream that opens, and what becomes of what it sends?

What differs between the services that bring reports in; the life of their streams is the same (reports.py). Invariant:
what goes to the drain is a serialized StreamReportsRequest, whoever sent it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.message import DecodeError

from appstatsd.collect.clients import LOG_PREFIX, tells_log
from appstatsd.decode import MAX_CLIENT_ID_CHARACTERS
from appstatsd.errors import BrokenMessage
from appstatsd.wire.appstats.v1.appstats_pb2 import StreamReportsRequest


@dataclass(frozen=True, slots=True)
class Opening:
    """A stream, as its first message tells of it."""

    client_id: str
    batches: Callable[[bytes], Iterable[bytes]]
    """What goes to the drain of a message, the first included; raises BrokenMessage where it can't be read."""
    answered: bool
    """Whether the client is told what became of what it sent; else it gets an empty message at the end."""
    dropped_reports: int = 0
    software: str = ""


Open: TypeAlias = Callable[[bytes], Opening]
"""Reads the first message of a stream. Raises BrokenMessage where it does not say whose stream it is."""


def open_reports(first: bytes) -> Opening:
    """A stream of `StreamReports`.

    Raises:
        BrokenMessage: it is no StreamReportsRequest, or has no client_id that a client may have.
    """
    request = StreamReportsRequest()
    try:
        request.ParseFromString(first)
    except DecodeError:
        raise BrokenMessage(
            "the first message is not a StreamReportsRequest; expected the proto of appstats.v1"
        ) from None
    if not 0 < len(request.client_id) <= MAX_CLIENT_ID_CHARACTERS:
        raise BrokenMessage(
            f"the first message has a client_id of {len(request.client_id)} characters; expected 1 to "
            f"{MAX_CLIENT_ID_CHARACTERS}"
        )
    if tells_log(request.client_id):
        raise BrokenMessage(
            f"client_id {request.client_id!r} begins with {LOG_PREFIX!r}, as those of access logs do; expected one made "
            "of random bits"
        )
    brings = bool(request.sequence or request.closing or request.reports or request.columns.ByteSize())

    def batches(message: bytes) -> Iterable[bytes]:
        return (message,) if brings or message is not first else ()

    return Opening(request.client_id, batches, answered=True, dropped_reports=request.dropped_reports)
