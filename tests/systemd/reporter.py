"""A proxy of the tests, with the client library, run inside a machine.

reporter.py TARGET          does what its standard input says, line by line, and answers in lines
reporter.py TARGET FILE     as a service: has live sessions, named in FILE, until SIGTERM; then ends them and says in
                            FILE whether all was acknowledged
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from uuid import uuid4

from appstatsd_client import AccessMethod, App, Client, Session

HOUR_NS = 3_600_000_000_000
LIVE = 5


def begin(client: Client) -> Session:
    """A session that is long enough for a row of its own."""
    app = App(uuid4(), uuid4(), uuid4(), AccessMethod.SUBDOMAIN, "code")
    return client.begin(app, started_ns=time.time_ns() - HOUR_NS)


def serve(client: Client) -> None:
    for line in sys.stdin:
        if line == "session\n":
            session = begin(client)
            session.end()
            print(session.session_id, flush=True)
        elif line == "close\n":
            print(client.close(timeout=50), flush=True)


def live(client: Client, told: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    sessions = [begin(client) for _ in range(LIVE)]
    while client.stats().acknowledged_reports < LIVE:
        time.sleep(0.01)
    told.write_text("".join(f"{session.session_id}\n" for session in sessions))
    signal.sigwait([signal.SIGTERM])
    for session in sessions:
        session.end()
    with told.open("a") as file:
        file.write(f"{client.close(timeout=20)}\n")


if __name__ == "__main__":
    reporting = Client(sys.argv[1])
    if len(sys.argv) > 2:
        live(reporting, Path(sys.argv[2]))
    else:
        serve(reporting)
