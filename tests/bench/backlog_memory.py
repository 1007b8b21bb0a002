"""What does a row cost that waits for the database, and how long is the daemon's one writer busy with it?

Run: .venv/bin/python -m tests.bench.backlog_memory

For each size: a flush of that many live sessions is added to an empty outbox, and then, as in an outage, the same
sessions with a hundredth of new ones, twice: the first time the keys are indexed, the second time they are known. Bytes
are those that Python and numpy allocated (tracemalloc); times are the thread's CPU, from a run without it. Once 50 rows
share an app; once each has an app of its own, whose key the collector holds as well.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from appstatsd.collect.apps import AppKey, app_key
from appstatsd.collect.rows import CELLS, EndSource, Rows
from appstatsd.deliver.outbox import Outbox

SKEW_US = 600_000_000
START_US = 1_760_000_000_000_000


def apps(count: int, rows_each: int) -> list[AppKey]:
    noise = np.random.default_rng(1).bytes(48 * (count // rows_each + 1))
    keys = [
        app_key(noise[at : at + 16], noise[at + 16 : at + 32], noise[at + 32 : at + 48], 1, f"app-{at}")
        for at in range(0, len(noise) - 47, 48)
    ]
    return [keys[row // rows_each] for row in range(count)]


def flushes(count: int, rows_each: int) -> list[Rows]:
    """The rows of three flushes in a row."""
    total = count + count // 50
    keys = apps(total, rows_each)
    cells = np.zeros(total, CELLS)
    cells["session_id"] = np.frombuffer(np.random.default_rng(2).bytes(16 * total), "V16")
    cells["started_us"], cells["requests"], cells["sessions"] = START_US, 1, 1
    cells["end_source"] = EndSource.LIVE
    result = []
    for number in range(3):
        size = count + number * (count // 100)
        part = cells[:size].copy()
        part["made_us"] = part["ended_us"] = START_US + number * 30_000_000
        result.append(Rows(keys[:size], part))
    return result


def run(count: int, rows_each: int, seen: Callable[[Outbox, float], None]) -> None:
    outbox = Outbox(SKEW_US)
    rows = flushes(count, rows_each)
    while rows:
        began = time.thread_time()
        outbox.add(rows.pop(0))
        seen(outbox, time.thread_time() - began)
    began = time.thread_time()
    first = outbox.peek(1024)
    outbox.settle(first.serials, first.as_of_stamp)
    seen(outbox, time.thread_time() - began)


def measure(count: int, rows_each: int) -> None:
    seconds: list[float] = []
    run(count, rows_each, lambda _, took: seconds.append(took))

    tracemalloc.start()
    flushes(count, rows_each)  # what is allocated once and stays
    before = tracemalloc.get_traced_memory()[0]
    bytes_a_row: list[float] = []

    def held(outbox: Outbox, _: float) -> None:
        waiting = len(outbox)
        # What is not the outbox's: the rows of flushes to come.
        bytes_a_row.append((tracemalloc.get_traced_memory()[0] - before) / waiting)

    run(count, rows_each, held)
    tracemalloc.stop()
    print(
        f"{count:>9,} rows, {rows_each:>2} an app: "
        f"{bytes_a_row[2]:5.0f} bytes a row; added in {seconds[0] * 1e3:7.2f} ms, merged in {seconds[1] * 1e3:7.1f} and "
        f"then {seconds[2] * 1e3:7.1f} ms; a batch of 1,024 peeked and settled in {seconds[3] * 1e3:.2f} ms"
    )


if __name__ == "__main__":
    for count in (100_000, 1_000_000):
        for rows_each in (50, 1):
            measure(count, rows_each)
