"""The short form of the fault campaign: each kind of fault once. `make chaos` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.chaos.campaign import FAKETIME, KILLS, campaign

SEED = 20_261_124


@pytest.mark.timeout(900)
@pytest.mark.skipif(not FAKETIME.exists(), reason="needs libfaketime, to set the daemon's clock back and forth")
def test_after_every_kind_of_fault_the_table_says_what_was_acknowledged_once(tmp_path: Path) -> None:
    with campaign(tmp_path, seconds=0, seed=SEED) as waged:
        if not waged.is_mounted:
            pytest.skip("needs the right to mount a small tmpfs, for a disk that is full")
        wrong = waged.run()
        tally = waged.tally
    assert not wrong
    assert all(tally.kills[kind] for kind in KILLS)
    assert tally.full_disks
    assert tally.clock_steps
