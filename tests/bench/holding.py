"""(d) How much memory does a live session take, and how much a row that waits for the database?

The daemon and the plain Go server, side by side: resident memory before and after a load of live sessions, in a thousand
groups and in groups of their own, and for the former again after a flush that finds no database.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import grpc

from tests.bench.servers import CLIENT_CORE, SERVER_CORE, Bench, Server, resident_bytes

PART = "d"
STREAMS = 8
APPS = {"in 1,000 groups": 125, "in groups of their own": 0}
"""Of each stream."""
ROWS_OF = "in 1,000 groups"
LIMITS = {"in 1,000 groups": 250, "in groups of their own": 450}
UNIT = 100_000


def measure(bench: Bench) -> None:
    sessions: dict[tuple[str, str], list[float]] = defaultdict(list)
    rows: dict[str, list[float]] = defaultdict(list)

    def take(kind: str, groups: str) -> None:
        core = SERVER_CORE if kind == "daemon" else CLIENT_CORE
        with (
            bench.daemon(core=core) if kind == "daemon" else bench.go(core=core) as server,
            _full(bench, server, APPS[groups]) as a_session,
        ):
            sessions[kind, groups].append(a_session)
            if groups == ROWS_OF:
                rows[kind].append(_bytes_a_row(server))

    with ThreadPoolExecutor(2) as both:
        for _ in range(bench.sizes.runs):
            for groups in APPS:
                for done in [both.submit(take, kind, groups) for kind in ("daemon", "Go")]:
                    done.result()
    held = bench.sizes.resident

    def add(what: str, mine: list[float], its: list[float]) -> None:
        mine, its = ([each * UNIT / 2**20 for each in runs] for runs in (mine, its))
        bench.results.add(PART, f"RSS of {UNIT:,} {what}, {held:,} there", "MiB", mine, Go=its)

    for groups in APPS:
        add(f"live sessions {groups}", sessions["daemon", groups], sessions["Go", groups])
    add("backlog rows", rows["daemon"], rows["Go"])
    for groups, limit in LIMITS.items():
        figure = statistics.median(sessions["daemon", groups])
        bench.results.at_most(PART, f"bytes of RSS a live session, {held:,} {groups}", figure, limit)


@contextmanager
def _full(bench: Bench, server: Server, apps: int) -> Iterator[float]:
    """The server holds the sessions meanwhile; bytes of each."""
    # What a server takes once, for its first streams.
    bench.load(server, streams=STREAMS, batch=10, reports=STREAMS * 10, apps=10)
    empty = resident_bytes(server.pid)
    shape = {"streams": STREAMS, "batch": 1000, "apps": apps, "age": "2m", "live": True}
    with bench.loading(server, reports=bench.sizes.resident, **shape) as said:
        yield (resident_bytes(server.pid) - empty) / said["reports"]


def _bytes_a_row(server: Server) -> float:
    full = resident_bytes(server.pid)
    with suppress(grpc.RpcError):
        server.flush()
    rows = server.caller.status().backlog_rows
    assert rows, "no row waits for the database"
    return (resident_bytes(server.pid) - full) / rows
