"""A journal that was cut or damaged anywhere gives back what is whole, and never a wrong record in silence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from appstatsd.journal.damage import OnDamage
from appstatsd.journal.errors import JournalDamaged
from appstatsd.journal.recover import recover
from hypothesis import given, settings

from tests.faults.journal.model_disk import Image, ModelDisk
from tests.faults.journal.wreck import wreckage

UNITS = [[b"one"], [b"two", b""], [b"three" * 20], [b"four"], [b"five", b"5"], [b"six" * 30]]
IN_SNAPSHOT = 2
"""So many of them."""


@dataclass(frozen=True)
class Read:
    """What a recovery gives."""

    snapshot: list[int] | None
    units: list[list[bytes]]
    damaged: bool
    torn: bool


def recovered(image: Image, on_damage: OnDamage = OnDamage.SET_ASIDE, block_bytes: int = 64) -> Read:
    disk = ModelDisk(image)
    disk.block_bytes = block_bytes
    recovery = recover(disk, on_damage, 0.0, lambda _read, _total: None)
    units = [[bytes(record) for record in records] for records in recovery.units()]
    snapshot = recovery.snapshot.arrays["state"].tolist() if recovery.snapshot else None
    return Read(snapshot, units, bool(recovery.damages), recovery.torn is not None)


def journal(block_bytes: int = 64) -> Image:
    """A snapshot, a segment of two units, and one of two more; no space is prepared."""
    disk = ModelDisk()
    disk.block_bytes, disk.ahead_bytes = block_bytes, 0
    recovery = recover(disk, OnDamage.STOP, 0.0, lambda _read, _total: None)
    assert list(recovery.units()) == []
    nonces = iter(range(1000, 2000))
    log = recovery.start(lambda: next(nonces), 2**20)
    for number, records in enumerate(UNITS):
        if number == IN_SNAPSHOT:
            log.write_snapshot(log.rotate(), {"state": np.arange(IN_SNAPSHOT)}, {})
        if number == 4:
            log.rotate()
        log.append([[record] for record in records])
    return {name: inode.durable for name, inode in sorted(disk.entries.items())}


def segments(image: Image) -> list[str]:
    return [name for name in image if name.startswith("journal-")]


def changed(image: Image, name: str, content: bytes) -> Image:
    return {**image, name: content}


def units_of(block_bytes: int, image: Image) -> Iterator[tuple[str, int, int, int]]:
    """File, begin, end of its records, and place in UNITS, of each unit after the snapshot."""
    first, last = segments(image)
    place = IN_SNAPSHOT
    for name in (first, last):
        offset = 0
        for _ in range(2):
            payload = 40 + sum(4 + len(record) for record in UNITS[place])
            yield name, offset, offset + payload, place
            offset += payload + -payload % block_bytes
            place += 1
        assert offset == len(image[name])


def test_the_journal_is_read_whole_where_nothing_happened_to_it() -> None:
    whole = Read([0, 1], UNITS[IN_SNAPSHOT:], damaged=False, torn=False)
    assert recovered(journal()) == whole
    assert recovered(journal(4096), block_bytes=4096) == whole


@pytest.mark.parametrize("block_bytes", [64, 4096])
def test_cut_at_every_byte_it_gives_a_prefix_with_every_unit_before_the_cut(block_bytes: int) -> None:
    image = journal(block_bytes)
    *_, name = segments(image)
    ends = [end for file, _, end, _ in units_of(block_bytes, image) if file == name]
    for cut in range(len(image[name])):
        read = recovered(changed(image, name, image[name][:cut]), OnDamage.STOP, block_bytes)
        # Zeros fill a unit up to the next block: without them it is whole.
        before = IN_SNAPSHOT + sum(end <= cut for end in ends)
        assert read.snapshot == [0, 1]
        assert read.units == UNITS[IN_SNAPSHOT : IN_SNAPSHOT + before]
        whole_units_end_here = any(end <= cut <= end + -end % block_bytes for end in (0, *ends))
        assert read.torn is not whole_units_end_here


@pytest.mark.parametrize("block_bytes", [64, 4096])
def test_a_unit_damaged_at_any_byte_is_lost_alone_and_it_is_said_by_on_damage(block_bytes: int) -> None:
    image = journal(block_bytes)
    bits = range(8) if block_bytes == 64 else [3]
    for name, begin, end, place in units_of(block_bytes, image):
        for at in range(begin, end):
            for bit in bits:
                content = bytearray(image[name])
                content[at] ^= 1 << bit
                spoilt = changed(image, name, bytes(content))
                read = recovered(spoilt, block_bytes=block_bytes)
                last = place == len(UNITS) - 1
                lost_alone = [unit for unit in UNITS[IN_SNAPSHOT:] if unit is not UNITS[place]]
                assert read == Read([0, 1], lost_alone, damaged=not last, torn=last)
                if last:
                    assert recovered(spoilt, OnDamage.STOP, block_bytes) == read
                elif bit == bits[0]:
                    with pytest.raises(JournalDamaged, match=f"{name}, byte {begin}: unit {place + 1} is lost"):
                        recovered(spoilt, OnDamage.STOP, block_bytes)


def test_zeros_between_units_damaged_at_any_byte_cost_nothing() -> None:
    image = journal()
    for name, _, end, _ in units_of(64, image):
        for at in range(end, end + -end % 64):
            content = bytearray(image[name])
            content[at] ^= 1
            assert recovered(changed(image, name, bytes(content))).units == UNITS[IN_SNAPSHOT:]


def test_a_snapshot_damaged_at_any_byte_is_not_taken_and_the_units_after_it_are_kept() -> None:
    image = journal()
    (name,) = [name for name in image if name.startswith("snapshot-")]
    for at in range(len(image[name])):
        content = bytearray(image[name])
        content[at] ^= 1
        spoilt = changed(image, name, bytes(content))
        assert recovered(spoilt) == Read(None, UNITS[IN_SNAPSHOT:], damaged=True, torn=False)
        with pytest.raises(JournalDamaged, match=f"{name}, byte 0"):
            recovered(spoilt, OnDamage.STOP)


@settings(max_examples=600, deadline=None)
@given(wreckage(journal()))
def test_whatever_was_done_to_it_no_wrong_record_comes_back_and_no_loss_before_the_end_goes_unsaid(
    image: Image,
) -> None:
    read = recovered(image)
    everything = UNITS if read.snapshot is None else UNITS[IN_SNAPSHOT:]
    remaining = iter(everything)
    assert all(unit in remaining for unit in read.units), "in order, and each as it was written"
    assert read.snapshot in ([0, 1], None)
    if not read.damaged:
        # What is missing at the very end looks as if it had never been written; before it nothing may be missing.
        assert read.units == everything[: len(read.units)] or (read.snapshot is None and read.units == [])
