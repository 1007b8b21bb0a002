"""Which clients are there, and what follows for the sessions of those that are not?

A live session lives no longer than whoever reports it (SPEC section 2, rule 6). A client is away while it has no stream.
Invariant: once a client has been away for longer than its grace, none of its sessions is live.
"""

from __future__ import annotations

import numpy as np

from appstatsd.collect.clients import Client
from appstatsd.collect.columns import distinct, tally
from appstatsd.collect.rules import Rules
from appstatsd.collect.sessions import INFERRED, SETTLED
from appstatsd.collect.state import State


def came(state: State, client_id: str, wall_us: int, mono_us: int) -> None:
    """A stream of this client opened."""
    client = state.client(client_id, wall_us, mono_us)
    if _is_overdue(state, client, mono_us):
        _expire(state, [client])
    client.expired = False
    state.clients.set_here(client, True)


def went(state: State, client_id: str, wall_us: int, mono_us: int) -> None:
    """The last stream of this client ended: it is away since now. One that never reported is not remembered."""
    client = state.client(client_id, wall_us, mono_us)
    if not client.reported:
        state.clients.forget(client)
        return
    state.clients.set_here(client, False)
    client.away_wall_us = wall_us
    client.away_since_us = state.patience_us(mono_us)
    client.last_sign_mono_us = mono_us
    client.expired = False


def close_client(state: State, client_id: str, wall_us: int) -> None:
    """The client said its last word: each of its live sessions ends now, as if reported."""
    client = state.clients.get(client_id)
    if client is None:
        return
    sessions = state.sessions
    rows = np.flatnonzero(sessions.live() & (sessions.client[: sessions.used] == client.number))
    sessions.ended_us[rows] = np.maximum(wall_us, sessions.started_us[rows])
    state.touch(rows)


def hold_graces(state: State, mono_us: int) -> None:
    """Streams are refused or held back for lack of room: who is away or silent may not be to blame."""
    if state.held_since_us is None:
        state.held_since_us = mono_us


def release_graces(state: State, mono_us: int) -> None:
    """There is room again; the time without it does not count."""
    if state.held_since_us is not None:
        state.held_us += mono_us - state.held_since_us
        state.held_since_us = None


def restart(state: State, rules: Rules, wall_us: int, mono_us: int, last_wall_us: int) -> None:
    """The daemon is ready again, with these rules; `last_wall_us` is the last moment that the journal knows of.

    Graces and time-outs begin anew, on the monotonic clock of the new process.
    """
    state.rules = rules
    state.groups.change_window(rules.window_us)
    state.held_since_us, state.held_us = None, 0
    for client in state.clients:
        if client.here:
            state.clients.set_here(client, False)
            client.away_wall_us = last_wall_us
        client.away_since_us = mono_us
        client.last_sign_mono_us = mono_us - max(0, wall_us - client.away_wall_us)
    state.sessions.last_report_us[: state.sessions.used] = mono_us
    state.rebuild_lists()


def run_time_outs(state: State, mono_us: int) -> None:
    """Give an inferred end to each live session whose client or whose reports have been away for too long."""
    _expire(state, [client for client in state.clients if _is_overdue(state, client, mono_us)])
    if state.has_time_outs():
        sessions = state.sessions
        client = sessions.client[: sessions.used]
        time_out_us = state.time_outs_us(client)
        silent_us = state.patience_us(mono_us) - sessions.last_report_us[: sessions.used]
        over = (time_out_us > 0) & (silent_us > time_out_us)
        rows = np.flatnonzero(sessions.live() & state.clients.here[client] & over)
        state.infer_ends(rows, sessions.last_wall_us[rows])
    _forget(state, mono_us)


def _is_overdue(state: State, client: Client, mono_us: int) -> bool:
    away_us = state.patience_us(mono_us) - client.away_since_us
    return not client.here and not client.expired and away_us > state.rules.client_grace_us


def _expire(state: State, clients: list[Client]) -> None:
    if not clients:
        return
    sessions = state.sessions
    chosen = state.clients.mask(clients)
    rows = np.flatnonzero(sessions.live() & chosen[sessions.client[: sessions.used]])
    ends = np.zeros(len(chosen), np.int64)
    for client in clients:
        ends[client.number] = client.away_wall_us
        client.expired = True
    state.infer_ends(rows, ends[sessions.client[rows]])


def _forget(state: State, mono_us: int) -> None:
    retention_us = state.rules.client_retention_us
    clients = [
        client for client in state.clients if client.expired and mono_us - client.last_sign_mono_us > retention_us
    ]
    if not clients:
        return
    sessions, groups = state.sessions, state.groups
    chosen = state.clients.mask(clients)
    rows = np.flatnonzero(sessions.held_row[: sessions.used] & chosen[sessions.client[: sessions.used]])
    pinning = rows[sessions.flags[rows] & (INFERRED | SETTLED) == INFERRED | SETTLED]
    tally(groups.pinned, sessions.group[pinning], -1)
    sessions.client[rows] = -1
    state.list_idle(distinct(sessions.group[pinning]))
    for client in clients:
        state.clients.forget(client)
