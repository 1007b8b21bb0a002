"""What does it cost to hold sessions, and to come back to them? Memory for each live session, and the start after a kill.

python -m tests.bench.held
"""

from __future__ import annotations

import signal
import tempfile
import time
from pathlib import Path

from tests.bench.load import Load, measure
from tests.support.daemon import DaemonProcess

NOWHERE = "postgresql://nobody@127.0.0.1:9/none"
SIZES = (100_000, 1_000_000)


def resident_bytes(pid: int) -> int:
    """What the process holds in memory now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel did not say")


def main() -> None:
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            daemon = DaemonProcess(Path(folder), NOWHERE, "--durability=journal", "--report-interval=1h")
            daemon.start()
            try:
                empty = resident_bytes(daemon.pid)
                measure(daemon.target, daemon.pid, Load(8, 2000, size // 16_000, live=True))
                held = daemon.status().live_sessions
                full = resident_bytes(daemon.pid)
                daemon.signal(signal.SIGKILL)
                daemon.wait()
                began = time.perf_counter()
                daemon.output.clear()
                daemon.start()
                ready = time.perf_counter() - began
                assert daemon.status().live_sessions == held
                print(
                    f"{held:,} live sessions: {(full - empty) / held:.0f} bytes each (RSS), "
                    f"ready {ready:.1f} s after a kill",
                    flush=True,
                )
            finally:
                daemon.kill()


if __name__ == "__main__":
    main()
