"""Which reports of a batch can be accepted, and what is wrong with the others?

What a report says of itself is judged here, against the clock at its arrival; whether it contradicts what is known of
its session is the collector's question. Invariant: a report that passes has the times, in microseconds, and the app
that the collector holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from appstatsd.collect.apps import METHODS, AppKey, app_key
from appstatsd.collect.batch import Batch, Reason, Rejection, ReportedApp
from appstatsd.collect.columns import Ints, Mask
from appstatsd.collect.rows import MAX_REQUESTS
from appstatsd.collect.rules import SECOND_US, Rules

MAX_SLUG_CHARACTERS: Final = 256
EARLIEST_START_US: Final = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp()) * SECOND_US
_NIL: Final = bytes(16)


@dataclass(frozen=True, slots=True)
class Checked:
    """A batch whose reports have been looked at one by one."""

    keys: list[AppKey]
    """By the batch's place of an app; of no meaning for an app that is not valid."""
    started_us: Ints
    ended_us: Ints
    requests: npt.NDArray[np.int32]
    accepted: Mask
    """Which reports can be accepted."""
    rejections: list[Rejection]
    """The others, in the order of their places."""
    lost_ends: Ints
    """Places of the reports that were rejected for their times and tell of an end."""


def check(batch: Batch, wall_us: int, rules: Rules) -> Checked:
    """Look at each report of `batch`, which arrived at `wall_us`."""
    keys, flaws = _check_apps(batch.apps)
    started_us = (batch.started_ns // np.uint64(1000)).astype(np.int64)
    ended_us = (batch.ended_ns // np.uint64(1000)).astype(np.int64)
    live = batch.ended_ns == 0
    latest = wall_us + rules.max_clock_skew_us
    until = np.where(live, wall_us, ended_us)
    bad_time = (
        (started_us < EARLIEST_START_US)
        | (started_us > latest)
        | (ended_us > latest)
        | (~live & (ended_us < started_us))
        | (until - started_us > rules.max_session_age_us)
    )
    halves = batch.session_ids.view(np.uint64).reshape(-1, 2)
    bad_id = (halves[:, 0] | halves[:, 1]) == 0
    bad = bad_id | bad_time
    if flaws:
        flawed = np.zeros(len(batch.apps), np.bool_)
        flawed[list(flaws)] = True
        bad |= flawed[batch.app]
    rejections: list[Rejection] = []
    lost_ends: list[int] = []
    for index in np.flatnonzero(bad).tolist():
        flaw = flaws.get(int(batch.app[index]))
        if flaw is not None and (flaw[0] is Reason.INVALID_ID or not bad_id[index]):
            rejections.append(Rejection(index, *flaw))
        elif bad_id[index]:
            rejections.append(
                Rejection(index, Reason.INVALID_ID, _id_flaw("session_id", batch.flawed_ids.get(index, _NIL)))
            )
        else:
            message = _time_flaw(int(batch.started_ns[index]), int(batch.ended_ns[index]), wall_us, rules)
            rejections.append(Rejection(index, Reason.INVALID_TIME, message))
            if not live[index]:
                lost_ends.append(index)
    return Checked(
        keys=keys,
        started_us=started_us,
        ended_us=ended_us,
        requests=np.minimum(batch.requests, np.uint32(MAX_REQUESTS)).astype(np.int32),
        accepted=~bad,
        rejections=rejections,
        lost_ends=np.array(lost_ends, np.int64),
    )


def _check_apps(apps: list[ReportedApp]) -> tuple[list[AppKey], dict[int, tuple[Reason, str]]]:
    keys: list[AppKey] = []
    flaws: dict[int, tuple[Reason, str]] = {}
    for place, app in enumerate(apps):
        flaw = _app_flaw(app)
        if flaw is None:
            keys.append(app_key(app.user_id, app.workspace_id, app.agent_id, app.access_method, app.slug_or_port))
        else:
            keys.append(AppKey(b""))
            flaws[place] = flaw
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
