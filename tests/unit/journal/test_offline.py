from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from appstatsd.journal.errors import StateDirectoryRefused
from appstatsd.journal.files import DiskFiles
from appstatsd.journal.offline import check, export

from tests.unit.journal.opening import filled


def decode(record: memoryview) -> str:
    return bytes(record).decode()


def test_check_and_export_read_a_journal_that_a_daemon_owns_and_change_nothing(tmp_path: Path) -> None:
    journal = filled(DiskFiles(tmp_path), [[b"before"]])
    journal.write_snapshot(journal.rotate(), {"state": np.array([7, 8])}, {"now": 5})
    journal.append([[b"one"], [b"1"]])
    journal.append([[b"two"]])
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    summary = check(DiskFiles(tmp_path))
    assert (summary.snapshot_bytes, summary.first_unit) == (16, 2)
    assert (summary.units, summary.records, summary.record_bytes) == (2, 3, 7)
    assert (summary.damages, summary.torn, summary.noted) == ([], None, [])
    assert [json.loads(line) for line in export(DiskFiles(tmp_path), decode)] == [
        {"snapshot_before_unit": 2, "arrays": {"state": ["int64", 2]}, "meta": {"now": 5}},
        {"unit": 2, "records": [{"bytes": 3, "record": "one"}, {"bytes": 1, "record": "1"}]},
        {"unit": 3, "records": [{"bytes": 3, "record": "two"}]},
    ]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    journal.close()


def test_damage_and_a_torn_tail_are_shown_where_they_stand(tmp_path: Path) -> None:
    filled(DiskFiles(tmp_path), [[b"one"], [b"two"], [b"three"], [b"four"]]).close()
    (segment,) = tmp_path.glob("journal-*")
    content = segment.read_bytes()
    segment.write_bytes(content.replace(b"two", b"tvo").replace(b"four", b"five"))
    summary = check(DiskFiles(tmp_path))
    assert [damage.lost for damage in summary.damages] == ["unit 2 is lost"]
    assert summary.torn
    lines = [json.loads(line) for line in export(DiskFiles(tmp_path), decode)]
    assert [next(iter(line)) for line in lines] == ["unit", "damage", "unit", "torn"]


def test_a_folder_that_is_not_there_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(StateDirectoryRefused, match=f"the journal in {tmp_path}/none cannot be read: .*No such file"):
        check(DiskFiles(tmp_path / "none"))
    with pytest.raises(StateDirectoryRefused, match="cannot be read"):
        list(export(DiskFiles(tmp_path / "none"), decode))
