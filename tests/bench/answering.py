"""(e) How long does an acknowledgement take, at a given pace and while a flush runs?

The pace is a part of the throughput that the daemon reaches in this run, the same for the plain Go server and the empty
echo. A batch is timed from when it was due, so that one that had to wait is not let off. During the flushes a tenth of the
throughput is offered, while a hundred thousand long live sessions are written again and again to a database on the load's
core; batches that were under way in a flush are told from those before.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.bench.figures import ratio
from tests.bench.servers import CLIENT_CORE, Bench, Server

PART = "e"
KINDS = ("daemon", "Go", "echo")
SHAPE = {"streams": 8, "batch": 100, "held": 200, "apps": 100}
PARTS_OF_THROUGHPUT = (0.1, 0.5, 0.9)
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
PACE_WHILE_FLUSHING = 0.1
"""Tens of thousands of reports a second, which is more than the proxies of a host send."""

Samples = npt.NDArray[np.int64]
"""Pairs: when a batch was acknowledged, nanoseconds of Unix time, and how long it had taken."""


def measure(bench: Bench) -> None:
    with bench.daemon() as daemon:
        flat_out = [_flat_out(bench, daemon) for _ in range(bench.sizes.runs)]
    found = float(np.median(flat_out))
    taken: dict[tuple[str, float, str], list[float]] = defaultdict(list)
    for turn in range(bench.sizes.runs):
        for kind in KINDS[turn % 3 :] + KINDS[: turn % 3]:
            with _server(bench, kind) as server:
                bench.load(server, reports=2_000, **SHAPE)
                for part in PARTS_OF_THROUGHPUT:
                    _paced(bench, server, kind, part, found, taken)
    bench.results.add(PART, "throughput found, 8 streams, 100 a batch", "reports/s", flat_out)
    for part in PARTS_OF_THROUGHPUT:
        for name in QUANTILES:
            mine, go, echo = (taken[kind, part, name] for kind in KINDS)
            bench.results.add(PART, f"acknowledged at {part:.0%} of it, {name}", "ms", mine, Go=go, echo=echo)
    _while_flushing(bench, found)


def _server(bench: Bench, kind: str) -> AbstractContextManager[Server]:
    return {"daemon": bench.daemon, "Go": bench.go, "echo": bench.echo}[kind]()


def _flat_out(bench: Bench, server: Server) -> float:
    reached: float = bench.load(server, reports=bench.sizes.reports[100], **SHAPE)["reports_per_second"]
    return reached


def _paced(
    bench: Bench, server: Server, kind: str, part: float, found: float, taken: dict[tuple[str, float, str], list[float]]
) -> None:
    rate = part * found
    with bench.folder() as folder:
        file = folder / "latencies"
        bench.load(server, rate=rate, reports=int(rate * bench.sizes.pace_seconds), latencies=file, **SHAPE)
        samples = _samples(file)
    for name, quantile in QUANTILES.items():
        taken[kind, part, name].append(_milliseconds(samples, quantile))


def _while_flushing(bench: Bench, found: float) -> None:
    quiet: dict[str, list[float]] = {}
    flushing: dict[str, list[float]] = {}
    for kind in ("daemon", "Go"):
        with bench.database(CLIENT_CORE) as url, bench.daemon(url=url) if kind == "daemon" else bench.go(url) as server:
            quiet[kind], flushing[kind] = _beside_flushes(bench, server, found * PACE_WHILE_FLUSHING)
    rows = bench.sizes.flushed_while_paced
    says = f"acknowledged at {PACE_WHILE_FLUSHING:.0%}, p99"
    bench.results.add(PART, f"{says}, between flushes", "ms", quiet["daemon"], Go=quiet["Go"])
    bench.results.add(
        PART,
        f"{says}, in a flush of {rows:,} rows",
        "ms",
        flushing["daemon"],
        Go=flushing["Go"],
        between=quiet["daemon"],
    )
    times = ratio(flushing["daemon"], quiet["daemon"])
    bench.results.at_most(PART, f"p99 of acknowledgements in a flush of {rows:,} rows, of that without", times, 3)


def _beside_flushes(bench: Bench, server: Server, rate: float) -> tuple[list[float], list[float]]:
    """p99 between and during flushes, of each flush."""
    between = bench.sizes.pace_seconds
    sessions: dict[str, Any] = {"reports": bench.sizes.flushed_while_paced, "age": "2m", "live": True, "apps": 100}
    enough = threading.Event()
    spans: list[tuple[int, int, int]] = []
    with bench.folder() as folder, bench.loading(server, streams=8, batch=100, **sessions):
        server.flush()
        file = folder / "latencies"
        # Far more than will be sent: it is told to stop by the end of its standard input.
        options = {"rate": rate, "reports": int(rate * 600), "seconds": 600, "until_closed": True, "latencies": file}
        with bench.started_load(server, **SHAPE, **options) as load:
            for _ in range(bench.sizes.runs):
                begin = time.time_ns()
                enough.wait(between)
                flush = time.time_ns()
                server.flush()
                spans.append((begin, flush, time.time_ns()))
            assert load.stdin is not None
            load.stdin.close()
            load.wait(60)
        samples = _samples(file)
    quiet = [_milliseconds(_within(samples, begin, flush), 0.99) for begin, flush, _ in spans]
    return quiet, [_milliseconds(_within(samples, flush, end), 0.99) for _, flush, end in spans]


def _samples(file: Path) -> Samples:
    return np.fromfile(file, np.int64).reshape(-1, 2)


def _within(samples: Samples, begin: int, end: int) -> Samples:
    """Those that were under way at some moment of the span."""
    acknowledged, took = samples[:, 0], samples[:, 1]
    return samples[(acknowledged >= begin) & (acknowledged - took < end)]


def _milliseconds(samples: Samples, quantile: float) -> float:
    return float(np.quantile(samples[:, 1], quantile)) / 1e6
