"""Processes that fork, as servers with workers do: each reports under a client_id of its own, or not at all.

What forks is a process of its own with one thread, so that the tests' own threads and gRPC do not come along.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from scripted_daemon import DEADLINE_SECONDS, ScriptedDaemon

BEGINNING = """
import os, sys
from uuid import UUID
from appstatsd_client import AccessMethod, App, Client, Limits
app = App(UUID(int=1), UUID(int=2), UUID(int=3), AccessMethod.PATH, "code")
told = []
client = Client(sys.argv[1], limits=Limits(linger_seconds=0.001), on_event=told.append)
def in_child(work):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
"""


def run(daemon: ScriptedDaemon, program: str) -> None:
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), *sys.path])}
    subprocess.run(
        [sys.executable, "-c", BEGINNING + program, daemon.target], env=path, check=True, timeout=DEADLINE_SECONDS
    )


def test_a_client_made_before_the_fork_works_in_every_process(daemon: ScriptedDaemon) -> None:
    run(
        daemon,
        """
def work():
    client.begin(app).end()
    assert client.close()
in_child(work)
in_child(work)
work()
""",
    )
    assert len(daemon.model.sessions) == len(daemon.model.clients) == 3
    assert daemon.model.closed == set(daemon.model.clients)


def test_a_client_that_had_begun_takes_nothing_in_a_fork_and_says_so_once(daemon: ScriptedDaemon) -> None:
    run(
        daemon,
        """
import threading
from appstatsd_client.events import ForkedAfterStart
session = client.begin(app)
def work():
    holder = threading.Thread(target=client._lock.acquire)  # as if another thread of the parent had held it
    holder.start()
    holder.join()
    told.clear()
    session.update()
    client.begin(app).end()
    session.end()
    client.stats()
    assert not client.close()
    assert told == [ForkedAfterStart(os.getppid())]
in_child(work)
assert session.requests == 1
session.update()
session.end()
assert client.close()
""",
    )
    assert [held.requests for held in daemon.model.sessions.values()] == [2]
    assert len(daemon.model.clients) == 1
