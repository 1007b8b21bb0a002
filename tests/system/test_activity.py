"""A daemon tells that workspaces were used, in both ways at once, and writes its rows although one of them hangs."""

from __future__ import annotations

import json
import socket
from uuid import UUID

import psycopg

from tests.support.raw_client import Client, fresh, now_us
from tests.support.reports import MINUTE, app, report, workspace
from tests.support.table import rows_of
from tests.system.conftest import NewDaemon

PATIENCE_SECONDS = 60.0


def test_activity_is_told_by_notify_although_the_hook_hangs(new_daemon: NewDaemon, database_url: str) -> None:
    [number] = fresh()
    with socket.create_server(("127.0.0.1", 0)) as hangs, psycopg.connect(database_url, autocommit=True) as listening:
        listening.execute("LISTEN appstatsd_activity")
        hook = f"http://127.0.0.1:{hangs.getsockname()[1]}/used"
        daemon = new_daemon(
            database_url, "--activity-notify", f"--activity-hook={hook}", "--report-interval=1h", "--log-level=error"
        )
        daemon.start()
        with Client(daemon.target) as client:
            ended_us = now_us() - MINUTE
            client.report(report(number, ended_us - 10 * MINUTE, ended_us, of=app(number)))
            daemon.flush()
            assert len(rows_of(database_url, workspace(number))) == 1
            [notice] = listening.notifies(timeout=PATIENCE_SECONDS, stop_after=1)
            assert json.loads(notice.payload)["workspace_id"] == str(UUID(bytes=workspace(number)))
            hangs.settimeout(PATIENCE_SECONDS)
            asks, _ = hangs.accept()
            with asks:
                assert asks.recv(4).startswith(b"POST")
                client.report(report(number + 1, ended_us - 10 * MINUTE, ended_us, of=app(number)))
                daemon.flush()
                assert len(rows_of(database_url, workspace(number))) == 2
            client.say_goodbye()
        daemon.stop()
