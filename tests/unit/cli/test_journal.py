"""What `appstatsd journal` shows of a real state directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from appstatsd.events import Came, Received, Written
from appstatsd.journal.damage import Damage, note, noted
from appstatsd.journal.files import DiskFiles
from appstatsd.records import encode_record

from tests.support.raw_client import request
from tests.support.reports import report, session
from tests.unit.cli.conftest import Ended
from tests.unit.journal.opening import opened

Run = Callable[..., Ended]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with two units, and nobody who owns it."""
    folder = tmp_path / "state"
    journal = opened(DiskFiles(folder)).start()
    message = request(1, [report(7)], client_id="alpha").SerializeToString()
    journal.append(
        [encode_record(Came(5, "alpha", 1_000, 10)), encode_record(Received(5, "alpha", message, 2_000, 20))]
    )
    journal.append([encode_record(Written(np.array([4, 5]), 9, 3_000)), encode_record(Received(5, "x", b"\xff", 1, 1))])
    journal.close()
    return folder


def damage(folder: Path) -> None:
    (segment,) = folder.glob("journal-*")
    segment.write_bytes(segment.read_bytes().replace(b"alpha", b"alphb"))


def test_check_says_what_a_start_would_find(run: Run, state: Path) -> None:
    ended = run("journal", "check", "--state-dir", str(state))
    assert ended.status == 0
    lines = ended.out.splitlines()
    assert lines[0] == "no snapshot"
    assert lines[1].startswith("2 units with 4 records, ")
    assert lines[2:] == ["whole"]
    as_json = run("journal", "check", "--json", "--state-dir", str(state))
    assert json.loads(as_json.out)["units"] == 2


def test_check_fails_where_something_acknowledged_cannot_be_read_and_names_file_and_place(
    run: Run, state: Path
) -> None:
    damage(state)
    ended = run("journal", "check", "--state-dir", str(state))
    assert ended.status == 1
    (segment,) = state.glob("journal-*")
    assert f"damaged: {segment.name}, byte 0: unit 1 is lost\ndamaged\n" in ended.out


def test_check_tells_a_torn_end_from_damage(run: Run, state: Path) -> None:
    (segment,) = state.glob("journal-*")
    segment.write_bytes(segment.read_bytes()[:4156])
    ended = run("journal", "check", "--state-dir", str(state))
    assert ended.status == 0
    assert f"torn, or being written: {segment.name}: 60 bytes from byte 4096 on\nwhole\n" in ended.out


def test_export_prints_every_event_with_what_clients_sent(run: Run, state: Path) -> None:
    ended = run("journal", "export", "--state-dir", str(state))
    assert ended.status == 0
    first, second = (json.loads(line) for line in ended.out.splitlines())
    came, received = (record["record"] for record in first["records"])
    assert came == {
        "event": "Came",
        "stream": 5,
        "client_id": "alpha",
        "wall_us": 1_000,
        "mono_us": 10,
        "dropped_reports": 0,
        "software": "",
    }
    assert received["message"]["client_id"] == "alpha"
    assert received["message"]["columns"]["session_ids"] == session(7).hex()
    written, broken = (record["record"] for record in second["records"])
    assert written["serials"] == [4, 5]
    assert broken["message"] == {"not a StreamReportsRequest": "ff"}


def test_acknowledge_forgets_damage_for_good(run: Run, state: Path) -> None:
    note(DiskFiles(state), [Damage("journal-x", 64, "unit 2 is lost", "20260102T030405Z")])
    ended = run("journal", "check", "--state-dir", str(state))
    assert "not acknowledged yet: journal-x, byte 64: unit 2 is lost\nwhole\n" in ended.out
    ended = run("journal", "acknowledge", "--state-dir", str(state))
    assert ended.status == 0
    assert ended.out == (
        "acknowledged: journal-x, byte 64: unit 2 is lost (set aside as journal-x.damaged-20260102T030405Z)\n"
    )
    assert noted(DiskFiles(state)) == []
    again = run("journal", "acknowledge", "--state-dir", str(state))
    assert (again.status, again.out) == (0, "there is no damage to acknowledge\n")


@pytest.mark.parametrize("command", ["check", "export", "acknowledge"])
def test_a_state_directory_that_is_not_there_is_said_in_a_line(run: Run, tmp_path: Path, command: str) -> None:
    ended = run("journal", command, "--state-dir", str(tmp_path / "none"))
    assert ended.status == 1
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1
    assert f"{tmp_path}/none" in ended.err
