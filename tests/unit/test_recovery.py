"""Does a ledger that was recovered equal the one that never stopped?

A history of events is made while one ledger lives through it. Another one is made from a snapshot of the first at some
moment and from the journal's records of what came after, in other portions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from appstatsd.collect.rollup import ALL
from appstatsd.collect.rules import SECOND_US, Rules
from appstatsd.collect.sessions import QUEUED, Sessions
from appstatsd.events import (
    Came,
    Event,
    Flushed,
    FlushedOn,
    Forgotten,
    Quarantined,
    QuarantineDropped,
    QuarantineRetried,
    Received,
    RoomChanged,
    Started,
    Went,
    Written,
)
from appstatsd.ledger import Ledger
from appstatsd.packed import unpack
from appstatsd.records import decode_record, encode_record
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.raw_client import request
from tests.support.reports import T0, Report, app, session, user

CLIENTS = ("alpha", "beta", "als/edge/http")
RULES = (Rules(), Rules(session_timeout_us=90 * SECOND_US), Rules(window_us=30 * SECOND_US, client_grace_us=SECOND_US))


@dataclass
class History:
    """Makes events that fit to what the ledger holds."""

    draw: Any
    ledger: Ledger = field(default_factory=lambda: Ledger(Rules()))
    events: list[Event] = field(default_factory=list)
    wall_us: int = T0
    mono_us: int = 1_000_000
    streams: dict[int, str] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)

    def happens(self) -> None:
        """One more event, applied and remembered."""
        step_us = self.draw(st.sampled_from((0, 1, SECOND_US, 31 * SECOND_US, 61 * SECOND_US, 400 * SECOND_US)))
        self.mono_us += step_us
        self.wall_us += self.draw(st.sampled_from((step_us, 0, -SECOND_US)))
        maker = self.draw(st.sampled_from(self._makers()))
        event = maker()
        if event is not None:
            self.events.append(event)
            self.ledger.apply_all([event])

    def _makers(self) -> list[Any]:
        # What happens often stands more than once.
        often = [self._received] * 6 + [self._came, self._flushed] * 2
        return [
            *often,
            self._went,
            self._written,
            self._quarantined,
            self._retried,
            self._dropped,
            self._room,
            self._forgotten,
            self._flushed_on,
            self._started,
        ]

    def _came(self) -> Event:
        stream = self.ledger.next_stream
        self.streams[stream] = self.draw(st.sampled_from(CLIENTS))
        return Came(stream, self.streams[stream], self.wall_us, self.mono_us)

    def _went(self) -> Event | None:
        if not self.streams:
            return None
        stream = self.draw(st.sampled_from(sorted(self.streams)))
        return Went(stream, self.wall_us, self.mono_us)

    def _received(self) -> Event | None:
        if not self.streams:
            return None
        stream = self.draw(st.sampled_from(sorted(self.streams)))
        client_id = self.streams[stream]
        known = self.ledger.collector.clients.get(client_id)
        applied = known.applied_sequence if known else 0
        sequence = max(1, applied + self.draw(st.sampled_from((1, 1, 1, 1, 0, 2))))
        closing = self.draw(st.integers(0, 9)) == 0
        if client_id.startswith("als/"):
            sequence, closing = 0, False
        message = request(sequence, self._reports(), closing=closing, dropped=self.draw(st.integers(0, 3)))
        return Received(stream, client_id, message.SerializeToString(), self.wall_us, self.mono_us)

    def _reports(self) -> list[Report]:
        return [self._report() for _ in range(self.draw(st.integers(1, 4)))]

    def _report(self) -> Report:
        number = self.draw(st.integers(1, 6))
        started_us = T0 + number * SECOND_US
        length_us = self.draw(
            st.sampled_from((None, 0, 20 * SECOND_US, 60 * SECOND_US, 90 * SECOND_US, -1, 86_400 * SECOND_US))
        )
        return Report(
            app(1 + number % 2),
            session(number),
            started_us * 1000,
            0 if length_us is None else (started_us + length_us) * 1000,
            self.draw(st.integers(0, 5)),
        )

    def _flushed(self) -> Event:
        until = self.draw(st.sampled_from((ALL, ALL, 0, 3)))
        return Flushed(self.wall_us, self.wall_us, self.mono_us, until)

    def _flushed_on(self) -> Event:
        return FlushedOn(self.ledger.collector.part_end(self.draw(st.integers(0, 2))), self.wall_us)

    def _written(self) -> Event | None:
        waiting = self.ledger.outbox.peek(self.draw(st.integers(1, 5)))
        return Written(waiting.serials, waiting.as_of_stamp, self.wall_us) if len(waiting) else None

    def _quarantined(self) -> Event | None:
        waiting = self.ledger.outbox.peek(1)
        if not len(waiting):
            return None
        serial = int(waiting.serials[0])
        sqlstate = self.draw(st.sampled_from((None, "23514")))
        return Quarantined(serial, waiting.as_of_stamp, "new row violates a check – «no»", sqlstate, self.wall_us)

    def _retried(self) -> Event:
        return QuarantineRetried(tuple(self.ledger.quarantine.ids()[:2]), self.wall_us)

    def _dropped(self) -> Event:
        return QuarantineDropped(tuple(self.ledger.quarantine.ids()[:1]), self.wall_us)

    def _room(self) -> Event:
        return RoomChanged(self.draw(st.booleans()), self.wall_us, self.mono_us)

    def _forgotten(self) -> Event:
        return Forgotten(user(self.draw(st.integers(1, 2))), self.wall_us)

    def _started(self) -> Event | None:
        if self.draw(st.integers(0, 3)):
            return None
        self.streams.clear()
        self.mono_us = self.draw(st.integers(0, 10**9))  # the clock of another boot
        return Started(self.draw(st.sampled_from(RULES)), self.wall_us, self.mono_us)


def contents(ledger: Ledger) -> dict[str, Any]:
    """All that a ledger holds, for comparison, but for what means nothing: which numbers sessions, groups and apps have,
    and the marks that say in which list a session is."""
    arrays, meta = ledger.to_snapshot()
    arrays = {name.removeprefix("collector/"): array for name, array in arrays.items()}
    arrays["sessions.flags"] = arrays["sessions.flags"] & (Sessions.PERSISTENT - QUEUED)
    arrays["sessions.group"] = arrays["groups.order"][arrays["sessions.group"]]
    keys = unpack(arrays.pop("groups.apps.keys"), arrays.pop("groups.apps.ends"))
    arrays["groups.app"] = np.array([keys[number] for number in arrays["groups.app"].tolist()], np.object_)
    for table in ("sessions", "groups"):
        by_age = np.argsort(arrays[f"{table}.order"])
        for name in arrays:
            if name.startswith(f"{table}.") and name != f"{table}.next_order":
                arrays[name] = arrays[name][by_age]
    return {**{name: _values(array) for name, array in arrays.items()}, **meta}


def _values(array: npt.NDArray[Any]) -> Any:
    return (str(array.dtype), array.tolist()) if array.dtype.names is None else (str(array.dtype), array.tobytes())


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_a_snapshot_and_the_records_after_it_give_the_same_ledger_back(data: st.DataObject) -> None:
    history = History(data.draw)
    before = data.draw(st.integers(0, 40))
    for _ in range(before):
        history.happens()
    arrays, meta = history.ledger.to_snapshot()
    saved = {name: array.copy() for name, array in arrays.items()}
    begin = len(history.events)
    for _ in range(data.draw(st.integers(0, 40))):
        history.happens()

    recovered = Ledger.from_snapshot(saved, meta)
    tail = [decode_record(memoryview(b"".join(encode_record(event)))) for event in history.events[begin:]]
    while tail:
        size = data.draw(st.integers(1, len(tail)))
        recovered.apply_all(tail[:size])
        tail = tail[size:]

    assert contents(recovered) == contents(history.ledger)
    # And what follows is the same too: the lists that a snapshot leaves out are made anew.
    for _ in range(4):
        history.wall_us += 70 * SECOND_US
        history.mono_us += 70 * SECOND_US
        event = Flushed(history.wall_us, history.wall_us, history.mono_us)
        for ledger in (history.ledger, recovered):
            ledger.apply_all([event])
    assert contents(recovered) == contents(history.ledger)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_records_give_back_the_events_that_they_were_made_of(data: st.DataObject) -> None:
    history = History(data.draw)
    for _ in range(data.draw(st.integers(1, 40))):
        history.happens()
    for event in history.events:
        again = decode_record(memoryview(b"".join(encode_record(event))))
        if isinstance(event, Written) and isinstance(again, Written):
            assert again.serials.tolist() == event.serials.tolist()
            event = replace(event, serials=again.serials)
        assert again == event


def test_a_snapshot_takes_no_room_for_what_was_forgotten() -> None:
    ledger = Ledger(Rules())
    reports = [Report(app(1), session(number), T0 * 1000, (T0 + 1) * 1000, 1) for number in range(1, 5001)]
    ledger.apply_all(
        [
            Came(1, "alpha", T0, 0),
            Received(1, "alpha", request(1, reports).SerializeToString(), T0, 0),
            Flushed(T0, T0, 0),
        ]
    )
    full = sum(array.nbytes for array in ledger.to_snapshot()[0].values())
    waiting = ledger.outbox.peek(10)
    ledger.apply_all([Written(waiting.serials, waiting.as_of_stamp, T0)])

    later = T0 + 300 * SECOND_US
    ledger.apply_all([Flushed(later, later, 300 * SECOND_US)])

    assert ledger.collector.sessions == 0
    assert sum(array.nbytes for array in ledger.to_snapshot()[0].values()) < full / 20
    assert ledger.approximate_bytes() < full / 20


def test_a_journal_that_knew_fewer_rules_is_read_with_the_others_as_they_come() -> None:
    rules = Rules(session_timeout_us=90 * SECOND_US)
    record = b"".join(encode_record(Started(rules, T0, 1)))
    assert decode_record(memoryview(record)) == Started(rules, T0, 1)
    assert decode_record(memoryview(record[: 17 + 6 * 8])) == Started(rules, T0, 1)
