from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from appstatsd.journal.files import DiskFiles
from appstatsd.journal.layout import Mark
from appstatsd.journal.snapshot import SnapshotDamaged, read, write

from tests.faults.journal.model_disk import ModelDisk

MARK = Mark(7, 99)
ARRAYS = {
    "ids": np.frombuffer(bytes(range(64)), "V16"),
    "cells": np.array([(b"x" * 16, 5, (1, 2))], [("id", "V16"), ("at", "<i8"), ("two", "<u4", (2,))]),
    "flags": np.array([[True, False], [False, True]]),
    "big_endian": np.arange(3, dtype=">u2"),
    "every_other": np.arange(10)[::2],
    "none": np.empty((0, 3), "f8"),
    "scalar": np.array(4.5),
    "packed": np.frombuffer(b"some bytes", np.uint8),
}
META = {"clients": ["a", "b"], "now_us": 1_767_323_045_000_000, "nothing": None}


def ignore(_size: int) -> None: ...


def test_arrays_and_metadata_come_back_as_they_were(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path)
    size = write(files, MARK, ARRAYS, META)
    assert size == files.size(MARK.snapshot_name)
    back = read(files, MARK, ignore)
    assert back.meta == META
    assert list(back.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert back.arrays[name].dtype == array.dtype
        assert back.arrays[name].shape == array.shape
        assert back.arrays[name].tobytes() == array.tobytes()
        assert back.arrays[name].flags.writeable


def test_an_array_larger_than_a_piece_comes_back_and_progress_adds_up_to_the_size(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path)
    large = np.random.default_rng(1).integers(0, 2**62, 400_000)
    size = write(files, MARK, {"large": large}, {})
    heard: list[int] = []
    assert np.array_equal(read(files, MARK, heard.append).arrays["large"], large)
    assert sum(heard) == size
    assert len(heard) > 3


def test_a_flip_of_any_byte_or_a_cut_anywhere_is_noticed() -> None:
    disk = ModelDisk({})
    write(disk, MARK, {"units": np.arange(5), "more": np.arange(3, dtype="u1")}, {"a": 1})
    whole = bytes(disk.entries[MARK.snapshot_name].cache)
    spoilt = [whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :] for at in range(len(whole))]
    cut = [whole[:at] for at in range(len(whole))]
    for content in spoilt + cut:
        with pytest.raises(SnapshotDamaged):
            read(ModelDisk({MARK.snapshot_name: content}), MARK, ignore)


def test_a_snapshot_under_the_name_of_another_is_not_taken() -> None:
    disk = ModelDisk({})
    write(disk, MARK, {}, {})
    other = Mark(8, 99)
    disk.rename(MARK.snapshot_name, other.snapshot_name)
    with pytest.raises(SnapshotDamaged):
        read(disk, other, ignore)


def test_objects_are_refused() -> None:
    with pytest.raises(TypeError):
        write(ModelDisk({}), MARK, {"objects": np.array([object()])}, {})
