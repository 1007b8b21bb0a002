from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from appstatsd.journal.errors import StateDirectoryInUse, StateDirectoryRefused
from appstatsd.journal.files import DiskFiles, own

from tests.unit.journal.opening import filled

OWNER = """
import sys
from pathlib import Path
from appstatsd.journal.files import DiskFiles, own
own(DiskFiles(Path(sys.argv[1])))
print("owned", flush=True)
sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_is_made_0700_and_all_files_in_it_0600(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "with" / "parents"
    journal = filled(DiskFiles(folder), [[b"unit"]])
    journal.write_snapshot(journal.rotate(), {}, {})
    journal.close()
    assert [mode(folder), mode(folder.parent), mode(folder.parent.parent)] == [0o700] * 3
    assert {mode(path) for path in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 3


def test_a_second_daemon_refuses_to_start_and_names_the_first_and_the_folder(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "state")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdin
        assert owner.stdout
        assert owner.stdout.readline() == b"owned\n"
        with pytest.raises(StateDirectoryInUse, match=rf"{tmp_path}/state is in use by process {owner.pid};"):
            own(DiskFiles(tmp_path / "state"))
        owner.stdin.close()
        owner.wait(timeout=30)
    files = DiskFiles(tmp_path / "state")
    own(files)
    files.close()


def test_the_lock_ends_with_the_process_however_it_ends(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "state")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout
        owner.stdout.readline()
        owner.kill()
        owner.wait(timeout=30)
    files = DiskFiles(tmp_path / "state")
    own(files)
    files.close()


def test_a_folder_open_to_others_is_closed_where_it_is_empty(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    files = DiskFiles(tmp_path)
    own(files)
    files.close()
    assert mode(tmp_path) == 0o700


def test_a_folder_open_to_others_is_closed_where_it_was_the_daemons_before(tmp_path: Path) -> None:
    filled(DiskFiles(tmp_path), [[b"unit"]]).close()
    tmp_path.chmod(0o750)
    own(files := DiskFiles(tmp_path))
    files.close()
    assert mode(tmp_path) == 0o700


def test_a_folder_open_to_others_that_holds_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "letters").write_text("dear")
    with pytest.raises(StateDirectoryRefused, match=r"mode 0755.*chmod 700"):
        own(DiskFiles(tmp_path))
    assert mode(tmp_path) == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a folder that belongs to another user")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 12345, 12345)
    with pytest.raises(StateDirectoryRefused, match=r"belongs to user 12345.*below it"):
        own(DiskFiles(tmp_path / "theirs"))


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirectoryRefused, match="not a folder"):
        own(DiskFiles(tmp_path / "file"))
    with pytest.raises(StateDirectoryRefused, match="cannot be used"):
        own(DiskFiles(tmp_path / "file" / "below"))


def test_a_write_continues_where_the_kernel_took_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:3], offset))
    files = DiskFiles(tmp_path)
    file = files.create("file")
    file.write(2, b"0123456789")
    assert file.size() == 12
    back = bytearray(20)
    assert file.read(1, memoryview(back)) == 11
    assert bytes(back) == b"\0" + b"0123456789" + bytes(9)
    file.close()
    assert (tmp_path / "file").read_bytes() == b"\0\x000123456789"


def test_a_large_file_goes_in_steps_and_wholly(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path)
    file = files.create("large")
    file.write(40 * 2**20, b"end")
    file.close()
    files.unlink("large")
    assert files.names() == []


def test_a_name_is_not_created_twice(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path)
    files.create("file").close()
    with pytest.raises(FileExistsError) as error:
        files.create("file")
    assert error.value.errno == errno.EEXIST
