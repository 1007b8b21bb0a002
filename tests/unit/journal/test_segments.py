from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from appstatsd.journal.errors import JournalFailed
from appstatsd.journal.files import DiskFiles

from tests.faults.journal.model_disk import ModelDisk
from tests.unit.journal.opening import filled, opened


def test_what_was_appended_comes_back_in_order_on_a_real_disk(tmp_path: Path) -> None:
    units = [[b"a"], [b"b" * 5000, b""], [], [b"c" * 300_000]]
    journal = filled(DiskFiles(tmp_path), units)
    journal.close()
    assert opened(DiskFiles(tmp_path)).units == units


def test_an_append_is_one_fsync_and_most_appends_are_one_write() -> None:
    disk = ModelDisk()
    disk.ahead_bytes = 64 * disk.block_bytes
    journal = filled(disk, [])
    calls: list[str] = []
    disk.before_call = calls.append
    for _ in range(100):
        journal.append([[b"record"]])
    assert sum(call.startswith("sync") for call in calls) == 100
    assert sum(call.startswith("write") for call in calls) == 102
    assert len(calls) == 202


def test_nothing_is_prepared_for_units_too_large_to_gain_by_it() -> None:
    disk = ModelDisk()
    journal = filled(disk, [])
    before = journal.bytes_on_disk
    journal.append([[bytes(disk.ahead_bytes)]])
    assert journal.bytes_on_disk - before == disk.ahead_bytes + disk.block_bytes


def test_the_journal_goes_on_in_the_segment_that_rotate_began(tmp_path: Path) -> None:
    journal = filled(DiskFiles(tmp_path), [[b"before"]])
    mark = journal.rotate()
    journal.append([[b"meanwhile"]])
    journal.write_snapshot(mark, {"state": np.array([1])}, {"before": 1})
    journal.append([[b"after"]])
    journal.close()
    found = opened(DiskFiles(tmp_path))
    assert found.recovery.snapshot
    assert found.recovery.snapshot.meta == {"before": 1}
    assert found.units == [[b"meanwhile"], [b"after"]]


def test_units_are_appended_while_another_thread_writes_a_snapshot(tmp_path: Path) -> None:
    journal = filled(DiskFiles(tmp_path), [[b"before"]])
    mark = journal.rotate()
    state = {"state": np.zeros(30 * 2**20, np.uint8)}
    writer = threading.Thread(target=journal.write_snapshot, args=(mark, state, {}), name="snapshot")
    writer.start()
    appended = 0
    while writer.is_alive():
        journal.append([[b"%d" % appended]])
        appended += 1
    writer.join()
    journal.close()
    found = opened(DiskFiles(tmp_path))
    assert found.recovery.snapshot
    assert found.units == [[b"%d" % number] for number in range(appended)]


def test_a_snapshot_lets_go_of_all_that_is_older(tmp_path: Path) -> None:
    journal = filled(DiskFiles(tmp_path), [[b"a"]])
    first, second = journal.rotate(), journal.rotate()
    journal.write_snapshot(first, {}, {})
    third = journal.rotate()
    journal.write_snapshot(third, {"state": np.zeros(1000)}, {})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name[:18] for name in names] == ["journal-0000000004", "lock", "snapshot-000000000"]
    assert third.number == second.number + 1 == 4
    assert journal.bytes_on_disk == sum(path.stat().st_size for path in tmp_path.iterdir() if path.name != "lock")
    journal.close()


def test_what_came_after_the_place_of_a_snapshot_stays_in_however_many_segments() -> None:
    disk = ModelDisk()
    journal = filled(disk, [[b"before"]])
    mark = journal.rotate()
    journal.append([[b"one"]])
    journal.rotate()
    journal.append([[b"two"]])
    journal.write_snapshot(mark, {}, {})
    assert opened(disk).units == [[b"one"], [b"two"]]


def test_bytes_on_disk_are_what_the_files_take(tmp_path: Path) -> None:
    def taken() -> int:
        return sum(path.stat().st_size for path in tmp_path.iterdir() if path.name != "lock")

    journal = filled(DiskFiles(tmp_path), [[b"a"], [b"b" * 10_000]])
    assert journal.bytes_on_disk == taken()
    mark = journal.rotate()
    journal.append([[b"c"]])
    tail = journal.tail_bytes
    assert journal.bytes_on_disk == taken() == tail
    journal.write_snapshot(mark, {"state": np.zeros(1000)}, {})
    assert journal.bytes_on_disk == taken() > journal.tail_bytes
    journal.close()
    (tmp_path / "journal-x.damaged-20260102T030405Z").write_bytes(bytes(10_000))
    again = opened(DiskFiles(tmp_path)).start()
    assert again.bytes_on_disk == taken() - 10_000
    again.close()


def test_room_for_a_snapshot_and_for_events_of_the_daemons_own_is_kept_back() -> None:
    disk = ModelDisk()
    journal = opened(disk).start(max_bytes=16_000)
    assert journal.bytes_on_disk == 0
    assert journal.room(15_000, 0)
    assert not journal.room(15_001, 0)
    assert journal.room(5_000, 10_000)
    assert not journal.room(5_001, 10_000)
    journal.append([[bytes(1000 - 44)]])
    assert not journal.room(5_000, 10_000)
    assert journal.room(5_000, 9_000 - 1024 + 1000)
    # An event of the daemon's own asks for no room.
    journal.append([[bytes(15_000)]])


@pytest.mark.parametrize("what", ["append", "rotate", "snapshot"])
def test_after_a_failure_everything_is_refused_and_nothing_is_tried_again(what: str) -> None:
    disk = ModelDisk()
    journal = filled(disk, [[b"a"]])
    mark = journal.rotate()
    attempts = {
        "append": lambda: journal.append([[b"b"]]),
        "rotate": journal.rotate,
        "snapshot": lambda: journal.write_snapshot(mark, {}, {}),
    }

    def fail(_call: str) -> None:
        raise OSError(28, "No space left on device")

    disk.before_call = fail
    with pytest.raises(JournalFailed, match=r"could not .*/model: .*No space left on device.*start the daemon again"):
        attempts[what]()
    calls: list[str] = []
    disk.before_call = calls.append
    for attempt in attempts.values():
        with pytest.raises(JournalFailed, match="failed before"):
            attempt()
    assert calls == []
