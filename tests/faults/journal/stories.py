"""What daemons do to a journal, told on the model disk: one life after another, with interruptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from appstatsd.errors import AppstatsdError

from tests.faults.journal.model_disk import ModelDisk, Site
from tests.faults.journal.witness import Killed, Seen, Witness

Life = Callable[[Witness], None]

Skip = Callable[[Site, int], bool]
"""Is the nth sync from this place in the code left out?"""


def no_skip(_site: Site, _nth: int) -> bool:
    """All syncs are done."""
    return False


def first_life(witness: Witness) -> None:
    """Units of different sizes, two segments more, two snapshots with a unit appended meanwhile."""
    journal = witness.begin()
    witness.append(journal)
    witness.append(journal, 84)
    witness.append(journal, 148)
    witness.snapshot(journal)
    witness.append(journal, 148)
    witness.append(journal)
    witness.append(journal, 84)
    witness.snapshot(journal)
    witness.append(journal, 84)
    witness.look()


def later_life(witness: Witness) -> None:
    """A start on what is there, and two units."""
    journal = witness.begin()
    witness.append(journal)
    witness.append(journal, 84)
    witness.look()


def calls_of(life: Life) -> int:
    """How many calls it makes, on an empty disk, that change the disk or make something safe."""
    witness = Witness(ModelDisk(), {})
    witness.disk.after_call = lambda: None
    life(witness)
    return witness.calls


def sites_without_damage() -> dict[Site, int]:
    """From where two lives call for a sync, and how often."""
    first = Witness(ModelDisk(), {})
    first.disk.after_call = lambda: None
    first_life(first)
    later = Witness(first.disk, {}, told=first.told, safe=first.safe, lives=1)
    first.disk.after_call = lambda: None
    later_life(later)
    return first.disk.sites


def interrupted_lives(seen: Seen, error: BaseException, skip: Skip = no_skip) -> Iterator[None]:
    """The first life ends at each of its calls in turn; what it wrote can be read, and a later life goes on from there."""
    for stop in range(1, calls_of(first_life) + 1):

        def interrupt(call: int, _what: str, stop: int = stop) -> None:
            if call == stop:
                raise error

        disk = ModelDisk()
        disk.skip = skip
        witness = Witness(disk, seen, interrupt=interrupt)
        with pytest.raises((Killed, AppstatsdError)):
            first_life(witness)
        later_life(Witness(disk, seen, told=witness.told, safe=witness.safe, lives=1))
        yield
