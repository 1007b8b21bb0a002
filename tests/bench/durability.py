"""What does the journal cost? Acknowledged reports with --durability=journal as a part of those with memory, run by run.

python -m tests.bench.durability
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from tests.bench.load import Load, Measured, measure
from tests.support.daemon import DaemonProcess

LOADS = (Load(8, 1000, 200), Load(8, 100, 600))
RUNS = 5
NOWHERE = "postgresql://nobody@127.0.0.1:9/none"


def run(durability: str, load: Load) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        daemon = DaemonProcess(Path(folder), NOWHERE, f"--durability={durability}", "--log-level=error")
        daemon.start()
        try:
            return measure(daemon.target, daemon.pid, load)
        finally:
            daemon.kill()


def main() -> None:
    for load in LOADS:
        pairs = [(run("memory", load), run("journal", load)) for _ in range(RUNS)]
        rate = statistics.median(journal.reports_per_second / memory.reports_per_second for memory, journal in pairs)
        cpu = statistics.median(journal.cpu_us_per_report / memory.cpu_us_per_report for memory, journal in pairs)
        memory_rate = statistics.median(memory.reports_per_second for memory, _ in pairs)
        print(
            f"{load.streams} streams x {load.batch}: journal / memory {rate:.2f} of the rate, {cpu:.2f} of the CPU "
            f"({memory_rate:,.0f}/s, {statistics.median(memory.cpu_us_per_report for memory, _ in pairs):.2f} µs)",
            flush=True,
        )


if __name__ == "__main__":
    main()
