"""What does the Python client do when it is told? The command of the conformance suite; `README.md` has its instructions.

Invariant: each line of input is answered by one line of output, before the next one is carried out.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import time
from collections import deque
from typing import Any
from uuid import UUID

import grpc
from appstatsd_client import AccessMethod, App, Client, Clock, Limits, Session, Tls, events

Json = dict[str, Any]


def made_app(told: Json) -> App:
    method = AccessMethod[told["access_method"].upper()]
    return App(told["user_id"], told["workspace_id"], told["agent_id"], method, told["slug_or_port"])


def as_json(event: events.Event) -> Json:
    """An event as the instructions want it."""
    said: Json = {"event": type(event).__name__}
    for name in ("status", "reports", "dropped", "confirmed", "left", "retry_seconds"):
        if hasattr(event, name):
            said[name] = getattr(event, name)
    if isinstance(event, events.Rejected):
        said["reasons"] = [rejection.reason for rejection in event.rejections]
    return said


class Command:
    """One client, and sessions by name."""

    def __init__(self) -> None:
        self._client: Client
        self._sessions: dict[str, Session] = {}
        self._events: deque[events.Event] = deque()
        self._wall_step_ns = 0

    def do(self, told: Json) -> Json:
        what = getattr(self, f"do_{told.pop('do')}")
        try:
            answer: Json = what(**told)
        except ValueError as error:
            return {"error": str(error)}
        return answer

    def do_open(self, target: str, limits: Json | None = None, tls: Json | None = None) -> Json:
        clock = Clock(wall_ns=lambda: time.time_ns() + self._wall_step_ns)
        self._client = Client(
            target,
            tls=Tls.from_files(**tls) if tls else None,
            limits=Limits(**(limits or {})),
            on_event=self._events.append,
            clock=clock,
        )
        return {}

    def do_begin(self, session: str, app: Json, **options: Any) -> Json:
        begun = self._sessions[session] = self._client.begin(made_app(app), **options)
        return {"session_id": str(begun.session_id)}

    def do_update(self, session: str, requests: int) -> Json:
        self._sessions[session].update(requests)
        return {}

    def do_end(self, session: str) -> Json:
        self._sessions[session].end()
        return {}

    def do_stats(self) -> Json:
        stats = self._client.stats()
        return {name: getattr(stats, name) for name in stats.__slots__}

    def do_events(self) -> Json:
        happened = [as_json(self._events.popleft()) for _ in range(len(self._events))]
        return {"events": happened}

    def do_step_wall(self, seconds: float) -> Json:
        self._wall_step_ns += int(seconds * 1_000_000_000)
        return {}

    def do_close(self, timeout_seconds: float) -> Json:
        return {"confirmed": self._client.close(timeout_seconds)}

    def do_bench(self, target: str, rounds: int, pairs: int, calls: int) -> Json:
        app = App(UUID(int=1), UUID(int=2), UUID(int=3), AccessMethod.PATH, "bench")
        with Client(target) as client:
            costs = [one_round(client, app, pairs) for _ in range(rounds + 1)]
        with grpc.insecure_channel(target) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            times = []
            for _ in range(calls + calls // 10):
                began = time.perf_counter_ns()
                check(b"")
                times.append(time.perf_counter_ns() - began)
        return {
            "begin_end_ns": round(statistics.median(costs[1:])),
            "unary_call_ns": round(statistics.median(times[calls // 10 :])),
        }


def one_round(client: Client, app: App, pairs: int) -> float:
    """What begin and end of one session cost, in nanoseconds; then waits until all is acknowledged."""
    began = time.perf_counter_ns()
    for _ in range(pairs):
        client.begin(app).end()
    cost = (time.perf_counter_ns() - began) / pairs
    while (stats := client.stats()).pending_reports or stats.unacknowledged_reports:
        time.sleep(0.01)
    return cost


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    command = Command()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(command.do(json.loads(line))) + "\n")
        sys.stdout.flush()
    os._exit(0)  # at once, and without closing the client


if __name__ == "__main__":
    main()
