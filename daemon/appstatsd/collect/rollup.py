"""Which rows follow from what the collector holds, at a given time?

A flush looks at the sessions that changed, at those that have become long, and at live long ones, and at no other.
Invariant: after it every ended session that it saw is settled, in its group's rolled-up row or in a row of its own.

A flush of very many may come in parts, so that nobody waits for the whole: what the later parts look at may have changed
meanwhile, and is taken as it is then. A part ends at a place in the order of acceptance, not after a number of sessions:
after a recovery a flush may look at more of them, of which no row follows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from appstatsd.collect import presence
from appstatsd.collect.columns import Ints, Mask, distinct, tally
from appstatsd.collect.rows import CELLS, MAX_REQUESTS, EndSource, Rows
from appstatsd.collect.sessions import INFERRED, OWN, QUEUED, SETTLED, TOUCHED, WAITING
from appstatsd.collect.state import State

ALL: Final = (1 << 63) - 1
"""Where the last part of a flush ends."""

_SPARSE: Final = 16
"""How many places in the order of acceptance there may be to a session, to put them in order by a table of all places."""


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a flush made."""

    rows: Rows
    now_us: int
    """The time that the flush took for now."""
    stepped_back_us: int
    """How far the clock stepped back since the last flush, where that was followed; else 0."""


def flush(state: State, now_us: int, mono_us: int, until: int) -> Flushed:
    """Roll up at `now_us`, and forget what need not be remembered any longer.

    Sessions from `until` on, in the order of acceptance, wait for `go_on`.
    """
    stepped_back_us = max(0, state.last_now_us - now_us)
    if stepped_back_us <= state.rules.max_clock_skew_us:
        now_us += stepped_back_us
        stepped_back_us = 0
    state.last_now_us = now_us
    presence.run_time_outs(state, mono_us)
    _queue_candidates(state, now_us)
    return Flushed(_next_part(state, now_us, until), now_us, stepped_back_us)


def go_on(state: State, until: int) -> Flushed:
    """The next part of the flush that is under way, at its time."""
    return Flushed(_next_part(state, state.last_now_us, until), state.last_now_us, 0)


def candidates(state: State, now_us: int) -> int:
    """About how many sessions a flush would look at."""
    return sum(map(len, (*state.touched, *state.long, state.queue))) + state.young.most_due(now_us)


def part_end(state: State, most: int) -> int:
    """Where the next part ends that looks at no more than `most` sessions."""
    return int(state.sessions.order[state.queue[most]]) if most < len(state.queue) else ALL


def _next_part(state: State, now_us: int, until: int) -> Rows:
    order = state.sessions.order
    count = bisect_left(cast(Sequence[int], state.queue), until, key=order.__getitem__)
    rows, state.queue = state.queue[:count], state.queue[count:]
    state.sessions.flags[rows] &= ~np.uint8(QUEUED)
    seen = _look(state, rows, now_us)
    _wait_or_stay(state, seen)
    _settle(state, seen, now_us)
    made = Rows.join([_own_rows(state, seen, now_us), _rolled_up_rows(state, _roll_up(state, seen), now_us)])
    if until == ALL:
        _forget_groups(state, now_us)
    return made


@dataclass(frozen=True, slots=True)
class _Seen:
    """The sessions that a flush looks at, by row number, and what each of them is."""

    rows: Ints
    group: Ints
    young: Mask
    """Live, and began at most one window ago."""
    long: Mask
    """Live, and began longer ago."""
    short: Mask
    """Ended, not settled yet, and for the rolled-up row."""
    apart: Mask
    """Ended, not settled yet, and for a row of its own."""
    again: Mask
    """Settled before, and changed since."""
    own: Mask
    """Has been a row of its own."""


def _queue_candidates(state: State, now_us: int) -> None:
    sessions = state.sessions
    grown = state.young.take(now_us)
    sessions.flags[grown] &= ~np.uint8(WAITING)
    # One that ended while it waited is settled by now, and need not be looked at again.
    grown = grown[sessions.flags[grown] & SETTLED == 0]
    rows = _in_order(sessions.order, np.concatenate([*state.touched, grown, *state.long, state.queue]))
    age_us = state.rules.max_session_age_us
    here = state.clients.here[sessions.client[rows]]
    aged = rows[here & (sessions.ended_us[rows] == 0) & (now_us - sessions.started_us[rows] > age_us)]
    state.infer_ends(aged, sessions.started_us[aged] + age_us)
    state.touched, state.long = [], []
    sessions.flags[rows] &= ~np.uint8(TOUCHED)
    sessions.flags[rows] |= QUEUED
    state.queue = rows


def _in_order(order: Ints, rows: Ints) -> Ints:
    """Each row once, in the order of acceptance: the first of a group gives its row the id."""
    if not len(rows):
        return rows
    places = order[rows]
    places -= places.min()
    span = int(places.max()) + 1
    if span > _SPARSE * len(rows):  # some are much older than the others
        rows = distinct(rows)
        return rows[np.argsort(order[rows])]
    table = np.full(span, -1)  # which is several times as quick as sorting
    table[places] = rows
    return table[table >= 0]


def _look(state: State, rows: Ints, now_us: int) -> _Seen:
    sessions = state.sessions
    group = sessions.group[rows].astype(np.int64)
    window_us = state.groups.window_us[group]
    started_us, ended_us, flags = sessions.started_us[rows], sessions.ended_us[rows], sessions.flags[rows]
    live = ended_us == 0
    young = live & (now_us - started_us <= window_us)
    settled = flags & SETTLED != 0
    ended = ~live & ~settled
    short = ended & (ended_us - started_us <= window_us) & (flags & (OWN | INFERRED) == 0)
    return _Seen(rows, group, young, live & ~young, short, ended & ~short, settled, flags & OWN != 0)


def _wait_or_stay(state: State, seen: _Seen) -> None:
    sessions = state.sessions
    state.long.append(seen.rows[seen.long])
    waiting = seen.young & (sessions.flags[seen.rows] & WAITING == 0)
    rows = seen.rows[waiting]
    if len(rows):
        wait_us = np.minimum(state.groups.window_us[seen.group[waiting]], state.rules.max_session_age_us)
        sessions.flags[rows] |= WAITING
        state.young.add(sessions.started_us[rows] + wait_us, rows)


def _settle(state: State, seen: _Seen, now_us: int) -> None:
    sessions, groups = state.sessions, state.groups
    settling = seen.short | seen.apart
    rows, group = seen.rows[settling], seen.group[settling]
    if not len(rows):
        return
    sessions.flags[rows] |= SETTLED
    tally(groups.unsettled, group, -1)
    pinned = group[(sessions.flags[rows] & INFERRED != 0) & (sessions.client[rows] >= 0)]
    tally(groups.pinned, pinned)
    settled = distinct(group)
    groups.settled_us[settled] = np.maximum(groups.settled_us[settled], now_us)
    state.list_idle(settled)


def _own_rows(state: State, seen: _Seen, now_us: int) -> Rows:
    sessions = state.sessions
    here = np.zeros(len(seen.rows), np.bool_)
    here[seen.long] = state.clients.here[sessions.client[seen.rows[seen.long]]]
    places = np.flatnonzero(here | seen.apart | (seen.again & seen.own))
    # In the order of acceptance: which row number a session got depends on how drains were cut, and what the outbox
    # numbers must not. Mostly that is the order of the rows already, which a stable sort is quick with.
    chosen = places[np.argsort(sessions.order[seen.rows[places]], kind="stable")]
    rows = seen.rows[chosen]
    sessions.flags[rows] |= OWN
    cells = np.empty(len(rows), CELLS)
    live = seen.long[chosen]
    until_us = np.where(state.time_outs_us(sessions.client[rows]), sessions.last_wall_us[rows], now_us)
    cells["session_id"] = sessions.session_id[rows]
    cells["started_us"] = sessions.started_us[rows]
    cells["ended_us"] = np.where(live, np.maximum(until_us, sessions.started_us[rows]), sessions.ended_us[rows])
    cells["requests"] = sessions.requests[rows]
    cells["sessions"] = 1
    inferred = sessions.flags[rows] & INFERRED != 0
    cells["end_source"] = np.where(live, EndSource.LIVE, np.where(inferred, EndSource.INFERRED, EndSource.REPORTED))
    cells["made_us"] = now_us
    return Rows(state.groups.keys_of(seen.group[chosen]), cells)


def _roll_up(state: State, seen: _Seen) -> Ints:
    """Add short sessions, and what came later of those rolled up before, to their groups; the groups that changed."""
    sessions, groups = state.sessions, state.groups
    short, short_group = seen.rows[seen.short], seen.group[seen.short]
    if len(short):
        order = np.argsort(sessions.order[short])
        first_group, first = np.unique(short_group[order], return_index=True)
        first_row = short[order[first]]
        fresh = groups.sessions[first_group] == 0
        groups.first_session_id[first_group[fresh]] = sessions.session_id[first_row[fresh]]
        tally(groups.sessions, short_group)
    chosen = seen.short | (seen.again & ~seen.own)
    rows, group = seen.rows[chosen], seen.group[chosen]
    more = sessions.requests[rows] - sessions.counted[rows]
    np.add.at(groups.requests, group, more.astype(np.int64))
    sessions.counted[rows] = sessions.requests[rows]
    changed = distinct(group[seen.short[chosen] | (more > 0)])
    # By age and not by number, which depends on what was held when a snapshot was made.
    return changed[np.argsort(groups.order[changed], kind="stable")]


def _rolled_up_rows(state: State, changed: Ints, now_us: int) -> Rows:
    groups = state.groups
    cells = np.empty(len(changed), CELLS)
    cells["session_id"] = groups.first_session_id[changed]
    cells["started_us"] = groups.window_start_us[changed]
    cells["ended_us"] = groups.window_start_us[changed] + groups.window_us[changed]
    cells["requests"] = np.minimum(groups.requests[changed], MAX_REQUESTS)
    cells["sessions"] = np.minimum(groups.sessions[changed], MAX_REQUESTS)
    cells["end_source"] = EndSource.REPORTED
    cells["made_us"] = now_us
    return Rows(groups.keys_of(changed), cells)


def _forget_groups(state: State, now_us: int) -> None:
    sessions, groups = state.sessions, state.groups
    due = distinct(state.idle_groups.take(now_us))
    due = due[groups.held_row[due]]
    over = groups.kept_until_us(due, state.rules.client_grace_us) < now_us
    going = due[over & (groups.unsettled[due] == 0) & (groups.pinned[due] == 0)]
    # A group that was settled into again is due later; one that is not idle is listed anew when it is.
    state.list_idle(due[~over])
    if len(going):
        gone = np.zeros(groups.used, np.bool_)
        gone[going] = True
        held = sessions.held_row[: sessions.used]
        sessions.forget(np.flatnonzero(held & gone[sessions.group[: sessions.used]]))
        groups.forget(going)
