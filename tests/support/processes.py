"""Do the processes that a test has caused still live, and when are they gone? Without sleeping."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Watched:
    """Some processes, from now on until each has ended; their numbers may be used again meanwhile."""

    def __init__(self, *pids: int) -> None:
        self._handles: dict[int, int] = {}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                self._handles[pid] = os.pidfd_open(pid)

    def living(self, seconds: float = 0.0) -> list[int]:
        """Which of them live still, after having waited up to `seconds` for the end of each."""
        poll = select.poll()
        left = []
        for pid, handle in self._handles.items():
            poll.register(handle, select.POLLIN)
            if not poll.poll(seconds * 1000):
                left.append(pid)
            poll.unregister(handle)
        return left

    def close(self) -> None:
        """Kill those that are left."""
        while self._handles:
            _, handle = self._handles.popitem()
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)
