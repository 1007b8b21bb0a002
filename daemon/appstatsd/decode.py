"""What does a message on a stream say?

Turns the bytes of a StreamReportsRequest into columns. Invariant: there is one form behind this module, whether the
sender wrote `reports` or `columns`; a message that cannot be read as a whole raises, and no part of it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import xxhash
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from appstatsd.collect.apps import AppKey
from appstatsd.collect.batch import Batch, ReportedApp
from appstatsd.collect.validate import checked_app
from appstatsd.errors import BrokenMessage
from appstatsd.slices import SlicedRequest, Slices, slice_columns, slice_request
from appstatsd.wire.appstats.v1.appstats_pb2 import App, SessionReport, SessionReportColumns, StreamReportsRequest

MAX_REPORTS: Final = 10_000
MAX_BATCH_BYTES: Final = 4 << 20
MAX_CLIENT_ID_CHARACTERS: Final = 128
_ID_BYTES: Final = 16
_FRAME_BYTES: Final = 5
"""What the columns take beside their own bytes in a batch of about the largest size."""
_APPS_REMEMBERED: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Request:
    """One message, readable as a whole."""

    client_id: str
    """Empty where the message leaves it out."""
    sequence: int
    batch: Batch | None
    """None where the message carries no report."""
    closing: bool
    dropped_reports: int
    digest: int
    """64 bits that stand for the content of the batch; 0 without one."""


class Decoder:
    """Reads messages; remembers apps, which clients name again and again."""

    def __init__(self) -> None:
        self._apps: dict[bytes, AppKey] = {}
        """By their bytes on the wire, those that are right."""

    def decode(self, message: bytes) -> Request:
        """Read one message.

        Raises:
            BrokenMessage: it is no StreamReportsRequest, its batch is too large, or its columns do not fit together.
        """
        try:
            request = slice_request(message)
            batch, digest = self._batch(request, message)
        except DecodeError:
            raise BrokenMessage(
                "the message is not a StreamReportsRequest; expected the proto of appstats.v1"
            ) from None
        if len(request.client_id) > MAX_CLIENT_ID_CHARACTERS:
            raise BrokenMessage(
                f"client_id has {len(request.client_id)} characters; expected 1 to {MAX_CLIENT_ID_CHARACTERS}"
            )
        return Request(
            client_id=request.client_id,
            sequence=request.sequence,
            batch=batch,
            closing=request.closing,
            dropped_reports=request.dropped_reports,
            digest=digest,
        )

    def _batch(self, sliced: SlicedRequest, message: bytes) -> tuple[Batch | None, int]:
        """The batch and its digest."""
        if not sliced.reports and len(sliced.columns) == 1:
            (columns,) = sliced.columns
            slices = slice_columns(columns)
            if slices is not None and len(slices.app) <= MAX_REPORTS and len(columns) <= MAX_BATCH_BYTES - _FRAME_BYTES:
                return self._of_slices(slices), xxhash.xxh3_64_intdigest(columns)
        if not sliced.reports and not sliced.columns:
            return None, 0
        request = StreamReportsRequest.FromString(message)
        batch = self._of_request(request)
        return batch, 0 if batch is None else _digest(request)

    def _of_slices(self, slices: Slices) -> Batch:
        most = int(slices.app.max())
        if most >= len(slices.apps):
            raise _no_such_app(most, len(slices.apps))
        return Batch(
            apps=self._keys(slices.apps),
            app=slices.app,
            session_ids=slices.session_ids,
            started_ns=slices.started_ns,
            ended_ns=slices.ended_ns,
            requests=slices.requests,
            flawed_ids={},
        )

    def _of_request(self, request: StreamReportsRequest) -> Batch | None:
        columns = request.columns
        count = len(request.reports) + len(columns.app)
        if count > MAX_REPORTS:
            raise BrokenMessage(f"the batch has {count} reports; expected 1 to {MAX_REPORTS}")
        of_columns = self._of_columns(columns)
        if not request.reports:
            return of_columns
        of_reports = _of_reports(list(request.reports))
        return of_reports if of_columns is None else _joined(of_reports, of_columns)

    def _of_columns(self, columns: SessionReportColumns) -> Batch | None:
        count = len(columns.app)
        session_ids = columns.session_ids
        started, ended = columns.session_started_at_unix_nano, columns.session_ended_at_unix_nano
        requests = columns.requests
        if not len(session_ids) / _ID_BYTES == len(started) == len(ended) == len(requests) == count:
            raise BrokenMessage(
                f"the columns of the batch differ in length (app: {count}, session_ids / 16: "
                f"{len(session_ids) / _ID_BYTES:g}, session_started_at_unix_nano: {len(started)}, "
                f"session_ended_at_unix_nano: {len(ended)}, requests: {len(requests)}); expected one length for all"
            )
        if not count:
            return None
        app = np.array(columns.app, np.int64)
        if int(app.max()) >= len(columns.apps):
            raise _no_such_app(int(app.max()), len(columns.apps))
        return Batch(
            apps=self._keys([app.SerializeToString() for app in columns.apps]),
            app=app,
            session_ids=np.frombuffer(session_ids, "V16"),
            started_ns=np.array(started, np.uint64),
            ended_ns=np.array(ended, np.uint64),
            requests=np.array(requests, np.uint32),
            flawed_ids={},
        )

    def _keys(self, spelled: Sequence[bytes]) -> list[AppKey | ReportedApp]:
        """The app of each serialized App; raises DecodeError where it is none."""
        keys: list[AppKey | ReportedApp | None] = list(map(self._apps.get, spelled))
        for place, key in enumerate(keys) if None in keys else ():
            if key is None:
                keys[place] = self._learn(spelled[place])
        return cast(list[AppKey | ReportedApp], keys)

    def _learn(self, spelled: bytes) -> AppKey | ReportedApp:
        checked = checked_app(_reported_app(App.FromString(spelled)))
        if not isinstance(checked, ReportedApp):
            if len(self._apps) >= _APPS_REMEMBERED:
                self._apps.clear()
            self._apps[spelled] = checked
        return checked


def _no_such_app(place: int, apps: int) -> BrokenMessage:
    return BrokenMessage(f"a report of the batch names app {place}; expected a place in apps, which has {apps}")


def _of_reports(reports: list[SessionReport]) -> Batch:
    count = len(reports)
    ids = [report.session_id for report in reports]
    flawed = {place: session_id for place, session_id in enumerate(ids) if len(session_id) != _ID_BYTES}
    for place in flawed:
        ids[place] = bytes(_ID_BYTES)
    return Batch(
        apps=[checked_app(_reported_app(report)) for report in reports],
        app=np.arange(count),
        session_ids=np.frombuffer(b"".join(ids), "V16"),
        started_ns=np.array([report.session_started_at_unix_nano for report in reports], np.uint64),
        ended_ns=np.array([report.session_ended_at_unix_nano for report in reports], np.uint64),
        requests=np.array([report.requests for report in reports], np.uint32),
        flawed_ids=flawed,
    )


def _reported_app(app: App | SessionReport) -> ReportedApp:
    return ReportedApp(app.user_id, app.workspace_id, app.agent_id, app.access_method, app.slug_or_port)


def _joined(first: Batch, second: Batch) -> Batch:
    return Batch(
        apps=first.apps + second.apps,
        app=np.concatenate([first.app, second.app + len(first.apps)]),
        session_ids=np.concatenate([first.session_ids, second.session_ids]),
        started_ns=np.concatenate([first.started_ns, second.started_ns]),
        ended_ns=np.concatenate([first.ended_ns, second.ended_ns]),
        requests=np.concatenate([first.requests, second.requests]),
        flawed_ids=first.flawed_ids,
    )


def _digest(request: StreamReportsRequest) -> int:
    """Takes the message apart: nothing may be read from it afterwards."""
    # What is left is the content of the batch, in one spelling, whatever the message around it said.
    for field in ("client_id", "sequence", "closing", "dropped_reports"):
        request.ClearField(field)
    if len(UnknownFieldSet(request)):  # what a later version says beside the batch
        request.DiscardUnknownFields()
    content = request.SerializeToString(deterministic=True)
    if len(content) > MAX_BATCH_BYTES:
        raise BrokenMessage(f"the batch is {len(content)} bytes serialized; expected at most {MAX_BATCH_BYTES} (4 MiB)")
    return xxhash.xxh3_64_intdigest(content)
