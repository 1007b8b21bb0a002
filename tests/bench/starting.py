"""(f) How long is the daemon away when it is started, with nothing and with a million sessions to recover?

From the start of the process to the line `ready`. The sessions were reported to a daemon with a journal, which was then
killed; every run starts on a copy of what it left. Beside the empty start stand the Go server's and that of a Python that
imports what the daemon needs; beside the recovery, how long the daemon took to accept the same sessions.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.servers import Bench, cpu_seconds

PART = "f"
STREAMS = 8
IMPORTS = "import grpc, numpy, psycopg, psycopg_pool, structlog, google.protobuf, click"


def measure(bench: Bench) -> None:
    empty, cpu, go, imports, imports_cpu = [], [], [], [], []
    for _ in range(bench.sizes.runs):
        began = time.perf_counter()
        with bench.daemon("--durability=journal", core=None) as server:
            empty.append(time.perf_counter() - began)
            cpu.append(cpu_seconds(server.pid))
        began = time.perf_counter()
        with bench.go(core=None):
            go.append(time.perf_counter() - began)
        began, before = time.perf_counter(), _children_cpu()
        subprocess.run([sys.executable, "-c", IMPORTS], check=True)
        imports.append(time.perf_counter() - began)
        imports_cpu.append(_children_cpu() - before)
    bench.results.add(PART, "start to ready, empty", "s", empty, Go=go, imports=imports)
    bench.results.add(PART, "start to ready, empty: CPU", "s", cpu, imports=imports_cpu)
    bench.results.at_most(PART, "seconds from start to ready, empty", statistics.median(empty), 0.5)

    with bench.folder() as folder:
        held, accepted = _left_by_a_kill(bench, folder / "killed")
        recovered = [
            _recovery(bench, folder / "killed" / "state", folder / str(run)) for run in range(bench.sizes.runs)
        ]
    says = f"start to ready, {held:,} sessions to recover"
    bench.results.add(PART, says, "s", recovered, accepting_them=[accepted], empty=empty)
    bench.results.at_most(PART, f"seconds from {says}", statistics.median(recovered), 5)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _left_by_a_kill(bench: Bench, folder: Path) -> tuple[int, float]:
    """How many sessions are to be recovered, and how many seconds it took to accept them."""
    folder.mkdir()
    shape = {"streams": STREAMS, "batch": 1000, "apps": 125, "live": True, "reports": bench.sizes.recovered}
    with bench.running_in(folder, "--durability=journal") as server:
        said = bench.load(server, **shape)
    return said["reports"], said["seconds"]


def _recovery(bench: Bench, state: Path, folder: Path) -> float:
    folder.mkdir()
    subprocess.run(["cp", "-a", "--reflink=auto", str(state), str(folder / "state")], check=True)
    began = time.perf_counter()
    with bench.daemon_in(folder, "--durability=journal", core=None) as process:
        seconds = time.perf_counter() - began
        assert process.status().live_sessions, "nothing was recovered"
    shutil.rmtree(folder)
    return seconds
