"""What `appstatsd status` shows."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import grpc
import pytest
from appstatsd.addresses import UnixAddress
from appstatsd.cli.status_page import page
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire
from rich.console import Console

from tests.unit.cli.conftest import Ended, FakeDaemon, Refusal

Run = Callable[..., Ended]
NOW = 1_800_000_000 * 10**9
MINUTE = 60 * 10**9


def status(**fields: object) -> wire.GetStatusResponse:
    ordinary = {"version": "1.2.3", "started_at_unix_nano": NOW - 192 * MINUTE, "database_state": "up"}
    return wire.GetStatusResponse(**{**ordinary, **fields})  # type: ignore[arg-type]


def shown(answer: wire.GetStatusResponse) -> str:
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(page(answer, UnixAddress("/run/a.sock"), NOW))  # type: ignore[arg-type]
    return capture.get()


def test_a_daemon_without_trouble_is_said_to_be_well() -> None:
    text = shown(status(database_url="postgresql://app@db/apps", last_flush_at_unix_nano=NOW - 12 * 10**9))
    assert text.startswith("appstatsd 1.2.3 at unix:/run/a.sock, up 3h 12m\nall is well\n")
    assert "up  postgresql://app@db/apps" in text
    assert "12s ago" in text
    assert "no clients yet, 0 open streams" in text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"database_state": "down"}, "the database does not take rows"),
        ({"last_flush_error": "no route (look at the firewall)"}, "no route (look at the firewall)"),
        ({"backlog_rows": 9, "oldest_backlog_age_seconds": 3700}, "rows have waited for 1h 1m"),
        ({"quarantined_rows": 2}, "`appstatsd quarantine list` shows them"),
        ({"journal_damage": "a.journal at byte 7"}, "damage in the journal: a.journal at byte 7"),
        ({"reports_dropped_by_clients": 4}, "clients had no room"),
    ],
)
def test_whatever_needs_a_person_stands_on_top(fields: dict[str, object], words: str) -> None:
    text = shown(status(**fields))
    assert "all is well" not in text
    assert words in text.splitlines()[1]


def test_the_figures_are_there_with_their_units() -> None:
    text = shown(
        status(
            backlog_rows=1_204,
            oldest_backlog_age_seconds=61,
            live_sessions=12,
            sessions_abandoned=1,
            groups=30,
            reports_accepted=5_000,
            reports_rejected=4,
            reports_duplicate=3,
            rows_written=999,
            journal_bytes=1_048_576,
        )
    )
    for words in (
        "1,204 rows, the oldest 1m 1s old",
        "12, 1 end inferred so far",
        "5,000 accepted, 4 rejected, 3 sent again, 0 dropped by clients",
        "1,048,576 bytes",
        "999",
    ):
        assert words in text


def test_clients_that_are_connected_come_first_and_a_long_list_is_cut() -> None:
    clients = [
        wire.ClientStatus(client_id=f"away-{n}", last_sign_of_life_unix_nano=NOW - n * MINUTE) for n in range(30)
    ]
    here = wire.ClientStatus(
        client_id="x[bold]here", connected=True, acked_sequence=7, live_sessions=3, software="go/0.1.0"
    )
    text = shown(status(clients=[*clients, here], connected_streams=1))
    lines = text[text.index("31 clients, 1 open stream") :].splitlines()
    assert lines[2].split() == ["x[bold]here", "go/0.1.0", "connected", "3", "7", "0"]
    assert lines[3].startswith("away-0 ")
    assert lines[4].split() == ["away-1", "-", "1m", "0s", "ago", "0", "0", "0"]
    assert lines[5].startswith("away-2 ")
    assert "and 11 more" in text


def test_a_status_of_very_many_clients_is_taken(daemon: FakeDaemon, run: Run) -> None:
    clients = [wire.ClientStatus(client_id=f"{number:0128}") for number in range(40_000)]
    daemon.answers["GetStatus"] = status(clients=clients)
    assert len(json.loads(run("status", "--json").out)["clients"]) == 40_000


def test_the_page_is_what_status_prints(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["GetStatus"] = status()
    ended = run("status")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith(f"appstatsd 1.2.3 at {daemon.address}, up ")


def test_json_has_every_field_and_numbers_as_numbers(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["GetStatus"] = status(
        backlog_rows=2**63,
        database_url="postgresql://app@db/apps",
        clients=[wire.ClientStatus(client_id="c", connected=True, acked_sequence=7)],
    )
    ended = run("status", "--json")
    found = json.loads(ended.out)
    assert set(found) == {field.name for field in wire.GetStatusResponse.DESCRIPTOR.fields}
    assert found["backlog_rows"] == 2**63
    assert found["started_at_unix_nano"] == NOW - 192 * MINUTE
    assert found["database_url"] == "postgresql://app@db/apps"
    assert found["quarantined_rows"] == 0
    assert found["clients"] == [
        {
            "client_id": "c",
            "connected": True,
            "last_sign_of_life_unix_nano": 0,
            "acked_sequence": 7,
            "live_sessions": 0,
            "dropped_reports": 0,
            "software": "",
        }
    ]


def test_watching_and_json_exclude_each_other(run: Run) -> None:
    ended = run("status", "--watch", "--json")
    assert (ended.status, ended.err.count("\n")) == (2, 1)


def test_a_refusal_is_one_line(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["GetStatus"] = Refusal(grpc.StatusCode.INTERNAL, "out of\nsorts")
    ended = run("status")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == f"appstatsd: the daemon at {daemon.address} gives no status: out of sorts\n"


def test_a_daemon_that_does_not_serve_the_call_there_is_told_from_one_that_is_away(
    daemon: FakeDaemon, run: Run
) -> None:
    ended = run("status")
    assert ended.status == 1
    assert "give its --admin-listen, if it has one; else it is older than this command" in ended.err


def test_watching_goes_on_through_an_outage_until_it_is_interrupted(daemon: FakeDaemon) -> None:
    answered, refused = threading.Event(), threading.Event()

    def answer(_: wire.GetStatusRequest) -> wire.GetStatusResponse:
        answered.set()
        return status()

    def refuse(_: wire.GetStatusRequest) -> Refusal:
        refused.set()
        return Refusal(grpc.StatusCode.UNAVAILABLE, "stopping")

    daemon.answers["GetStatus"] = answer
    command = [sys.executable, "-m", "appstatsd", "status", "--watch", "--listen", str(daemon.address)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        try:
            assert answered.wait(30)
            daemon.answers["GetStatus"] = refuse
            assert refused.wait(30)
            answered.clear()
            daemon.answers["GetStatus"] = answer
            assert answered.wait(30)
            watching.send_signal(signal.SIGINT)
            out, err = watching.communicate(timeout=30)
        finally:
            watching.kill()
    assert (watching.returncode, err) == (0, "")
    assert "appstatsd 1.2.3 at " in out or "gives no status: stopping" in out
