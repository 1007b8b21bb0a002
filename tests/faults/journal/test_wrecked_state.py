"""Whatever stands in a state directory, a daemon comes back with what is whole of it, or says in a line why it does not."""

from __future__ import annotations

import json
import random
import threading
import tracemalloc
from collections.abc import Iterator

import pytest
from appstatsd.collect.rules import Rules
from appstatsd.durable import DurableLog, recover_ledger
from appstatsd.events import (
    Came,
    Event,
    Flushed,
    Quarantined,
    QuarantineDropped,
    QuarantineRetried,
    Received,
    RoomChanged,
    Started,
    Went,
    Written,
)
from appstatsd.journal.damage import NOTE, OnDamage
from appstatsd.journal.errors import JournalVersion
from appstatsd.ledger import Ledger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.journal.model_disk import Image, ModelDisk
from tests.faults.journal.wreck import wreckage
from tests.support.raw_client import request
from tests.support.reports import SECOND, app, report
from tests.support.standing import StandingClock

MAX_BYTES = 64 << 10
"""Small, so that there are snapshots."""
MOST_MEMORY = 32 << 20
"""A multiple of what reading state directories of some 10 KiB takes."""
OTHER_VERSION = "journal-0000000001-0000000000000001-0000000000000001.v2"
CLIENTS = ("alpha", "beta")
FUZZED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Life:
    """What happens to a daemon from a start to its end, by dice."""

    def __init__(self, ledger: Ledger, dice: random.Random, clock: StandingClock) -> None:
        self._ledger = ledger
        self._dice = dice
        self._clock = clock
        self._stream = ledger.next_stream

    def events(self, count: int) -> Iterator[Event]:
        clock, dice = self._clock, self._dice
        yield Started(Rules(), clock.wall_us(), clock.mono_us())
        streams = {name: self._stream + place for place, name in enumerate(CLIENTS)}
        for name, stream in streams.items():
            yield Came(stream, name, clock.wall_us(), clock.mono_us(), 0, "test/1")
        for _ in range(count):
            clock.passed += dice.choice((0, SECOND, 40 * SECOND))
            yield self._event(streams)
        for stream in streams.values():
            yield Went(stream, clock.wall_us(), clock.mono_us())

    def _event(self, streams: dict[str, int]) -> Event:
        dice, wall, mono = self._dice, self._clock.wall_us(), self._clock.mono_us()
        kind = dice.randrange(10)
        waiting = self._ledger.outbox.peek(dice.randrange(1, 5))
        if kind == 0 and len(waiting):
            return Written(waiting.serials, waiting.as_of_stamp, wall)
        if kind == 1 and len(waiting):
            return Quarantined(int(waiting.serials[0]), waiting.as_of_stamp, "no", "23514", wall)
        if kind == 2:
            return dice.choice((QuarantineRetried, QuarantineDropped))(tuple(self._ledger.quarantine.ids()[:1]), wall)
        if kind == 3:
            return RoomChanged(dice.random() < 0.8, wall, mono)
        if kind in (4, 5):
            return Flushed(wall, wall, mono)
        name = dice.choice(CLIENTS)
        client = self._ledger.collector.clients.get(name)
        number = (client.applied_sequence if client else 0) + 1
        reports = [
            report(dice.randrange(60), start=wall - dice.randrange(100) * SECOND, end=dice.choice((0, wall)), of=app())
            for _ in range(dice.randrange(1, 6))
        ]
        return Received(streams[name], name, request(number, reports).SerializeToString(), wall, mono)


def recovered(disk: ModelDisk, clock: StandingClock) -> tuple[Ledger, DurableLog]:
    return recover_ledger(
        disk, Rules(), clock, on_damage=OnDamage.SET_ASIDE, max_bytes=MAX_BYTES, progress=lambda _read, _total: None
    )


def lives(disk: ModelDisk, clock: StandingClock, dice: random.Random, count: int) -> None:
    """A daemon starts, lives through so many events, and is gone."""
    ledger, log = recovered(disk, clock)
    for event in Life(ledger, dice, clock).events(count):
        log.append([event])
        ledger.apply_all([event])
        log.applied(ledger)
        for thread in threading.enumerate():
            if thread.name == "snapshot":
                thread.join()
    log.close()


def state(seed: int, lived: int, events: int) -> Image:
    """What some lives left."""
    disk, clock, dice = ModelDisk(), StandingClock(), random.Random(seed)
    for _ in range(lived):
        lives(disk, clock, dice, events)
        clock.passed += dice.choice((SECOND, 300 * SECOND))
    return {name: bytes(inode.cache) for name, inode in sorted(disk.entries.items())}


STATES = [state(1, 1, 12), state(2, 2, 60), state(3, 4, 30)]


def test_the_states_hold_snapshots_and_segments() -> None:
    kinds = {name.partition("-")[0] for image in STATES for name in image}
    assert {"snapshot", "journal"} <= kinds


def comes_back(image: Image) -> None:
    """A daemon starts on it and lives on, with little memory; the one after it finds no more damage."""
    disk, clock = ModelDisk(image), StandingClock()
    clock.passed = 10_000 * SECOND
    tracemalloc.start()
    try:
        lives(disk, clock, random.Random(0), 20)
        lives(ModelDisk({name: bytes(inode.cache) for name, inode in disk.entries.items()}), clock, random.Random(1), 5)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()


@FUZZED
@given(st.sampled_from(STATES).flatmap(wreckage))
def test_what_is_whole_of_a_wrecked_state_is_gone_on_with(image: Image) -> None:
    comes_back(image)


names = st.one_of(
    st.builds("journal-{:010d}-{:016d}-{:016x}.v1".format, st.integers(0, 3), st.integers(0, 9), st.integers(0, 2)),
    st.builds("snapshot-{:010d}-{:016d}.v1".format, st.integers(0, 3), st.integers(0, 9)),
    st.sampled_from(("journal-1.v1", OTHER_VERSION, "x")),
)
contents = st.binary(max_size=400) | st.sampled_from([content for image in STATES for content in image.values()])
values = st.sampled_from((None, 1, "text", [], {}, 1e400))
entries = st.fixed_dictionaries(dict.fromkeys(("file", "offset", "lost", "found_at"), values))
notes = st.sampled_from((None, b"", b"{", b"[" * 100_000)) | entries.map(lambda entry: json.dumps([entry]).encode())
"""Of earlier damage."""


@FUZZED
@given(st.dictionaries(names, contents, max_size=5), notes)
def test_files_of_any_content_under_any_name_are_taken_or_refused_with_a_reason(
    files: Image, note: bytes | None
) -> None:
    image = files if note is None else {**files, NOTE: note}
    if OTHER_VERSION not in image:
        comes_back(image)
        return
    with pytest.raises(JournalVersion):
        comes_back(image)
