"""What goes out under one number? A batch of reports as columns.

Invariant: the content of a batch never changes after it was cut, whatever happens to its sessions; only its number does,
and only when it is sent under another client_id.
"""

from __future__ import annotations

from collections.abc import Sequence

from appstatsd_client.app import App
from appstatsd_client.report import Report
from appstatsd_client.wire.appstats.v1 import appstats_pb2 as pb


def columns(reports: Sequence[Report]) -> pb.SessionReportColumns:
    """The reports as columns, each distinct app once."""
    places: dict[App, int] = {}
    app = [places.setdefault(report.app, len(places)) for report in reports]
    return pb.SessionReportColumns(
        apps=[
            pb.App(
                user_id=app.user_id,
                workspace_id=app.workspace_id,
                agent_id=app.agent_id,
                access_method=f"ACCESS_METHOD_{app.access_method.name}",
                slug_or_port=app.slug_or_port,
            )
            for app in places
        ],
        app=app,
        session_ids=b"".join([report.session_id for report in reports]),
        session_started_at_unix_nano=[report.started_ns for report in reports],
        session_ended_at_unix_nano=[report.ended_ns for report in reports],
        requests=[report.requests for report in reports],
    )


class Batch:
    """Reports that were put together under a number and wait for its acknowledgement."""

    __slots__ = ("columns", "ends", "number", "reports")

    def __init__(self, number: int, reports: list[Report]) -> None:
        self.number = number
        self.reports = reports
        """Whose state it holds, in the order of its columns."""
        self.ends = [report for report in reports if report.ended_ns]
        """Those whose end is in it; the others may have ended since."""
        self.columns = columns(reports)

    def message(self, dropped_reports: int) -> bytes:
        """The message that carries it."""
        return pb.StreamReportsRequest(
            sequence=self.number, columns=self.columns, dropped_reports=dropped_reports
        ).SerializeToString()
