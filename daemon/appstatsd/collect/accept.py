"""What do newly arrived reports change?

All reports of a drain are put together and merged in one pass. Invariant: the outcome is that of merging them one by
one in their order. What depends on the order in a way that a pass cannot keep, a rejected end between two reports of one
session, cuts the pass in two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from appstatsd.collect.apps import AGENT, METHOD, SLUG, USER, WORKSPACE, AppKey, access_method, slug_or_port
from appstatsd.collect.batch import Arrival, Batch, Reason, Rejection, ReportedApp
from appstatsd.collect.columns import Ints, Mask, distinct, tally
from appstatsd.collect.sessions import INFERRED
from appstatsd.collect.state import State
from appstatsd.collect.validate import Checked, Reports, check

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class _Valid:
    """Reports that are valid on their own."""

    keys: list[AppKey]
    app: Ints
    session_ids: npt.NDArray[np.void]
    started_us: Ints
    ended_us: Ints
    requests: npt.NDArray[np.int32]
    arrival: Ints
    """Which of the arrivals each came with."""
    place: Ints
    """Its place among all reports of the pass."""

    def part(self, choice: slice | Mask) -> _Valid:
        return _Valid(
            self.keys,
            self.app[choice],
            self.session_ids[choice],
            self.started_us[choice],
            self.ended_us[choice],
            self.requests[choice],
            self.arrival[choice],
            self.place[choice],
        )


@dataclass(frozen=True, slots=True)
class _Senders:
    """By the place of an arrival, who sent it and when."""

    client: npt.NDArray[np.int32]
    wall_us: Ints
    patience_us: Ints


@dataclass(frozen=True, slots=True)
class _LostEnd:
    """An end that was rejected for its time, and still says that its session is over."""

    position: int
    """How many of the pass's valid reports come before it; 0 where none of them is of its session."""
    session_id: bytes
    app: AppKey
    wall_us: int


def accept(state: State, arrivals: Sequence[Arrival]) -> list[list[Rejection]]:
    """Merge all reports of the arrivals; for each arrival the reports that were rejected, by their places."""
    senders = _Senders(
        np.array([_client_number(state, arrival) for arrival in arrivals], np.int32),
        np.array([arrival.wall_us for arrival in arrivals], np.int64),
        np.array([state.patience_us(arrival.mono_us) for arrival in arrivals], np.int64),
    )
    lengths = [len(arrival.batch) for arrival in arrivals]
    arrival = np.repeat(np.arange(len(arrivals)), lengths)
    reports = _join([each.batch for each in arrivals], senders.wall_us[arrival])
    checked = check(reports, state.rules)
    valid = _Valid(
        checked.keys,
        reports.app,
        reports.session_ids,
        checked.started_us,
        checked.ended_us,
        checked.requests,
        arrival,
        np.arange(len(arrival)),
    )
    rejections = checked.rejections
    if rejections:
        valid = valid.part(checked.accepted)
    begin = 0
    for lost in _lost_ends(reports, checked, valid):
        if lost.position > begin:
            rejections += _merge(state, valid.part(slice(begin, lost.position)), senders)
            begin = lost.position
        _lose_end(state, lost)
    rejections += _merge(state, valid.part(slice(begin, None)) if begin else valid, senders)
    return _by_arrival(rejections, lengths)


def _client_number(state: State, arrival: Arrival) -> int:
    client = state.client(arrival.client_id, arrival.wall_us, arrival.mono_us)
    client.reported = True
    return client.number


def _join(batches: list[Batch], wall_us: Ints) -> Reports:
    apps: list[AppKey | ReportedApp] = []
    app: list[Ints] = []
    flawed_ids: dict[int, bytes] = {}
    offset = 0
    for batch in batches:
        app.append(np.add(batch.app, len(apps), dtype=np.int64))
        apps += batch.apps
        for place, session_id in batch.flawed_ids.items():
            flawed_ids[offset + place] = session_id
        offset += len(batch)
    return Reports(
        apps,
        _chain(app),
        _chain([batch.session_ids for batch in batches]),
        _chain([batch.started_ns for batch in batches]),
        _chain([batch.ended_ns for batch in batches]),
        _chain([batch.requests for batch in batches]).astype(np.uint32, copy=False),
        flawed_ids,
        wall_us,
    )


def _chain(parts: list[npt.NDArray[_Scalar]]) -> npt.NDArray[_Scalar]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _by_arrival(rejections: list[Rejection], lengths: list[int]) -> list[list[Rejection]]:
    """Each with its place in the batch that it came in, which so far is one among all reports."""
    listed: list[list[Rejection]] = [[] for _ in lengths]
    if rejections:
        ends = np.cumsum(lengths)
        for rejection in sorted(rejections, key=lambda each: each.index):
            place = int(np.searchsorted(ends, rejection.index, "right"))
            begin = int(ends[place]) - lengths[place]
            listed[place].append(replace(rejection, index=rejection.index - begin))
    return listed


def _lost_ends(reports: Reports, checked: Checked, valid: _Valid) -> list[_LostEnd]:
    if not checked.lost_ends:
        return []
    reported = set(valid.session_ids.tolist())
    lost: list[_LostEnd] = []
    for place in checked.lost_ends:
        session_id = reports.session_ids[place].tobytes()
        position = int(np.searchsorted(valid.place, place)) if session_id in reported else 0
        app = checked.keys[int(reports.app[place])]
        lost.append(_LostEnd(position, session_id, app, int(reports.wall_us[place])))
    # Those at position 0 touch sessions that no report of this pass is of, so they may come first.
    lost.sort(key=lambda end: end.position)
    return lost


def _lose_end(state: State, lost: _LostEnd) -> None:
    row = state.sessions.find(lost.session_id)
    if row is None or state.sessions.ended_us[row]:
        return
    group = int(state.sessions.group[row])
    if state.groups.apps.keys[int(state.groups.app[group])] == lost.app:
        state.infer_ends(np.array([row]), lost.wall_us)


def _merge(state: State, reports: _Valid, senders: _Senders) -> list[Rejection]:
    """Merge these; the conflicts among them, by their places among all reports."""
    conflicts: list[Rejection] = []
    if not len(reports.app):
        return conflicts
    sessions = state.sessions
    rows, new = sessions.find_or_add(reports.session_ids)
    if new.any():
        _begin(state, rows[new], reports.part(new))
    if not new.all():
        consistent = _consistent(state, rows, reports)
        if not consistent.all():
            conflicts = _conflicts(state, rows[~consistent], reports.part(~consistent))
            rows, new, reports = rows[consistent], new[consistent], reports.part(consistent)
        inferred = sessions.flags[rows] & INFERRED != 0
        if inferred.any():
            state.revive(distinct(rows[inferred]))
    requests, ended = sessions.requests[rows], sessions.ended_us[rows]
    np.maximum.at(sessions.requests, rows, reports.requests)
    np.maximum.at(sessions.ended_us, rows, reports.ended_us)
    changed = new | (sessions.requests[rows] > requests) | (sessions.ended_us[rows] > ended)
    sessions.client[rows] = senders.client[reports.arrival]
    sessions.last_wall_us[rows] = senders.wall_us[reports.arrival]
    sessions.last_report_us[rows] = senders.patience_us[reports.arrival]
    state.touch(rows[changed])
    return conflicts


def _begin(state: State, rows: Ints, reports: _Valid) -> None:
    sessions = state.sessions
    groups = state.groups.find_or_add(reports.keys, reports.app, reports.started_us)
    tally(state.groups.unsettled, groups)
    sessions.group[rows] = groups
    sessions.started_us[rows] = reports.started_us
    sessions.ended_us[rows] = 0
    sessions.requests[rows] = 0
    sessions.counted[rows] = 0
    sessions.flags[rows] = 0


def _consistent(state: State, rows: Ints, reports: _Valid) -> Mask:
    numbers = state.groups.apps.find(reports.keys)
    same_app = state.groups.app[state.sessions.group[rows]] == numbers[reports.app]
    same: Mask = same_app & (state.sessions.started_us[rows] == reports.started_us)
    return same


def _conflicts(state: State, rows: Ints, reports: _Valid) -> list[Rejection]:
    listed = []
    for number, (row, place) in enumerate(zip(rows.tolist(), reports.place.tolist(), strict=True)):
        group = int(state.sessions.group[row])
        message = _conflict(
            reports.session_ids[number].tobytes(),
            state.groups.apps.keys[int(state.groups.app[group])],
            reports.keys[int(reports.app[number])],
            int(state.sessions.started_us[row]),
            int(reports.started_us[number]),
        )
        listed.append(Rejection(place, Reason.CONFLICT, message))
    return listed


def _conflict(session_id: bytes, known: AppKey, told: AppKey, known_start_us: int, told_start_us: int) -> str:
    differences = [
        f"{name} {told[part].hex()} instead of {known[part].hex()}"
        for name, part in (("user_id", USER), ("workspace_id", WORKSPACE), ("agent_id", AGENT))
        if told[part] != known[part]
    ]
    if told[METHOD] != known[METHOD]:
        differences.append(f"access_method {access_method(told)} instead of {access_method(known)}")
    if told[SLUG] != known[SLUG]:
        differences.append(f"slug_or_port {slug_or_port(told)[:64]!r} instead of {slug_or_port(known)[:64]!r}")
    if told_start_us != known_start_us:
        differences.append(f"session_started_at {told_start_us} µs instead of {known_start_us} µs")
    return (
        f"session_id {session_id.hex()} is known with another {'; '.join(differences)}; "
        "what a session is never changes, only its end and its count"
    )
