"""What was found damaged stays known and is kept, through kills and losses of power; and no fsync could be left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from appstatsd.journal.damage import OnDamage, acknowledge, noted
from appstatsd.journal.recover import Recovery, recover

from tests.faults.journal.model_disk import Image, ModelDisk
from tests.faults.journal.stories import Skip, no_skip, sites_without_damage
from tests.faults.journal.witness import Killed, Violation

UNITS = [b"one", b"two", b"three", b"four"]
WHOLE = [b"one", b"three", b"four"]


def begin(disk: ModelDisk, on_damage: OnDamage) -> Recovery:
    return recover(disk, on_damage, 0.0, lambda _read, _total: None)


def replay(recovery: Recovery) -> list[bytes]:
    before = recovery.snapshot.arrays["units"].tobytes().split(b",") if recovery.snapshot else []
    return before + [bytes(record) for records in recovery.units() for record in records]


def damaged_image() -> tuple[str, bytes]:
    """The name and the content of a segment of four units, the second one spoilt."""
    disk = ModelDisk()
    recovery = begin(disk, OnDamage.STOP)
    assert replay(recovery) == []
    journal = recovery.start(lambda: 1, 2**20)
    for unit in UNITS:
        journal.append([[unit]])
    ((name, inode),) = disk.entries.items()
    return name, inode.durable.replace(b"two", b"tvo")[: 4 * disk.block_bytes]


class DamageWitness:
    """A daemon starts on a damaged journal, takes a snapshot, and a person acknowledges; it may be killed and try again."""

    def __init__(self, skip: Skip) -> None:
        self.name, self.content = damaged_image()
        self.set_aside_as = f"{self.name}.damaged-19700101T000000Z"
        self.disk = ModelDisk({self.name: self.content})
        self.disk.skip = skip
        self.disk.before_call = self.before
        self.disk.after_call = self.look
        self.stop: int | None = None
        self.calls = 0
        self.states = 0
        self.told = list(WHOLE)
        self.safe = len(WHOLE)
        self.known = self.set_aside = self.acknowledging = self.acknowledged = False

    def before(self, _what: str) -> None:
        self.calls += 1
        if self.calls == self.stop:
            raise Killed

    def live(self) -> None:
        recovery = begin(self.disk, OnDamage.SET_ASIDE)
        self.told = replay(recovery)
        journal = recovery.start(lambda: 100 + self.calls, 2**20)
        self.safe = len(self.told)
        self.known = True
        state, mark = list(self.told), journal.rotate()
        self.append(journal.append)
        journal.write_snapshot(mark, {"units": np.frombuffer(b",".join(state), np.uint8)}, {})
        self.set_aside = True
        self.append(journal.append)
        self.acknowledging = True
        acknowledge(self.disk)
        self.acknowledged = True
        self.look()

    def append(self, append: Callable[[list[list[bytes]]], None]) -> None:
        self.told.append(b"unit %d" % len(self.told))
        append([[self.told[-1]]])
        self.safe = len(self.told)

    def look(self) -> None:
        for image in self.disk.images():
            self.states += 1
            self.judge(image)

    def judge(self, image: Image) -> None:
        disk = ModelDisk(image)
        recovery = begin(disk, OnDamage.SET_ASIDE)
        found = replay(recovery)
        check(self.safe <= len(found) and found == self.told[: len(found)], "a unit that was whole is lost")
        known = {damage.file for damage in noted(disk)}
        check(not self.known or self.acknowledging or known == {self.name}, "nobody knows of the damage any more")
        check(not self.acknowledged or not known, "it was acknowledged, and there it is again")
        check(bool(known or recovery.damages) or self.acknowledging, "damage was not noticed")
        kept_as = [name for name, content in image.items() if content.startswith(self.content)]
        check(bool(kept_as), "the damaged file is gone")
        check(not self.set_aside or kept_as == [self.set_aside_as], "the damaged file was not set aside")


def check(kept: bool, broken: str) -> None:
    if not kept:
        raise Violation(broken)


def test_damage_stays_known_and_its_file_is_kept_through_a_power_loss_at_any_moment() -> None:
    witness = DamageWitness(no_skip)
    witness.live()
    print(f"{witness.states} states over {witness.calls} calls")
    assert witness.acknowledged


def test_a_daemon_that_is_killed_while_it_deals_with_damage_deals_with_it_at_its_next_start() -> None:
    whole = DamageWitness(no_skip)
    whole.live()
    for stop in range(1, whole.calls + 1):
        witness = DamageWitness(no_skip)
        witness.stop = stop
        with pytest.raises(Killed):
            witness.live()
        witness.live()


def test_with_any_one_fsync_taken_out_damage_is_forgotten_or_its_file_is_gone() -> None:
    whole = DamageWitness(no_skip)
    whole.live()
    # Those that a journal without damage needs too are taken out in test_power_loss.
    of_damage = whole.disk.sites.keys() - sites_without_damage().keys()
    places = [(site, nth) for site in of_damage for nth in range(1, whole.disk.sites[site] + 1)]
    missed = [place for place in places if not breaks_a_promise(lambda site, nth, place=place: (site, nth) == place)]
    print(f"{len(places)} fsyncs, each taken out once")
    assert not missed
    assert {file for (file, _), _ in places} == {"damage.py", "segments.py"}


def breaks_a_promise(skip: Skip) -> bool:
    try:
        DamageWitness(skip).live()
    except Violation:
        return True
    return False
