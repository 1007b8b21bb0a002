"""What is in a journal, for a person?

Reads what a recovery would read, and changes nothing. It takes no lock, so that looking never keeps a daemon from
starting; where one runs, the last unit may be on its way and then looks torn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from appstatsd.journal.damage import Damage, OnDamage, noted
from appstatsd.journal.errors import reading
from appstatsd.journal.files import Files
from appstatsd.journal.layout import survey
from appstatsd.journal.reader import JournalReader, TornTail


@dataclass(frozen=True, slots=True)
class Summary:
    """What a start would find."""

    snapshot_bytes: int | None
    """Of the arrays of the snapshot that it would begin with; None: there is none."""
    first_unit: int
    """The first unit after that."""
    units: int
    records: int
    record_bytes: int
    damages: list[Damage]
    """What was acknowledged and cannot be read."""
    torn: TornTail | None
    noted: list[Damage]
    """What an earlier start found and nobody acknowledged."""


def check(files: Files) -> Summary:
    """Read all of it.

    Raises:
        StateDirectoryRefused: it cannot be read.
        JournalVersion: it is of another format.
    """
    with reading(files.where):
        reader = _reader(files)
        first_unit, units, records, record_bytes = reader.next_unit, 0, 0, 0
        for unit in reader.units():
            units += 1
            records += len(unit)
            record_bytes += sum(map(len, unit))
        arrays = reader.snapshot.arrays.values() if reader.snapshot else None
        snapshot_bytes = None if arrays is None else sum(array.nbytes for array in arrays)
        return Summary(
            snapshot_bytes, first_unit, units, records, record_bytes, reader.damages, reader.torn, noted(files)
        )


def export(files: Files, decode: Callable[[memoryview], Any]) -> Iterator[str]:
    """A line of JSON for the snapshot, for each unit, and for each place that cannot be read, in order.

    `decode` makes of a record what JSON can hold.

    Raises:
        StateDirectoryRefused: it cannot be read.
        JournalVersion: it is of another format.
    """
    with reading(files.where):
        reader = _reader(files)
        if reader.snapshot:
            arrays = {name: [str(array.dtype), *array.shape] for name, array in reader.snapshot.arrays.items()}
            yield json.dumps({"snapshot_before_unit": reader.next_unit, "arrays": arrays, "meta": reader.snapshot.meta})
        told = 0
        for unit in reader.units():
            for damage in reader.damages[told:]:
                yield json.dumps({"damage": str(damage)})
            told = len(reader.damages)
            records = [{"bytes": len(record), "record": decode(record)} for record in unit]
            yield json.dumps({"unit": reader.next_unit - 1, "records": records})
        for damage in reader.damages[told:]:
            yield json.dumps({"damage": str(damage)})
        if reader.torn:
            yield json.dumps({"torn": str(reader.torn)})


def _reader(files: Files) -> JournalReader:
    return JournalReader(files, survey(files), OnDamage.SET_ASIDE, "", lambda _read, _total: None)
