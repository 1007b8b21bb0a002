"""(a) How many reports are acknowledged in a second, and what does one cost the server?

The daemon beside the plain Go server and the empty echo, each a process on one core, the load on another: the same
traffic, the same messages. A round starts each of them once and takes every number of streams and size of batch in turn.
What the targets speak of comes first, since the cost of a report grows with what is held, in Go for its garbage collector.
No flush comes in between; the whole job, from the first byte to the committed row, is measured by itself.
"""

from __future__ import annotations

import subprocess
from collections import defaultdict
from contextlib import AbstractContextManager
from typing import Any

from tests.bench.figures import ratio
from tests.bench.servers import CLIENT_CORE, PATIENCE_SECONDS, PROGRAMS, Bench, Server, cpu_seconds, on_core

PART = "a"
KINDS = ("memory", "journal", "Go", "echo")
STREAMS = 8
"""Those that the targets speak of."""
APPS = 100
MOST_A_BATCH = 1_000
"""Of a client with its limits as they come."""
LONG = 0.2
"""Part of the sessions of the whole job that outlast the window, and so are rows of their own."""

Taken = dict[tuple[str, int, int], list[dict[str, Any]]]


def measure(bench: Bench) -> None:
    taken: Taken = defaultdict(list)
    for turn in range(bench.sizes.runs):
        for kind in _rotated(KINDS, turn):
            with _server(bench, kind) as server:
                _round(bench, server, kind, taken)
    _report(bench, taken)
    _whole_job(bench)
    _batches_of_a_client(bench)


def _server(bench: Bench, kind: str) -> AbstractContextManager[Server]:
    if kind == "Go":
        return bench.go()
    if kind == "echo":
        return bench.echo()
    return bench.daemon(f"--durability={kind}")


def _round(bench: Bench, server: Server, kind: str, taken: Taken) -> None:
    for streams in sorted(bench.sizes.streams, key=lambda streams: streams != STREAMS):
        for batch, reports in bench.sizes.reports.items():
            enough = reports if streams == STREAMS else reports // 2
            taken[kind, streams, batch].append(_load(bench, server, streams, batch, enough))
    if kind == "Go":
        for batch in (1000, 100):
            said = _load(bench, server, STREAMS, batch, bench.sizes.reports[batch], as_reports=True)
            taken["Go, reports", STREAMS, batch].append(said)


def _load(bench: Bench, server: Server, streams: int, batch: int, reports: int, **shape: Any) -> dict[str, Any]:
    held = max(20, batch)
    return bench.load(server, streams=streams, batch=batch, reports=reports, held=held, apps=APPS, **shape)


def _report(bench: Bench, taken: Taken) -> None:
    results = bench.results

    def runs(kind: str, streams: int, batch: int, what: str) -> list[float]:
        return [said[what] for said in taken[kind, streams, batch]]

    for what, unit, name in (
        ("server_cpu_us_per_report", "CPU µs/report", "server CPU"),
        ("reports_per_second", "reports/s", "acknowledged"),
    ):
        for kind in ("memory", "journal"):
            for streams in bench.sizes.streams:
                for batch in bench.sizes.reports:
                    places = streams, batch, what
                    others = {other: runs(other, *places) for other in ("Go", "echo")}
                    if kind == "journal":
                        others["memory"] = runs("memory", *places)
                    if ("Go, reports", streams, batch) in taken:
                        others["Go fed reports"] = runs("Go, reports", *places)
                    results.add(
                        PART, f"{name}, {kind}, {streams} streams, {batch} a batch", unit, runs(kind, *places), **others
                    )

    def of(kind: str, batch: int, what: str, reference: str) -> float:
        mine, its = runs(kind, STREAMS, batch, what), runs(reference, STREAMS, batch, what)
        return ratio(mine, its)

    cpu, rate = "server_cpu_us_per_report", "reports_per_second"
    of_go = f"of the Go server's, {STREAMS} streams, same bytes"
    results.at_most(PART, f"CPU a report, memory, 1,000 a batch, {of_go}", of("memory", 1000, cpu, "Go"), 0.75)
    results.at_least(PART, f"reports/s, memory, 1,000 a batch, {of_go}", of("memory", 1000, rate, "Go"), 1.0)
    results.at_most(PART, f"CPU a report, memory, 100 a batch, {of_go}", of("memory", 100, cpu, "Go"), 2.0)
    for batch in (1000, 100):
        kept = of("journal", batch, rate, "memory")
        results.at_least(PART, f"reports/s with journal, {batch:,} a batch, of those with memory", kept, 0.7)


def _whole_job(bench: Bench) -> None:
    cpu: dict[str, list[float]] = {"memory": [], "journal": [], "Go": []}
    for turn in range(bench.sizes.runs):
        for kind in _rotated(tuple(cpu), turn):
            cpu[kind].append(_job(bench, kind))
    says = "whole job: server CPU a session"
    for kind in ("memory", "journal"):
        bench.results.add(PART, f"{says}, {kind}, {STREAMS} streams, 1,000 a batch", "CPU µs", cpu[kind], Go=cpu["Go"])
    says = "whole job: CPU a session, memory, of the Go server's"
    bench.results.at_most(PART, says, ratio(cpu["memory"], cpu["Go"]), 0.75)


def _job(bench: Bench, kind: str) -> float:
    """Microseconds of the server's CPU for each session of steady traffic, its row committed."""
    with bench.database(CLIENT_CORE) as url:
        served = bench.go(url) if kind == "Go" else bench.daemon(f"--durability={kind}", url=url)
        with served as server:
            before = cpu_seconds(server.pid)
            with bench.loading(server, streams=STREAMS, reports=bench.sizes.job_reports, apps=APPS, long=LONG) as said:
                server.flush()
                return (cpu_seconds(server.pid) - before) / said["sessions"] * 1e6


def _batches_of_a_client(bench: Bench) -> None:
    """How many reports a batch has in practice, from a busy proxy with the Go client as it comes."""
    sent, offered = [], []
    for _ in range(bench.sizes.runs):
        with bench.daemon() as server:
            command = [
                str(PROGRAMS / "proxy"),
                f"-target=unix:{server.socket}",
                f"-seconds={bench.sizes.proxy_seconds}",
            ]
            with on_core(CLIENT_CORE):
                subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_SECONDS)
            status = server.caller.status()
            sent.append(status.reports_accepted / sum(client.acked_sequence for client in status.clients))
            offered.append(float(MOST_A_BATCH))
    name = "a batch of the Go client, 10,000 sessions begun a second"
    share = bench.results.add(PART, name, "reports", sent, most=offered).ratio("most")
    bench.results.at_least(PART, "reports a batch of a busy proxy's client, of 1,000", share, 0.9)


def _rotated(kinds: tuple[str, ...], turn: int) -> tuple[str, ...]:
    at = turn % len(kinds)
    return kinds[at:] + kinds[:at]
