"""What `appstatsd forget` does with what the daemon answers, and whom it asks first."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import grpc
import pytest
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

from tests.unit.cli.conftest import Ended, FakeDaemon, Refusal

Run = Callable[..., Ended]

USER = UUID(int=0xA1)
HELD = {"live_sessions": 1, "ended_sessions": 2, "groups": 3, "backlog_rows": 4, "quarantined_rows": 5}


def answers(request: wire.ForgetUserRequest) -> list[wire.ForgetUserResponse]:
    """A daemon that erases 1,500 rows in two steps."""
    if request.dry_run:
        return [wire.ForgetUserResponse(**HELD, database_rows=1_500)]
    return [wire.ForgetUserResponse(**HELD, database_rows=rows) for rows in (0, 1_000, 1_500)]


@pytest.fixture
def asked(daemon: FakeDaemon) -> list[tuple[bytes, bool]]:
    """For each call, whom it is about and whether it is a dry run."""
    calls: list[tuple[bytes, bool]] = []

    def answer(request: wire.ForgetUserRequest) -> list[wire.ForgetUserResponse]:
        calls.append((request.user_id, request.dry_run))
        return answers(request)

    daemon.answers["ForgetUser"] = answer  # type: ignore[assignment]
    return calls


def says(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """Somebody sits at the terminal and answers so."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: word)


def test_what_was_erased_is_told_with_what_stays_to_be_done(run: Run, asked: list[tuple[bytes, bool]]) -> None:
    ended = run("forget", "--user", str(USER), "--yes")
    assert ended.status == 0
    assert ended.out.splitlines() == [
        "erased: 1 live sessions, 2 that have ended, in 3 groups",
        "erased: 4 rows in the backlog, 5 in quarantine",
        "erased: 1,500 rows in the database",
    ]
    assert "makes new rows" in ended.err
    assert "run this at each" in ended.err
    assert asked == [(USER.bytes, False)]


@pytest.mark.parametrize("yes", [(), ("--yes",)])
def test_a_dry_run_erases_nothing_and_asks_nobody(
    run: Run, asked: list[tuple[bytes, bool]], yes: tuple[str, ...]
) -> None:
    ended = run("forget", "--user", str(USER), "--dry-run", *yes)
    assert (ended.status, ended.err) == (0, "")
    assert "there are: 1,500 rows in the database" in ended.out
    assert asked == [(USER.bytes, True)]


def test_whoever_does_not_mean_it_erases_nothing(
    run: Run, asked: list[tuple[bytes, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, "n")
    ended = run("forget", "--user", str(USER))
    assert ended.status == 130
    assert "there are: 4 rows in the backlog" in ended.out
    assert asked == [(USER.bytes, True)]


def test_whoever_means_it_is_asked_once(
    run: Run, asked: list[tuple[bytes, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, "y")
    assert run("forget", "--user", str(USER)).status == 0
    assert asked == [(USER.bytes, True), (USER.bytes, False)]


def test_without_a_terminal_it_wants_to_be_told(
    run: Run, asked: list[tuple[bytes, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    ended = run("forget", "--user", str(USER))
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "--yes" in ended.err
    assert asked == []


@pytest.mark.parametrize("arguments", [(), ("--user", "ann"), ("--user", "")])
def test_a_person_is_named_by_a_uuid(run: Run, arguments: tuple[str, ...]) -> None:
    ended = run("forget", *arguments, "--yes")
    assert (ended.status, ended.err.count("\n")) == (2, 1)


@pytest.mark.parametrize("how", ["--yes", "--dry-run"])
def test_a_database_that_is_away_fails_it_and_says_what_was_done(daemon: FakeDaemon, run: Run, how: str) -> None:
    away = wire.ForgetUserResponse(**HELD, database_error="connection refused")
    daemon.answers["ForgetUser"] = lambda _: [away]  # type: ignore[assignment,return-value]
    ended = run("forget", "--user", str(USER), how)
    assert ended.status == 1
    assert "4 rows in the backlog" in ended.out
    assert ended.err.endswith("connection refused\n")


def test_files_that_may_hold_more_are_named(daemon: FakeDaemon, run: Run) -> None:
    left = wire.ForgetUserResponse(files_set_aside=["a.damaged-1", "b.damaged-2"])
    daemon.answers["ForgetUser"] = lambda _: [left]  # type: ignore[assignment,return-value]
    assert "remove them by hand: a.damaged-1, b.damaged-2" in run("forget", "--user", str(USER), "--yes").out


def test_a_refusal_is_one_line(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["ForgetUser"] = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "user_id is nil")
    ended = run("forget", "--user", str(UUID(int=0)), "--yes")
    assert ended.err == f"appstatsd: the daemon at {daemon.address} refused: user_id is nil\n"


def test_a_daemon_that_does_not_know_the_call_is_told_from_one_that_refuses(daemon: FakeDaemon, run: Run) -> None:
    ended = run("forget", "--user", str(USER), "--yes")
    assert ended.status == 1
    assert "does not serve ErasureService/ForgetUser there: give its --admin-listen" in ended.err
