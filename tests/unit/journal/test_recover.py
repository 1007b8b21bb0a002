from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from appstatsd.journal.damage import OnDamage
from appstatsd.journal.errors import JournalDamaged, JournalVersion, StateDirectoryRefused
from appstatsd.journal.files import DiskFiles
from appstatsd.journal.recover import recover

from tests.faults.journal.model_disk import Image, ModelDisk, ModelFile
from tests.unit.journal.opening import NOW, filled, opened

UNITS = [[b"one"], [b"two", b"2"], [b"three"]]


def image_of(disk: ModelDisk) -> Image:
    return {name: bytes(inode.cache) for name, inode in disk.entries.items()}


def segments(disk: ModelDisk) -> list[str]:
    return sorted(name for name in disk.names() if name.startswith("journal-") and name.endswith(".v1"))


def spoil(image: Image, text: bytes) -> Image:
    """Flip a bit of `text`, wherever it stands."""
    return {
        name: content.replace(text, bytes([text[0] ^ 1]) + text[1:]) if text in content else content
        for name, content in image.items()
    }


def test_an_empty_state_directory_gives_nothing_and_can_be_appended_to() -> None:
    disk = ModelDisk()
    found = opened(disk)
    assert (found.units, found.recovery.snapshot, found.recovery.torn, found.recovery.damages) == ([], None, None, [])
    found.start().append([[b"one"]])
    assert opened(disk).units == [[b"one"]]


def test_every_start_reads_each_unit_once_though_the_last_was_copied() -> None:
    disk = ModelDisk()
    expected: list[list[bytes]] = []
    for number in range(5):
        found = opened(disk)
        assert found.units == expected
        assert found.recovery.torn is None
        journal = found.start()
        if number != 2:
            journal.append([[b"%d" % number]])
            expected.append([b"%d" % number])
    assert len(segments(disk)) == 5


def test_nothing_on_disk_changes_before_the_start() -> None:
    disk = ModelDisk()
    filled(disk, UNITS)
    image = spoil(image_of(disk), b"two")
    image["journal-x.new"] = b"left by a crash"
    disk = ModelDisk(image)
    opened(disk)
    assert image_of(disk) == image


def test_what_a_crash_left_unfinished_goes_at_the_start() -> None:
    disk = ModelDisk({"snapshot-0000000002-0000000000000003.v1.new": b"half", "damage.json.new": b""})
    opened(disk).start()
    assert [name for name in disk.names() if name.endswith(".new")] == []


def test_a_torn_tail_is_cut_and_said_and_the_next_start_has_nothing_to_say() -> None:
    disk = ModelDisk()
    filled(disk, UNITS)
    (name,) = segments(disk)
    disk = ModelDisk(spoil(image_of(disk), b"three"))
    found = opened(disk, OnDamage.STOP)
    assert found.units == UNITS[:2]
    assert found.recovery.damages == []
    assert str(found.recovery.torn) == f"{name}: 64 bytes from byte 128 on"
    journal = found.start()
    assert disk.size(name) == 128
    assert journal.bytes_on_disk == sum(map(disk.size, segments(disk)))
    journal.append([[b"another three"]])
    again = opened(disk, OnDamage.STOP)
    assert again.units == [*UNITS[:2], [b"another three"]]
    assert again.recovery.torn is None


def test_a_torn_unit_that_can_be_read_again_later_does_not_take_the_place_of_what_was_written_since() -> None:
    disk = ModelDisk()
    filled(disk, UNITS)
    (name,) = segments(disk)
    whole = image_of(disk)
    disk = ModelDisk(spoil(whole, b"three"))
    opened(disk).start().append([[b"another three"]])
    found = opened(ModelDisk(image_of(disk) | {name: whole[name]}), OnDamage.STOP)
    assert found.units == [*UNITS[:2], [b"another three"]]


def test_space_prepared_is_given_back_at_the_next_start() -> None:
    disk = ModelDisk()
    filled(disk, UNITS)
    (name,) = segments(disk)
    assert disk.size(name) > 192
    opened(disk).start()
    assert disk.size(name) == 192


def test_damage_before_a_later_unit_costs_that_unit_alone_and_is_said() -> None:
    disk = ModelDisk()
    filled(disk, UNITS)
    (name,) = segments(disk)
    disk = ModelDisk(spoil(image_of(disk), b"two"))
    found = opened(disk)
    assert found.units == [UNITS[0], UNITS[2]]
    assert [str(damage) for damage in found.recovery.damages] == [f"{name}, byte 64: unit 2 is lost"]
    assert found.recovery.torn is None


def test_two_spoilt_units_at_the_end_are_damage_and_a_torn_tail() -> None:
    # Only the last can have been on its way to the disk: the header of the last says that the one before was safe.
    disk = ModelDisk()
    filled(disk, UNITS)
    disk = ModelDisk(spoil(spoil(image_of(disk), b"two"), b"three"))
    found = opened(disk)
    assert found.units == UNITS[:1]
    assert [damage.lost for damage in found.recovery.damages] == ["unit 2 is lost"]
    assert found.recovery.torn


def test_a_spoilt_unit_and_an_unreadable_stretch_behind_it_are_one_torn_tail() -> None:
    disk = ModelDisk()
    filled(disk, UNITS)
    image = spoil(image_of(disk), b"two")
    (name,) = segments(disk)
    content = image[name].replace(b"ASJ1\x01\0\0\0\x03", b"ASJ?\x01\0\0\0\x03")
    assert content != image[name]
    found = opened(ModelDisk({name: content}), OnDamage.STOP)
    assert found.units == UNITS[:1]
    assert found.recovery.torn
    assert found.recovery.torn.offset == 64


def test_damage_stops_the_start_where_it_is_told_to_and_names_file_place_and_command() -> None:
    disk = ModelDisk()
    filled(disk, UNITS)
    (name,) = segments(disk)
    disk = ModelDisk(spoil(image_of(disk), b"one"))
    before = image_of(disk)
    says = rf"/model/{name}, byte 0: unit 1 is lost\. .*journal check --state-dir /model.*--on-damage=set-aside"
    with pytest.raises(JournalDamaged, match=says):
        opened(disk, OnDamage.STOP)
    assert image_of(disk) == before


def test_a_damaged_file_is_set_aside_once_a_snapshot_does_without_it_and_known_until_acknowledged() -> None:
    disk = ModelDisk()
    filled(disk, UNITS)
    (name,) = segments(disk)
    disk = ModelDisk(spoil(image_of(disk), b"two"))
    content = bytes(disk.entries[name].cache)[:192]
    journal = opened(disk).start()
    # As often as it is killed before there is a snapshot, the next start reads the same.
    found = opened(disk)
    assert found.units == [UNITS[0], UNITS[2]]
    journal = found.start()
    assert [damage.lost for damage in journal.damage()] == ["unit 2 is lost"]
    journal.write_snapshot(journal.rotate(), {}, {})
    assert bytes(disk.entries[f"{name}.damaged-20260102T030405Z"].cache) == content
    assert segments(disk) == [journal._segment.name]
    later = opened(disk, OnDamage.STOP)
    assert later.recovery.damages == []
    assert [damage.file for damage in later.start().damage()] == [name]


def test_a_missing_segment_is_noticed_wherever_it_stood() -> None:
    disk = ModelDisk()
    journal = filled(disk, UNITS[:1])
    for records in UNITS[1:]:
        journal.rotate()
        journal.append([[record] for record in records])
    first, middle, _ = segments(disk)
    for missing, lost, whole in (
        (first, "the state before unit 2 is lost, its snapshot is missing", UNITS[1:]),
        (middle, "unit 2 is lost", [UNITS[0], UNITS[2]]),
    ):
        image = image_of(disk)
        del image[missing]
        found = opened(ModelDisk(image))
        assert [damage.lost for damage in found.recovery.damages] == [lost]
        assert found.units == whole


def test_units_missing_at_the_end_of_a_segment_are_noticed_by_the_next_ones_name() -> None:
    disk = ModelDisk()
    journal = filled(disk, UNITS)
    journal.rotate()
    first, _ = segments(disk)
    for cut in (64, 130):
        image = image_of(disk)
        image[first] = image[first][:cut]
        found = opened(ModelDisk(image))
        assert [damage.lost[-4:] for damage in found.recovery.damages] == ["lost"]
        assert found.units == UNITS[: cut // 64]
        # And numbers go on as if nothing were missing.
        journal = found.start()
        journal.append([[b"four"]])
        assert journal._next_unit == 5


def snapshot_of(disk: ModelDisk) -> str:
    (name,) = [name for name in disk.names() if name.startswith("snapshot-")]
    return name


def test_a_damaged_snapshot_is_said_and_set_aside_and_the_units_after_it_are_kept() -> None:
    disk = ModelDisk()
    journal = filled(disk, UNITS[:2])
    journal.write_snapshot(journal.rotate(), {"state": np.array([5])}, {})
    journal.append([[b"three"]])
    name = snapshot_of(disk)
    image = image_of(disk)
    image[name] = image[name][:-1]
    with pytest.raises(
        JournalDamaged, match=rf"{name}, byte 0: the state before unit 3 cannot be read: it ends at byte"
    ):
        opened(ModelDisk(image), OnDamage.STOP)
    disk = ModelDisk(image)
    found = opened(disk)
    assert found.recovery.snapshot is None
    assert found.units == [[b"three"]]
    assert [damage.file for damage in found.recovery.damages] == [name]
    journal = found.start()
    journal.append([[b"four"]])
    assert opened(disk).units == [[b"three"], [b"four"]]
    journal.write_snapshot(journal.rotate(), {"state": np.array([6])}, {})
    assert f"{name}.damaged-20260102T030405Z" in disk.names()
    again = opened(disk, OnDamage.STOP)
    assert again.recovery.snapshot
    assert again.recovery.snapshot.arrays["state"].tolist() == [6]


def test_an_older_snapshot_with_all_since_takes_the_place_of_a_damaged_one() -> None:
    disk = ModelDisk()
    journal = filled(disk, UNITS[:1])
    journal.write_snapshot(journal.rotate(), {"state": np.array([1])}, {})
    journal.append([[b"two"]])
    older = image_of(disk)
    journal.write_snapshot(journal.rotate(), {"state": np.array([2])}, {})
    journal.append([[b"three"]])
    name = snapshot_of(disk)
    image = image_of(disk)
    image[name] = b""
    # As after a crash before anything older was let go of.
    found = opened(ModelDisk(older | image))
    assert found.recovery.snapshot
    assert found.recovery.snapshot.arrays["state"].tolist() == [1]
    assert found.units == [[b"two"], [b"three"]]
    assert [damage.file for damage in found.recovery.damages] == [name]


def test_numbers_go_on_after_a_damaged_snapshot_that_stands_alone() -> None:
    disk = ModelDisk({"snapshot-0000000005-0000000000000100.v1": b""})
    journal = opened(disk).start()
    journal.append([[b"unit"]])
    assert opened(disk).units == [[b"unit"]]
    assert journal._segment.mark.first_unit == 100
    assert journal._segment.mark.number == 6


@pytest.mark.parametrize("name", ["journal-0000000001-0000000000000001-00000000000000ff.v2", "snapshot-1.v0"])
def test_another_format_is_refused_and_it_is_said_what_to_do(name: str) -> None:
    version = name[-1]
    with pytest.raises(JournalVersion, match=rf"/model/{name} is of journal format {version}.*Start the version"):
        opened(ModelDisk({name: b"whatever"}))


def test_a_file_that_may_not_be_read_is_said_in_a_line_and_is_not_taken_for_damage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = ModelDisk()
    filled(disk, UNITS)

    def refuse(name: str) -> ModelFile:
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(disk, "open", refuse)
    with pytest.raises(StateDirectoryRefused, match=r"the journal in /model cannot be read: .*Permission denied"):
        opened(disk)


def test_files_that_are_not_the_journals_are_left_alone() -> None:
    strangers = {"lock": b"1", "journal-notes.txt": b"hello", "snapshot": b"", "x.damaged-20260102T030405Z": b""}
    disk = ModelDisk(dict(strangers))
    journal = opened(disk).start()
    journal.write_snapshot(journal.rotate(), {}, {})
    assert {name: bytes(disk.entries[name].cache) for name in strangers} == strangers


def test_progress_adds_up_to_the_whole(tmp_path: Path) -> None:
    journal = filled(DiskFiles(tmp_path), [])
    mark = journal.rotate()
    for number in range(20):
        journal.append([[b"%d" % number]])
    journal.write_snapshot(mark, {"state": np.zeros(400_000)}, {})
    journal.close()
    heard: list[tuple[int, int]] = []
    files = DiskFiles(tmp_path)
    recovery = recover(files, OnDamage.STOP, NOW, lambda read, total: heard.append((read, total)))
    during = len(heard)
    list(recovery.units())
    recovery.close()
    assert len({total for _, total in heard}) == 1
    assert [read for read, _ in heard] == sorted(read for read, _ in heard)
    assert 3 < during < len(heard)
    # Space prepared is not read.
    assert 3_000_000 < heard[-1][0] <= heard[-1][1]
