"""What does the asyncio client of Python do when it is told? Of the instructions of `README.md`, `bench` alone."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from typing import Any
from uuid import UUID

import grpc
from appstatsd_client import AccessMethod, App
from appstatsd_client.aio import AsyncClient


async def bench(target: str, rounds: int, pairs: int, calls: int) -> dict[str, Any]:
    app = App(UUID(int=1), UUID(int=2), UUID(int=3), AccessMethod.PATH, "bench")
    async with AsyncClient(target) as client:
        costs = [await one_round(client, app, pairs) for _ in range(rounds + 1)]
    async with grpc.aio.insecure_channel(target) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        times = []
        for _ in range(calls + calls // 10):
            began = time.perf_counter_ns()
            await check(b"")
            times.append(time.perf_counter_ns() - began)
    return {
        "begin_end_ns": round(statistics.median(costs[1:])),
        "unary_call_ns": round(statistics.median(times[calls // 10 :])),
    }


async def one_round(client: AsyncClient, app: App, pairs: int) -> float:
    """What begin and end of one session cost, in nanoseconds; then waits until all is acknowledged."""
    spent = 0
    for _ in range(pairs // 100):
        began = time.perf_counter_ns()
        for _ in range(100):
            client.begin(app).end()
        spent += time.perf_counter_ns() - began
        await asyncio.sleep(0)  # as between requests
    while (stats := client.stats()).pending_reports or stats.unacknowledged_reports:
        await asyncio.sleep(0.01)
    return spent / pairs


def main() -> None:
    for line in sys.stdin:
        told = json.loads(line)
        assert told.pop("do") == "bench"
        sys.stdout.write(json.dumps(asyncio.run(bench(**told))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
