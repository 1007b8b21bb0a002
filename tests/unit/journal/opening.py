"""Short ways to open, fill and read a journal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from appstatsd.journal.damage import OnDamage
from appstatsd.journal.files import Files
from appstatsd.journal.recover import Recovery, recover
from appstatsd.journal.segments import Journal

NOW = 1_767_323_045.0
"""2026-01-02T03:04:05Z."""

nonces = itertools.count(0x1234_5678_9ABC_DEF0)


@dataclass
class Found:
    """What a recovery gave."""

    recovery: Recovery
    units: list[list[bytes]]

    def start(self, max_bytes: int = 2**30) -> Journal:
        return self.recovery.start(lambda: next(nonces), max_bytes)


def opened(files: Files, on_damage: OnDamage = OnDamage.SET_ASIDE) -> Found:
    """Recover; nothing is written yet."""
    recovery = recover(files, on_damage, NOW, lambda _read, _total: None)
    return Found(recovery, [[bytes(record) for record in records] for records in recovery.units()])


def filled(files: Files, units: Sequence[Sequence[bytes]]) -> Journal:
    """A journal with these units."""
    journal = opened(files).start()
    for records in units:
        journal.append([[record] for record in records])
    return journal
