from __future__ import annotations

from appstatsd.journal.damage import NOTE, Damage, acknowledge, describe, note, noted, time_stamp

from tests.faults.journal.model_disk import ModelDisk

FIRST = Damage("journal-1", 64, "unit 2 is lost", "20260102T030405Z")
SAME_LATER = Damage("journal-1", 64, "unit 2 is lost", "20260303T000000Z")
SECOND = Damage("journal-1", 640, "units 4 to 9 are lost", "20260303T000000Z")


def test_what_is_noted_stays_until_it_is_acknowledged_with_the_time_it_was_first_seen() -> None:
    disk = ModelDisk({})
    assert noted(disk) == []
    assert note(disk, [FIRST]) == [FIRST]
    assert note(disk, [SAME_LATER, SECOND]) == [FIRST, SECOND]
    assert noted(disk) == [FIRST, SECOND]
    assert acknowledge(disk) == [FIRST, SECOND]
    assert noted(disk) == []
    assert acknowledge(disk) == []
    assert disk.names() == []


def test_nothing_is_written_where_there_is_nothing_new() -> None:
    disk = ModelDisk({})
    assert note(disk, []) == []
    assert disk.names() == []


def test_it_is_described_in_a_line() -> None:
    assert describe([]) == ""
    assert describe([FIRST, SECOND]) == (
        "journal-1, byte 64: unit 2 is lost; journal-1, byte 640: units 4 to 9 are lost"
    )
    assert FIRST.set_aside_as == "journal-1.damaged-20260102T030405Z"


def test_a_note_that_cannot_be_read_is_damage_too() -> None:
    for content in (b"", b"{", b"[1]", b'[{"file": "x"}]'):
        disk = ModelDisk({NOTE: content})
        assert [damage.file for damage in noted(disk)] == [NOTE]
        acknowledge(disk)
        assert noted(disk) == []


def test_times_are_utc() -> None:
    assert time_stamp(1_767_323_045.9) == "20260102T030405Z"
