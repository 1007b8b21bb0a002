"""A disk that is full, for real: nothing acknowledged is lost, and the daemon comes back once there is room again."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from appstatsd.journal.errors import JournalFailed
from appstatsd.journal.files import DiskFiles
from appstatsd.journal.segments import Journal

from tests.unit.journal.opening import filled, opened

_MNT_DETACH = 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 2 MiB."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder = tmp_path / "small"
    folder.mkdir()
    where = os.fsencode(folder)
    if libc.mount(b"tmpfs", where, b"tmpfs", 0, b"size=2m") != 0:
        code = ctypes.get_errno()
        assert code in (errno.EPERM, errno.EACCES)
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield folder
    finally:
        assert libc.umount2(where, _MNT_DETACH) == 0


def append_for_ever(journal: Journal, acknowledged: list[list[bytes]]) -> NoReturn:
    for number in itertools.count():
        unit = [b"%06d" % number * 2000]
        journal.append([unit])
        acknowledged.append(unit)
    raise AssertionError


def fill(path: Path) -> NoReturn:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_full_disk_fails_the_append_and_what_was_acknowledged_is_there_when_there_is_room_again(
    small_disk: Path,
) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2**20))
    folder = small_disk / "state"
    journal = filled(DiskFiles(folder), [])
    acknowledged: list[list[bytes]] = []
    with pytest.raises(JournalFailed, match=r"No space left on device.*start the daemon again"):
        append_for_ever(journal, acknowledged)
    assert acknowledged
    with pytest.raises(JournalFailed, match="failed before"):
        journal.append([[b"more"]])
    journal.close()

    # Where the disk is still full it fails again, and again loses nothing.
    with pytest.raises(OSError, match="No space left on device"):
        fill(small_disk / "more")
    found = opened(DiskFiles(folder))
    assert found.units[: len(acknowledged)] == acknowledged
    assert found.recovery.damages == []
    acknowledged = list(found.units)
    with pytest.raises(JournalFailed, match="No space left on device"):
        append_for_ever(found.start(), acknowledged)
    found.recovery.close()

    filler.unlink()
    found = opened(DiskFiles(folder))
    assert found.units[: len(acknowledged)] == acknowledged
    journal = found.start()
    journal.append([[b"after"]])
    journal.close()
    assert opened(DiskFiles(folder)).units[-1] == [b"after"]


def test_a_snapshot_that_finds_no_room_costs_nothing_that_was_there(small_disk: Path) -> None:
    folder = small_disk / "state"
    journal = filled(DiskFiles(folder), [[b"one"]])
    mark = journal.rotate()
    journal.append([[b"two"]])
    with pytest.raises(JournalFailed, match="No space left on device"):
        journal.write_snapshot(mark, {"state": np.zeros(3 * 2**20, np.uint8)}, {})
    with pytest.raises(JournalFailed, match="failed before"):
        journal.append([[b"three"]])
    journal.close()
    found = opened(DiskFiles(folder))
    assert found.units == [[b"one"], [b"two"]]
    found.start().close()
    assert not list(folder.glob("*.new"))
