"""What do newly arrived reports change?

All reports of a drain are put together and merged in one pass. Invariant: the outcome is that of merging them one by
one in their order. What depends on the order in a way that a pass cannot keep, a rejected end between two reports of one
session, cuts the pass in two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from appstatsd.collect.apps import AGENT, METHOD, SLUG, USER, WORKSPACE, AppKey, access_method, slug_or_port
from appstatsd.collect.batch import Arrival, Reason, Rejection
from appstatsd.collect.columns import Ints, Mask
from appstatsd.collect.sessions import INFERRED
from appstatsd.collect.state import State
from appstatsd.collect.validate import Checked, check

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class _Reports:
    """Reports that are valid on their own, of any number of arrivals."""

    keys: list[AppKey]
    app: Ints
    session_ids: npt.NDArray[np.void]
    started_us: Ints
    ended_us: Ints
    requests: npt.NDArray[np.int32]
    arrival: Ints
    """The place of its arrival."""
    index: Ints
    """Its place in its batch."""

    def part(self, choice: slice | Mask) -> _Reports:
        return _Reports(
            self.keys,
            self.app[choice],
            self.session_ids[choice],
            self.started_us[choice],
            self.ended_us[choice],
            self.requests[choice],
            self.arrival[choice],
            self.index[choice],
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
    checked = [check(arrival.batch, arrival.wall_us, state.rules) for arrival in arrivals]
    reports = _join(arrivals, checked)
    senders = _Senders(
        np.array([_client_number(state, arrival) for arrival in arrivals], np.int32),
        np.array([arrival.wall_us for arrival in arrivals], np.int64),
        np.array([state.patience_us(arrival.mono_us) for arrival in arrivals], np.int64),
    )
    rejections = [part.rejections for part in checked]
    begin = 0
    for lost in _lost_ends(arrivals, checked, reports):
        if lost.position > begin:
            _merge(state, reports.part(slice(begin, lost.position)), senders, rejections)
            begin = lost.position
        _lose_end(state, lost)
    _merge(state, reports.part(slice(begin, None)) if begin else reports, senders, rejections)
    for listed in rejections:
        listed.sort(key=_index_of)
    return rejections


def _index_of(rejection: Rejection) -> int:
    return rejection.index


def _client_number(state: State, arrival: Arrival) -> int:
    client = state.client(arrival.client_id, arrival.wall_us, arrival.mono_us)
    client.reported = True
    return client.number


def _join(arrivals: Sequence[Arrival], checked: Sequence[Checked]) -> _Reports:
    keys: list[AppKey] = []
    apps: list[Ints] = []
    for arrival, part in zip(arrivals, checked, strict=True):
        apps.append(arrival.batch.app + len(keys))
        keys += part.keys
    lengths = [len(arrival.batch) for arrival in arrivals]
    reports = _Reports(
        keys,
        _chain(apps),
        _chain([arrival.batch.session_ids for arrival in arrivals]),
        _chain([part.started_us for part in checked]),
        _chain([part.ended_us for part in checked]),
        _chain([part.requests for part in checked]),
        np.repeat(np.arange(len(arrivals)), lengths),
        _chain([np.arange(length) for length in lengths]),
    )
    if any(part.rejections for part in checked):
        return reports.part(_chain([part.accepted for part in checked]))
    return reports


def _chain(parts: list[npt.NDArray[_Scalar]]) -> npt.NDArray[_Scalar]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _lost_ends(arrivals: Sequence[Arrival], checked: Sequence[Checked], reports: _Reports) -> list[_LostEnd]:
    if not any(len(part.lost_ends) for part in checked):
        return []
    reported = set(reports.session_ids.tolist())
    lost: list[_LostEnd] = []
    for place, (arrival, part) in enumerate(zip(arrivals, checked, strict=True)):
        batch = arrival.batch
        for index in part.lost_ends.tolist():
            session_id = batch.session_ids[index].tobytes()
            position = 0
            if session_id in reported:
                before = (reports.arrival < place) | ((reports.arrival == place) & (reports.index < index))
                position = int(np.count_nonzero(before))
            lost.append(_LostEnd(position, session_id, part.keys[int(batch.app[index])], arrival.wall_us))
    # Those at position 0 touch sessions that no report of this pass is of, so they may come first.
    lost.sort(key=lambda end: end.position)
    return lost


def _lose_end(state: State, lost: _LostEnd) -> None:
    row = state.sessions.index.get(lost.session_id)
    if row is None or state.sessions.ended_us[row]:
        return
    group = int(state.sessions.group[row])
    if state.groups.apps.keys[int(state.groups.app[group])] == lost.app:
        state.infer_ends(np.array([row]), lost.wall_us)


def _merge(state: State, reports: _Reports, senders: _Senders, rejections: list[list[Rejection]]) -> None:
    if not len(reports.app):
        return
    sessions = state.sessions
    rows, new = sessions.find_or_add(reports.session_ids)
    if new.any():
        _begin(state, rows[new], reports.part(new))
    if not new.all():
        consistent = _consistent(state, rows, reports)
        if not consistent.all():
            _list_conflicts(state, rows[~consistent], reports.part(~consistent), rejections)
            rows, new, reports = rows[consistent], new[consistent], reports.part(consistent)
        inferred = sessions.flags[rows] & INFERRED != 0
        if inferred.any():
            state.revive(np.unique(rows[inferred]))
    requests, ended = sessions.requests[rows], sessions.ended_us[rows]
    np.maximum.at(sessions.requests, rows, reports.requests)
    np.maximum.at(sessions.ended_us, rows, reports.ended_us)
    changed = new | (sessions.requests[rows] > requests) | (sessions.ended_us[rows] > ended)
    sessions.client[rows] = senders.client[reports.arrival]
    sessions.last_wall_us[rows] = senders.wall_us[reports.arrival]
    sessions.last_report_us[rows] = senders.patience_us[reports.arrival]
    state.touch(rows[changed])


def _begin(state: State, rows: Ints, reports: _Reports) -> None:
    sessions = state.sessions
    groups = state.groups.find_or_add(reports.keys, reports.app, reports.started_us)
    np.add.at(state.groups.unsettled, groups, 1)
    sessions.group[rows] = groups
    sessions.started_us[rows] = reports.started_us
    sessions.ended_us[rows] = 0
    sessions.requests[rows] = 0
    sessions.counted[rows] = 0
    sessions.flags[rows] = 0


def _consistent(state: State, rows: Ints, reports: _Reports) -> Mask:
    known = state.groups.apps.numbers
    numbers = np.array([known.get(key, -1) for key in reports.keys], np.int64)
    same_app = state.groups.app[state.sessions.group[rows]] == numbers[reports.app]
    same: Mask = same_app & (state.sessions.started_us[rows] == reports.started_us)
    return same


def _list_conflicts(state: State, rows: Ints, reports: _Reports, rejections: list[list[Rejection]]) -> None:
    for place, (row, arrival, index) in enumerate(
        zip(rows.tolist(), reports.arrival.tolist(), reports.index.tolist(), strict=True)
    ):
        group = int(state.sessions.group[row])
        known = state.groups.apps.keys[int(state.groups.app[group])]
        message = _conflict(
            reports.session_ids[place].tobytes(),
            known,
            reports.keys[int(reports.app[place])],
            int(state.sessions.started_us[row]),
            int(reports.started_us[place]),
        )
        rejections[arrival].append(Rejection(index, Reason.CONFLICT, message))


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
