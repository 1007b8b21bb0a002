"""What help, check-config, serve, migrate and the outermost frame do."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from appstatsd.cli import exits, sources
from appstatsd.cli.commands import cli
from appstatsd.errors import AppstatsdError, StoreUnavailable
from appstatsd.settings import TABLE, Settings
from click.testing import CliRunner

from tests.unit.cli.conftest import Ended

Run = Callable[..., Ended]


@pytest.mark.parametrize("command", ["serve", "check-config"])
def test_help_has_every_setting_with_what_is_allowed_and_its_default(command: str) -> None:
    text = " ".join(CliRunner().invoke(cli, [command, "--help"]).output.split())
    for row in TABLE:
        assert f"{row.flag} " in text
        assert " ".join(row.help.split()[:3]) in text
        assert f"Default: {row.default_shown}." in text
    assert "a duration from 100ms to 1h" in text
    for heading in ("Clients:", "Database:", "State:", "Collecting:", "Watching and testing:"):
        assert heading in text


def test_help_of_commands_that_talk_to_a_daemon_has_what_reaching_it_takes_and_no_more() -> None:
    text = CliRunner().invoke(cli, ["status", "--help"]).output
    assert "--admin-listen" in text
    assert "--batch-size" not in text


def test_check_config_prints_each_setting_with_its_value_and_its_source(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "appstatsd.toml"
    config.write_text('client-grace = "90m"\nlisten = ["unix:/run/a.sock", "127.0.0.1:4390"]\n')
    ended = run("check-config", "--config", str(config), "--enable-test-clock")
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in ended.out.splitlines()}
    assert list(lines) == [row.name for row in TABLE]
    assert lines["listen"] == f"unix:/run/a.sock, 127.0.0.1:4390  file {config}, key listen"
    assert lines["enable-test-clock"].split(maxsplit=1) == ["true", "flag --enable-test-clock"]
    assert lines["batch-size"].split() == ["1024", "default"]
    assert ended.status == 0
    warnings = ended.err.splitlines()
    assert len(warnings) == 2
    assert warnings[0].startswith(
        f"appstatsd: warning: setting client-grace (file {config}, key client-grace) is 90m: "
    )


def test_a_truth_value_can_be_switched_off_with_its_flag(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPSTATSD_ENABLE_TEST_CLOCK", "true")
    assert "true" in run("check-config").out
    (line,) = (line for line in run("check-config", "--no-enable-test-clock").out.splitlines() if "test-clock" in line)
    assert line.split(maxsplit=2) == ["enable-test-clock", "false", "flag --enable-test-clock"]


@pytest.fixture
def daemon_run(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """In place of the daemon: keeps the settings it is run with and does what a test says."""
    stub = types.SimpleNamespace(settings=None, does=lambda: 0)

    def run(settings: Settings) -> int:
        stub.settings = settings
        return int(stub.does())

    monkeypatch.setitem(sys.modules, "appstatsd.daemon", types.SimpleNamespace(run=run))  # type: ignore[arg-type]
    monkeypatch.setattr(exits, "at_once", lambda status: status)  # this process goes on
    return stub


@pytest.mark.usefixtures("restored_logging")
def test_serve_runs_the_daemon_with_the_settings_and_ends_with_its_status(
    run: Run, daemon_run: types.SimpleNamespace
) -> None:
    daemon_run.does = lambda: 7
    ended = run("serve", "--batch-size", "7", "--rollup-window", "30s")
    assert (ended.status, ended.out, daemon_run.settings.batch_size) == (7, "", 7)
    (event,) = map(json.loads, ended.err.splitlines())
    assert (event["level"], event["event"]) == ("warning", "Unwise setting")
    assert "rollup-window" in event["warning"]


@pytest.mark.usefixtures("restored_logging", "daemon_run")
def test_serve_makes_the_folder_that_its_socket_is_in_by_default_and_no_other(run: Run, tmp_path: Path) -> None:
    assert run("serve", "--listen", f"unix:{tmp_path}/chosen/a.sock").status == 0
    assert not list(tmp_path.iterdir())
    assert run("serve").status == 0
    assert (tmp_path / "appstatsd").stat().st_mode & 0o777 == 0o755


@pytest.mark.usefixtures("restored_logging", "daemon_run")
def test_a_default_folder_that_cannot_be_made_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "appstatsd").write_text("in the way")
    ended = run("serve")
    assert ended.status == 1
    assert f"the folder for the socket, {tmp_path}/appstatsd, cannot be made: File exists" in ended.err


@pytest.mark.usefixtures("restored_logging")
def test_what_ends_the_daemon_is_one_event_and_status_1(run: Run, daemon_run: types.SimpleNamespace) -> None:
    def fail(error: Exception) -> int:
        raise error

    for error in (AppstatsdError("the state directory is in use"), KeyError("x")):
        daemon_run.does = lambda error=error: fail(error)
        ended = run("serve")
        (event,) = map(json.loads, ended.err.splitlines())
        assert (ended.status, event["level"]) == (1, "critical")
        assert str(error) in event.get("error", "") + event.get("exception", "")


def test_migrate_says_what_it_did_and_what_is_left_to_do(run: Run, postgres_url: str) -> None:
    first, second = run("migrate", "--database-url", postgres_url), run("migrate", "--database-url", postgres_url)
    assert (first.status, first.err) == (0, "")
    assert first.out.startswith("applied workspace_app_stats ")
    assert second == Ended(0, "nothing to do: the tables are up to date, or not ours\n", "")


def test_migrate_leaves_a_table_of_others_alone_and_advises(run: Run, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE workspaces (id uuid PRIMARY KEY, last_used_at timestamptz NOT NULL)")
    ended = run("migrate", "--database-url", postgres_url)
    assert ended.status == 0
    assert "advice: the table workspaces is not ours" in ended.err


def test_a_database_that_is_away_is_one_line_and_status_1(run: Run, tmp_path: Path) -> None:
    ended = run("migrate", "--database-url", f"postgresql:///apps?host={tmp_path}")
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert ended.err.startswith("appstatsd: ")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StoreUnavailable("no\nroute", advice="look"), "appstatsd: no route (look)\n"),
        (KeyError("x"), "appstatsd: this is a bug, please report it: KeyError at test_commands.py:"),
    ],
)
def test_no_error_shows_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(sources, "check", fail)
    ended = run("check-config")
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert ended.err.startswith(words)
