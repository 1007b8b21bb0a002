"""(g) What does the daemon cost when nothing happens?

Some daemons with a database and every setting at its default, and as many of the plain Go server, all idle at the same
time: what each used in the span, by the kernel's clock, how often its threads woke, and what it holds in memory.
"""

from __future__ import annotations

import statistics
import threading
from contextlib import ExitStack
from pathlib import Path

from tests.bench.servers import Bench, Server, cpu_seconds, resident_bytes

PART = "g"
SETTLING_SECONDS = 2.0


def measure(bench: Bench) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(bench.database())
        kinds = {
            "daemon": [
                stack.enter_context(bench.daemon(url=url, core=None, interval="30s")) for _ in range(bench.sizes.runs)
            ],
            "Go": [stack.enter_context(bench.go(url, core=None, interval="30s")) for _ in range(bench.sizes.runs)],
        }
        pause = threading.Event()
        pause.wait(min(SETTLING_SECONDS, bench.sizes.idle_seconds))
        before = {kind: [(cpu_seconds(one.pid), _wakes(one)) for one in servers] for kind, servers in kinds.items()}
        pause.wait(bench.sizes.idle_seconds)
        cpu: dict[str, list[float]] = {}
        wakes: dict[str, list[float]] = {}
        for kind, servers in kinds.items():
            spent = [
                (cpu_seconds(one.pid) - then, _wakes(one) - woken)
                for one, (then, woken) in zip(servers, before[kind], strict=True)
            ]
            cpu[kind] = [seconds * 60 / bench.sizes.idle_seconds for seconds, _ in spent]
            wakes[kind] = [times / bench.sizes.idle_seconds for _, times in spent]
        resident = {kind: [resident_bytes(one.pid) / 2**20 for one in servers] for kind, servers in kinds.items()}
    bench.results.add(PART, "idle, CPU a minute", "s", cpu["daemon"], Go=cpu["Go"])
    bench.results.add(PART, "idle, wake-ups", "1/s", wakes["daemon"], Go=wakes["Go"])
    bench.results.add(PART, "idle, RSS", "MiB", resident["daemon"], Go=resident["Go"])
    bench.results.at_most(PART, "CPU seconds a minute of an idle daemon", statistics.median(cpu["daemon"]), 0.1)
    bench.results.at_most(PART, "MiB of RSS of an idle daemon", statistics.median(resident["daemon"]), 70)


def _wakes(server: Server) -> int:
    """How often the threads that live now have gone to sleep so far."""
    total = 0
    for status in Path(f"/proc/{server.pid}/task").glob("*/status"):
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total
