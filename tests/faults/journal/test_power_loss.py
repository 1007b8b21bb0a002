"""A loss of power at any moment, in every way, loses nothing that was acknowledged; and no fsync could be left out.

A story is told on the model disk. After every call that changes the disk, or makes something safe, every state that a
loss of power could leave at that moment is recovered from. What comes back must be all that was acknowledged, in order,
and at most the one unit more that was being written; and none of it may look like damage.
"""

from __future__ import annotations

import errno

import pytest

from tests.faults.journal.model_disk import ModelDisk
from tests.faults.journal.stories import (
    Skip,
    calls_of,
    first_life,
    interrupted_lives,
    later_life,
    sites_without_damage,
)
from tests.faults.journal.witness import Killed, Seen, Violation, Witness


def test_every_state_that_a_power_loss_may_leave_gives_back_all_that_was_acknowledged() -> None:
    seen: Seen = {}
    first_life(Witness(ModelDisk(), seen))
    after_one_life = list(seen.items())
    for image, found in after_one_life:
        later_life(Witness(ModelDisk(dict(image)), seen, told=list(found), safe=len(found), lives=1))
    print(
        f"{len(after_one_life)} states after one life; {len(seen)} with a loss of power in each and in a life after it"
    )
    assert len(after_one_life) > 300
    assert len(seen) > 10_000


@pytest.mark.parametrize(
    "error",
    [Killed(), OSError(errno.EIO, "I/O error"), OSError(errno.ENOSPC, "no space left")],
    ids=["kill", "EIO", "ENOSPC"],
)
def test_what_a_killed_or_failed_daemon_left_is_safe_before_the_next_one_builds_on_it(error: BaseException) -> None:
    seen: Seen = {}
    lives = sum(1 for _ in interrupted_lives(seen, error))
    print(f"{lives} interrupted lives, {len(seen)} states")
    assert lives == calls_of(first_life)


def test_with_any_one_fsync_taken_out_a_power_loss_loses_something_acknowledged() -> None:
    seen: Seen = {}
    sites = sites_without_damage()
    missed = []
    for site, times in sites.items():
        for nth in range(1, times + 1):
            if not breaks_a_promise(seen, lambda at, count, site=site, nth=nth: (at, count) == (site, nth)):
                missed.append((site, nth))
    print(f"{sum(sites.values())} fsyncs from {len(sites)} places, each taken out once")
    assert not missed
    assert {file for file, _ in sites} == {"files.py", "segments.py", "snapshot.py"}


def breaks_a_promise(seen: Seen, skip: Skip) -> bool:
    disk = ModelDisk()
    disk.skip = skip
    try:
        first_life(Witness(disk, seen))
        for _ in interrupted_lives(seen, Killed(), skip):
            pass
    except Violation:
        return True
    return False
