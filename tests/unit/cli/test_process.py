"""How commands behave as processes: exit statuses, single lines, what others can see of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PASSWORD = "hunter2"
COMMAND = [sys.executable, "-m", "appstatsd"]


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env={**os.environ, **variables}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("serve", "--report-interval", "soon"),
            "setting report-interval (flag --report-interval) is 'soon': allowed is",
        ),
        (("serve", "--rollup-windows", "30s"), "Did you mean '--rollup-window'?"),
        (("serve", "--batch-size"), "requires an argument"),
        (("serve", "more"), "unexpected extra argument"),
        (("serv",), "No such command 'serv'"),
        (("check-config", "--config", "/nowhere/appstatsd.toml"), "setting config (flag --config)"),
        (("check-config", "--database-url", f"mysql://u:{PASSWORD}@h/d"), "setting database-url (flag --database-url)"),
        (("migrate",), "--database-url is not set"),
    ],
)
def test_what_is_wrong_on_the_command_line_ends_it_with_status_2_and_one_line(
    arguments: tuple[str, ...], words: str
) -> None:
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("appstatsd: ")
    assert ended.stderr.count("\n") == 1
    assert words in ended.stderr
    assert PASSWORD not in ended.stderr


def test_a_wrong_variable_ends_it_with_status_2_and_one_line() -> None:
    ended = run("serve", APPSTATSD_SOCKET_MODE="rw")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "setting socket-mode (environment variable APPSTATSD_SOCKET_MODE) is 'rw'" in ended.stderr


@pytest.mark.parametrize("arguments", [(), ("quarantine",)])
def test_a_group_without_a_command_shows_its_help(arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2
    assert "Commands:" in ended.stderr


def test_version_is_one_line_and_loads_nothing_heavy() -> None:
    heavy = {"grpc", "numpy", "psycopg", "rich", "structlog", "google", "ssl", "appstatsd.settings"}
    code = (
        "import sys; sys.argv = ['appstatsd', 'version']; from appstatsd.cli.main import main; main();"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    first, loaded = ended.stdout.splitlines()
    assert first.startswith("appstatsd ")
    assert loaded == "[]"


def test_the_installed_script_and_the_module_are_the_same() -> None:
    script = Path(sys.executable).parent / "appstatsd"
    ended = subprocess.run([script, "version"], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, run("version").stdout)


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    with subprocess.Popen([*COMMAND, "check-config"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.close()
        assert command.stderr.read() == b""
        assert command.wait(60) == 1


def test_a_password_on_the_command_line_is_not_in_the_process_list() -> None:
    with socket.create_server(("127.0.0.1", 0)) as database:
        database.settimeout(30)
        url = f"postgresql://app:{PASSWORD}@127.0.0.1:{database.getsockname()[1]}/apps"
        for arguments in (["--database-url", url], [f"--database-url={url}"]):
            command = subprocess.Popen(
                [*COMMAND, "migrate", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            try:
                database.accept()[0].close()  # It has the URL by now, and knows the password.
                seen = Path(f"/proc/{command.pid}/cmdline").read_bytes()
            finally:
                command.kill()
                out, err = command.communicate()
            assert b"--database-url" in seen
            assert PASSWORD.encode() not in seen + out + err


def test_a_password_on_the_command_line_is_still_a_flag_and_comes_before_the_environment() -> None:
    ended = run(
        "check-config",
        "--database-url",
        f"postgresql://app:{PASSWORD}@db/apps",
        APPSTATSD_DATABASE_URL="postgresql://other/apps",
    )
    (line,) = (line for line in ended.stdout.splitlines() if line.startswith("database-url "))
    assert line.split(maxsplit=2)[1:] == ["postgresql://app@db/apps", "flag --database-url"]
    assert ended.stderr == ""


def test_a_shell_completes_commands_options_and_words() -> None:
    def offered(words: str) -> set[str]:
        place = str(len(words.split(" ")) - 1)
        ended = run(_APPSTATSD_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=place)
        return {line.partition(",")[2] for line in ended.stdout.splitlines()}

    assert "check-config" in offered("appstatsd ch")
    assert "--rollup-window" in offered("appstatsd serve --roll")
    assert offered("appstatsd serve --durability m") == {"memory"}
    assert run(_APPSTATSD_COMPLETE="bash_source").stdout.count("_APPSTATSD_COMPLETE=bash_complete") == 1
