"""Which reports of a batch can be accepted, and what is wrong with the others?

What a report says of itself is judged here, against the clock at its arrival; whether it contradicts what is known of
its session is the collector's question. Invariant: a report that passes has the times, in microseconds, and the app
that the collector holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from appstatsd.collect.apps import METHODS, AppKey, app_key
from appstatsd.collect.batch import Reason, Rejection, ReportedApp
from appstatsd.collect.columns import Ints, Mask
from appstatsd.collect.rows import MAX_REQUESTS
from appstatsd.collect.rules import SECOND_US, Rules

MAX_SLUG_CHARACTERS: Final = 256
EARLIEST_START_US: Final = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp()) * SECOND_US
_NIL: Final = bytes(16)
_NS_PER_US: Final = np.uint64(1000)
_MOST_REQUESTS: Final = np.uint32(MAX_REQUESTS)


@dataclass(frozen=True, slots=True)
class Reports:
    """All reports of a drain, one batch after another, as they came."""

    apps: list[AppKey | ReportedApp]
    app: Ints
    session_ids: npt.NDArray[np.void]
    started_ns: npt.NDArray[np.uint64]
    ended_ns: npt.NDArray[np.uint64]
    requests: npt.NDArray[np.uint32]
    flawed_ids: dict[int, bytes]
    wall_us: Ints
    """For each report, the daemon's clock when it came."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of the reports, each looked at on its own."""

    keys: list[AppKey]
    """By place of an app; of no meaning for one that is not valid."""
    started_us: Ints
    ended_us: Ints
    requests: npt.NDArray[np.int32]
    accepted: Mask
    """Which reports can be accepted."""
    rejections: list[Rejection]
    """The others, in their order; the index is the place among all reports."""
    lost_ends: list[int]
    """Places of the reports that were rejected for their times and tell of an end."""


def check(reports: Reports, rules: Rules) -> Checked:
    """Look at each report."""
    keys, flaws = _check_apps(reports.apps)
    started_us = (reports.started_ns // _NS_PER_US).view(np.int64)
    ended_us = (reports.ended_ns // _NS_PER_US).view(np.int64)
    live = reports.ended_ns == 0
    latest = reports.wall_us + rules.max_clock_skew_us
    until = np.where(live, reports.wall_us, ended_us)
    bad_time = (
        (started_us < EARLIEST_START_US)
        | (started_us > latest)
        | (ended_us > latest)
        | (~live & (ended_us < started_us))
        | (until - started_us > rules.max_session_age_us)
    )
    halves = reports.session_ids.view(np.uint64)
    bad_id = (halves[::2] | halves[1::2]) == 0
    bad = bad_id | bad_time
    if flaws:
        flawed = np.zeros(len(reports.apps), np.bool_)
        flawed[list(flaws)] = True
        bad |= flawed[reports.app]
    checked = Checked(
        keys=keys,
        started_us=started_us,
        ended_us=ended_us,
        requests=np.minimum(reports.requests, _MOST_REQUESTS).view(np.int32),
        accepted=~bad,
        rejections=[],
        lost_ends=[],
    )
    for place in np.flatnonzero(bad).tolist():
        flaw = flaws.get(int(reports.app[place]))
        if bad_id[place] and (flaw is None or flaw[0] is not Reason.INVALID_ID):
            flaw = Reason.INVALID_ID, _id_flaw("session_id", reports.flawed_ids.get(place, _NIL))
        if flaw is None:
            started_ns, ended_ns = int(reports.started_ns[place]), int(reports.ended_ns[place])
            flaw = Reason.INVALID_TIME, _time_flaw(started_ns, ended_ns, int(reports.wall_us[place]), rules)
            if ended_ns:
                checked.lost_ends.append(place)
        checked.rejections.append(Rejection(place, *flaw))
    return checked


def checked_app(app: ReportedApp) -> AppKey | ReportedApp:
    """The app by its key, where nothing is wrong with it."""
    if _app_flaw(app) is not None:
        return app
    return app_key(app.user_id, app.workspace_id, app.agent_id, app.access_method, app.slug_or_port)


def _check_apps(apps: list[AppKey | ReportedApp]) -> tuple[list[AppKey], dict[int, tuple[Reason, str]]]:
    if ReportedApp not in set(map(type, apps)):
        return cast(list[AppKey], apps), {}
    keys: list[AppKey] = []
    flaws: dict[int, tuple[Reason, str]] = {}
    for place, app in enumerate(apps):
        checked = checked_app(app) if isinstance(app, ReportedApp) else app
        if isinstance(checked, ReportedApp):
            flaw = _app_flaw(checked)
            assert flaw is not None, "what has no flaw has a key"
            flaws[place] = flaw
            checked = AppKey(b"")
        keys.append(checked)
    return keys, flaws


def _app_flaw(app: ReportedApp) -> tuple[Reason, str] | None:
    for name, value in (("user_id", app.user_id), ("workspace_id", app.workspace_id), ("agent_id", app.agent_id)):
        if len(value) != len(_NIL) or value == _NIL:
            return Reason.INVALID_ID, _id_flaw(name, value)
    if not 0 < app.access_method < len(METHODS):
        allowed = "1 (path), 2 (subdomain) or 3 (terminal)"
        return Reason.INVALID_ACCESS_METHOD, f"access_method is {app.access_method}; allowed: {allowed}"
    slug = app.slug_or_port
    if not slug:
        if METHODS[app.access_method] != "terminal":
            return Reason.INVALID_SLUG_OR_PORT, "slug_or_port is empty; only a terminal's may be"
    elif len(slug) > MAX_SLUG_CHARACTERS:
        shown = f"{slug[:32]!r}... has {len(slug)} characters"
        return Reason.INVALID_SLUG_OR_PORT, f"slug_or_port {shown}; allowed: at most {MAX_SLUG_CHARACTERS}"
    elif "\0" in slug:
        return (
            Reason.INVALID_SLUG_OR_PORT,
            f"slug_or_port {slug[:64]!r} holds a NUL character; allowed: text without one",
        )
    return None


def _id_flaw(name: str, value: bytes) -> str:
    if len(value) != len(_NIL):
        shown = value[:16].hex() + ("..." if len(value) > len(_NIL) else "")
        return f"{name} has {len(value)} bytes ({shown or 'empty'}); allowed: the 16 bytes of a UUID in network order"
    return f"{name} is nil (or was not 16 bytes long); allowed: the 16 bytes of a UUID that is not nil"


def _time_flaw(started_ns: int, ended_ns: int, wall_us: int, rules: Rules) -> str:
    started, ended = "session_started_at_unix_nano", "session_ended_at_unix_nano"
    started_us, ended_us = started_ns // 1000, ended_ns // 1000
    skew = rules.max_clock_skew_us
    if not started_ns:
        return f"{started} is 0; every report has the start of its session"
    if started_us < EARLIEST_START_US:
        return (
            f"{started} {started_ns} is {_shown(started_us)}; allowed: nothing before 2020-01-01. "
            "The unit is nanoseconds since 1970-01-01 UTC"
        )
    for name, value in ((started, started_us), (ended, ended_us)):
        if value > wall_us + skew:
            return (
                f"{name} {_shown(value)} is {(value - wall_us) / SECOND_US:.0f} s ahead of the daemon's clock; "
                f"allowed: {skew / SECOND_US:.0f} s. Compare the clocks of the two"
            )
    if ended_ns and ended_us < started_us:
        return f"{ended} {_shown(ended_us)} is before {started} {_shown(started_us)}; allowed: not before the start"
    age = (ended_us if ended_ns else wall_us) - started_us
    return (
        f"the session has lasted {age / SECOND_US:.0f} s since {started} {_shown(started_us)}; "
        f"allowed: {rules.max_session_age_us / SECOND_US:.0f} s"
    )


def _shown(time_us: int) -> str:
    try:
        return datetime.fromtimestamp(time_us / SECOND_US, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"({time_us} µs, a year out of range)"
