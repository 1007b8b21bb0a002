"""What `appstatsd flush` and `appstatsd quarantine` do with what the daemon answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from uuid import UUID

import grpc
import pytest
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

from tests.unit.cli.conftest import Ended, FakeDaemon, Refusal

Run = Callable[..., Ended]


def test_flush_says_what_was_written_and_what_waits(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["Flush"] = wire.FlushResponse(rows_written=1_234, backlog_rows=0)
    assert run("flush") == Ended(0, "1,234 rows written, 0 in the backlog\n", "")
    assert daemon.asked == [wire.FlushRequest()]


def test_flush_fails_with_the_reason_when_the_database_does_not_take_the_rows(daemon: FakeDaemon, run: Run) -> None:
    reason = "the table workspaces is missing (run: appstatsd migrate)"
    daemon.answers["Flush"] = Refusal(grpc.StatusCode.UNAVAILABLE, reason)
    assert run("flush") == Ended(1, "", f"appstatsd: not flushed: {reason}\n")


def row(number: int, **fields: object) -> wire.QuarantinedRow:
    ids = {"user_id": b"u" * 16, "workspace_id": b"w" * 16, "agent_id": b"a" * 16, "session_id": b"s" * 16}
    ordinary = {
        "id": number,
        **ids,
        "access_method": wire.ACCESS_METHOD_SUBDOMAIN,
        "slug_or_port": "code",
        "session_started_at_unix_nano": 1_800_000_000_000_001_000,
        "requests": 3,
        "sessions": 1,
        "message": 'violates check\nconstraint "c"',
        "sqlstate": "23514",
    }
    return wire.QuarantinedRow(**{**ordinary, **fields})  # type: ignore[arg-type]


def pages(*rows: wire.QuarantinedRow) -> Callable[[wire.ListQuarantineRequest], wire.ListQuarantineResponse]:
    """Two rows a page."""

    def answer(request: wire.ListQuarantineRequest) -> wire.ListQuarantineResponse:
        return wire.ListQuarantineResponse(rows=[row for row in rows if row.id > request.after_id][:2])

    return answer


def test_list_shows_all_pages_with_the_databases_words(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["ListQuarantine"] = pages(row(1), row(4), row(9, slug_or_port="8080"))
    ended = run("quarantine", "list")
    assert ended.status == 0
    heads = [line for line in ended.out.splitlines() if line and not line.startswith(" ")]
    words = '23514 violates check constraint "c"'
    assert heads == [f"1: {words}", f"4: {words}", f"9: {words}", "3 rows in quarantine"]
    assert str(UUID(bytes=b"w" * 16)) in ended.out
    assert "2027-01-15T08:00:00.000001+00:00" in ended.out


def test_list_json_is_one_object_a_line(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["ListQuarantine"] = pages(row(1), row(4, user_id=b"odd"))
    first, second = map(json.loads, run("quarantine", "list", "--json").out.splitlines())
    assert (first["id"], first["access_method"], first["requests"]) == (1, "subdomain", 3)
    assert second["user_id"] == b"odd".hex()


@pytest.mark.parametrize(
    ("command", "method", "done"),
    [
        ("retry", "RetryQuarantine", "2 rows put back into the backlog\n"),
        ("drop", "DropQuarantine", "2 rows dropped\n"),
    ],
)
def test_retry_and_drop_take_ids(daemon: FakeDaemon, run: Run, command: str, method: str, done: str) -> None:
    response = {
        "retry": wire.RetryQuarantineResponse(rows_retried=2),
        "drop": wire.DropQuarantineResponse(rows_dropped=2),
    }
    daemon.answers[method] = response[command]
    assert run("quarantine", command, "4", "9") == Ended(0, done, "")
    assert daemon.asked == [getattr(wire, f"{method}Request")(ids=[4, 9])]


def test_ids_that_are_not_in_quarantine_are_named_and_fail_the_command(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["RetryQuarantine"] = wire.RetryQuarantineResponse(rows_retried=1, unknown_ids=[4, 5])
    assert run("quarantine", "retry", "1", "4", "5") == Ended(
        1, "1 rows put back into the backlog\n", "appstatsd: not in quarantine: 4, 5\n"
    )


def test_retry_takes_all(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["RetryQuarantine"] = wire.RetryQuarantineResponse(rows_retried=2)
    assert run("quarantine", "retry", "--all").status == 0
    assert daemon.asked == [wire.RetryQuarantineRequest(all=True)]


def test_all_rows_are_dropped_only_by_somebody_who_means_it(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answers["DropQuarantine"] = wire.DropQuarantineResponse(rows_dropped=2)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert run("quarantine", "drop", "--all").status == 130
    assert daemon.asked == []
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "y")
    assert run("quarantine", "drop", "--all").status == 0
    assert run("quarantine", "drop", "--all", "--yes").status == 0
    assert daemon.asked == [wire.DropQuarantineRequest(all=True)] * 2


@pytest.mark.parametrize("arguments", [(), ("4", "--all"), ("0",), ("x",)])
@pytest.mark.parametrize("command", ["retry", "drop"])
def test_ids_or_all_and_nothing_else(run: Run, command: str, arguments: tuple[str, ...]) -> None:
    ended = run("quarantine", command, *arguments)
    assert (ended.status, ended.err.count("\n")) == (2, 1)


def test_a_refused_call_is_one_line(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["DropQuarantine"] = Refusal(grpc.StatusCode.INTERNAL, "no")
    assert run("quarantine", "drop", "1").err == f"appstatsd: the daemon at {daemon.address} refused: no\n"
