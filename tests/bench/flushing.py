"""(c) What does a flush cost, by what is held and by what has changed?

The collector alone, in this process, with ten sessions to a group; the plain Go collector in a process of its own does the
same. A flush is to cost by the rows that it makes, not by what is held.
"""

from __future__ import annotations

import gc
import json
import subprocess
import time
from collections import defaultdict

import numpy as np
from appstatsd.collect.apps import AppKey, app_key
from appstatsd.collect.batch import Arrival, Batch, ReportedApp
from appstatsd.collect.collector import Collector
from appstatsd.collect.rules import SECOND_US, Rules

from tests.bench.figures import ratio
from tests.bench.servers import PROGRAMS, Bench

PART = "c"
CLIENT = "bench"
NOW_US = 1_800_000_000 * SECOND_US
REPORTS_A_BATCH = 10_000
SESSIONS_AN_APP = 10
SHORT, LONG, SETTLED, FEW, ALL = (
    "all live and short",
    "all live and long",
    "all settled",
    "1 % changed",
    "all changed",
)
"""The names that `go_reference/flush` uses, too."""

Taken = dict[tuple[str, int], list[float]]
"""By what is the case and how many sessions are held, milliseconds of a flush."""


def measure(bench: Bench) -> None:
    wall: Taken = defaultdict(list)
    cpu: Taken = defaultdict(list)
    go: Taken = defaultdict(list)
    for held in bench.sizes.held:
        Flushes(held, wall, cpu).run(bench.sizes.runs)
        for case, runs in _go(held, bench.sizes.runs).items():
            go[case, held] = runs
    for case in (SHORT, LONG, SETTLED, FEW, ALL):
        for held in bench.sizes.held:
            name = f"{case}, {held:,} held"
            others = {"Go": go[case, held]} if case != SETTLED else {}  # the Go collector forgets what is settled
            bench.results.add(PART, f"flush, {name}", "ms", wall[case, held], **others)
            bench.results.add(PART, f"flush's CPU, {name}", "ms", cpu[case, held], all_changed=cpu[ALL, held])
    most = max(bench.sizes.held)
    share = ratio(cpu[FEW, most], cpu[ALL, most])
    bench.results.at_most(PART, f"CPU of a flush with 1 % changed of {most:,}, of that with all changed", share, 0.03)


class Flushes:
    """The flushes of one number of sessions."""

    def __init__(self, held: int, wall: Taken, cpu: Taken) -> None:
        self._held = held
        self._wall = wall
        self._cpu = cpu
        self._sessions = Sessions(held)

    def run(self, runs: int) -> None:
        """Take every case so often. What costs much to build is built once, and changed a little or copied."""
        collector = Collector(Rules())
        collector.came(CLIENT, NOW_US, NOW_US)
        self._sessions.report(collector, slice(None))
        collector.flush(NOW_US, NOW_US)
        all_live = collector.to_arrays()
        few = (self._held + 99) // 100
        for run in range(runs):
            self._timed(collector, SHORT, NOW_US + SECOND_US)
            self._sessions.report(collector, slice(run * few, (run + 1) * few), ended_us=NOW_US)
            self._timed(collector, FEW, NOW_US + SECOND_US)
        later_us = NOW_US + 120 * SECOND_US
        collector.flush(later_us, later_us)
        for run in range(runs):
            self._timed(collector, LONG, later_us + (run + 1) * 30 * SECOND_US)
        for _ in range(runs):
            collector = Collector.from_arrays(all_live)
            self._sessions.report(collector, slice(None), ended_us=NOW_US)
            self._timed(collector, ALL, NOW_US + SECOND_US)
            self._timed(collector, SETTLED, NOW_US + 2 * SECOND_US)

    def _timed(self, collector: Collector, case: str, now_us: int) -> None:
        gc.collect()
        began, began_cpu = time.perf_counter(), time.thread_time()
        collector.flush(now_us, now_us)
        self._cpu[case, self._held].append((time.thread_time() - began_cpu) * 1e3)
        self._wall[case, self._held].append((time.perf_counter() - began) * 1e3)


class Sessions:
    """Sessions with random ids, some to an app, that began ten seconds before now."""

    def __init__(self, count: int) -> None:
        random = np.random.default_rng(1)
        self._ids = np.frombuffer(random.bytes(16 * count), "V16")
        noise = random.bytes(48 * (count // SESSIONS_AN_APP + 1))
        self._apps = [
            app_key(noise[at : at + 16], noise[at + 16 : at + 32], noise[at + 32 : at + 48], 1, "app")
            for at in range(0, len(noise), 48)
        ]

    def report(self, collector: Collector, which: slice, ended_us: int = 0) -> None:
        """Let the collector accept one report of each of these."""
        places = np.arange(len(self._ids))[which]
        for begin in range(0, len(places), REPORTS_A_BATCH):
            part = places[begin : begin + REPORTS_A_BATCH]
            first, last = int(part[0]) // SESSIONS_AN_APP, int(part[-1]) // SESSIONS_AN_APP
            apps: list[AppKey | ReportedApp] = [*self._apps[first : last + 1]]
            batch = Batch(
                apps,
                part // SESSIONS_AN_APP - first,
                self._ids[part],
                np.full(len(part), (NOW_US - 10 * SECOND_US) * 1000, np.uint64),
                np.full(len(part), ended_us * 1000, np.uint64),
                np.ones(len(part), np.uint32),
                {},
            )
            [rejected] = collector.accept([Arrival(CLIENT, batch, NOW_US, NOW_US)])
            assert not rejected, rejected[0]


def _go(held: int, runs: int) -> dict[str, list[float]]:
    command = [str(PROGRAMS / "flush"), f"-held={held}", f"-runs={runs}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said: dict[str, list[float]] = json.loads(done.stdout)
    return said
