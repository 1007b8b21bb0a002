"""What is wrong with this report alone? SPEC section 1, in the order in which it lists the reasons."""

from __future__ import annotations

from typing import Final

from appstatsd.collect.batch import Reason
from appstatsd.collect.rules import Rules

from tests.support.reports import TERMINAL, Report

EARLIEST_START: Final = 1_577_836_800_000_000
"""2020-01-01T00:00:00Z, in microseconds since the Unix epoch."""
NIL: Final = bytes(16)


def flaw(report: Report, wall: int, rules: Rules) -> Reason | None:
    """The first flaw of a report that came when the daemon's clock said `wall` (microseconds); None if it has none."""
    app = report.app
    # "16 bytes each, a UUID in network order, not nil".
    for one in (app.user_id, app.workspace_id, app.agent_id, report.session_id):
        if len(one) != 16 or one == NIL:
            return Reason.INVALID_ID
    # "ACCESS_METHOD_PATH = 1, ACCESS_METHOD_SUBDOMAIN = 2, ACCESS_METHOD_TERMINAL = 3".
    if app.access_method not in (1, 2, 3):
        return Reason.INVALID_ACCESS_METHOD
    # "1-256 characters, may be empty only for terminals; no NUL".
    if not app.slug_or_port and app.access_method != TERMINAL:
        return Reason.INVALID_SLUG_OR_PORT
    if len(app.slug_or_port) > 256 or "\0" in app.slug_or_port:
        return Reason.INVALID_SLUG_OR_PORT
    # "Times are UTC and are cut to microseconds on acceptance, before anything compares them."
    start, end = report.started_ns // 1000, report.ended_ns // 1000
    latest = wall + rules.max_clock_skew_us
    # "no start; a start before 2020-01-01"; "start or end more than --max-clock-skew ahead of the daemon's clock".
    if start < EARLIEST_START or start > latest:
        return Reason.INVALID_TIME
    if report.ended_ns == 0:
        # Rule 6: a live session older than --max-session-age "is not reported live again (INVALID_TIME)".
        return Reason.INVALID_TIME if wall - start > rules.max_session_age_us else None
    # "end before start"; "longer than --max-session-age".
    if end < start or end > latest or end - start > rules.max_session_age_us:
        return Reason.INVALID_TIME
    return None
