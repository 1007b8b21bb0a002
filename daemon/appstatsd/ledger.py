"""What does the daemon know, and how does it change?

By events alone (events.py), applied one after another by one thread. Invariant: the same events in the same order give
the same state, so a recovery replays them and a test needs nothing but a list of them.

Whose stream is whose is known here too; which batch may come next on it is judged in sequences.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy.typing as npt

from appstatsd.answers import Answer, EndReason, add_answers
from appstatsd.collect.batch import Arrival, Reason
from appstatsd.collect.clients import Client, tells_log
from appstatsd.collect.collector import Collector
from appstatsd.collect.person import Person
from appstatsd.collect.rollup import Flushed as RolledUp
from appstatsd.collect.rules import Rules
from appstatsd.decode import Decoder
from appstatsd.deliver.outbox import Outbox
from appstatsd.deliver.quarantine import Quarantine
from appstatsd.errors import BrokenMessage
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
from appstatsd.sequences import UsedTwice, is_next

_OUTBOX_ROW_BYTES = 160
"""About what a waiting row takes in a snapshot: its cells, its marks, and a share of its app."""


@dataclass(slots=True)
class Tally:
    """Counts since the daemon's start."""

    accepted: int = 0
    rejected: Counter[Reason] = field(default_factory=Counter)
    duplicate: int = 0
    dropped_by_clients: int = 0
    """What clients said they dropped, also those that are forgotten by now."""
    abandoned_before: int = 0
    """Ends that had been inferred when the daemon started."""


@dataclass(frozen=True, slots=True)
class Held:
    """How much is held of one person."""

    collected: Person
    backlog_rows: int
    quarantined_rows: int


class Ledger:
    """Sessions, rows that wait, refused rows and the clients' sequences."""

    def __init__(self, rules: Rules) -> None:
        self.collector = Collector(rules)
        self._decoder = Decoder()
        self.outbox = Outbox(rules.max_clock_skew_us)
        self.quarantine = Quarantine(rules.max_clock_skew_us)
        self.tally = Tally()
        self.last_wall_us = 0
        """The clock at the last event."""
        self.next_stream = 1
        """No stream has had this number yet."""
        self._clients: dict[int, str] = {}
        """The client_id of each open stream."""
        self._streams: dict[str, list[int]] = {}
        """The open streams of each client that has any: one, or several of a proxy that tells its access log."""
        self._lost_events = False
        """Whether some of the events that this recovery replays are missing."""

    @property
    def open_streams(self) -> int:
        """How many streams are open."""
        return len(self._clients)

    def approximate_bytes(self) -> int:
        """About how large a snapshot would be."""
        return self.collector.approximate_bytes() + len(self.outbox) * _OUTBOX_ROW_BYTES

    def to_snapshot(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """All of it: arrays that nobody changes, and what JSON can hold."""
        arrays = {
            f"{part}/{name}": array
            for part, holder in (
                ("collector", self.collector),
                ("outbox", self.outbox),
                ("quarantine", self.quarantine),
            )
            for name, array in holder.to_arrays().items()
        }
        streams = {str(stream): client_id for stream, client_id in self._clients.items()}
        return arrays, {"last_wall_us": self.last_wall_us, "next_stream": self.next_stream, "streams": streams}

    @classmethod
    def from_snapshot(cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> Ledger:
        """The ledger that `to_snapshot` was called on."""
        parts: dict[str, dict[str, npt.NDArray[Any]]] = {"collector": {}, "outbox": {}, "quarantine": {}}
        for key, array in arrays.items():
            part, name = key.split("/", 1)
            parts[part][name] = array
        rules = Rules(*parts["collector"]["rules"].tolist())
        ledger = cls(rules)
        ledger.collector = Collector.from_arrays(parts["collector"])
        ledger.outbox = Outbox.from_arrays(parts["outbox"], rules.max_clock_skew_us)
        ledger.quarantine = Quarantine.from_arrays(parts["quarantine"], rules.max_clock_skew_us)
        ledger.last_wall_us, ledger.next_stream = meta["last_wall_us"], meta["next_stream"]
        ledger._clients = {int(stream): client_id for stream, client_id in meta["streams"].items()}
        for stream, client_id in ledger._clients.items():
            ledger._streams.setdefault(client_id, []).append(stream)
        return ledger

    def apply_all(self, events: Sequence[Event]) -> dict[int, Answer]:
        """Apply events in their order, those of a kind together where that is cheaper; what streams are told of them."""
        answers: dict[int, Answer] = {}
        for kind, run in groupby(events, type):
            if kind is Received:
                add_answers(answers, self.received([event for event in run if isinstance(event, Received)]))
            else:
                for event in run:
                    add_answers(answers, self.apply(event))
        return answers

    def apply(self, event: Event) -> dict[int, Answer]:
        """Apply one event; what streams are told of it, by their numbers. A flush's rows wait in the outbox."""
        before_us, self.last_wall_us = self.last_wall_us, event.wall_us
        match event:
            case Received():
                return self.received([event])
            case Came():
                return self._came(event)
            case Went():
                self._close_stream(event.stream, event.wall_us, event.mono_us)
            case Flushed() | FlushedOn():
                self.flushed(event)
            case Written() | Quarantined() | QuarantineRetried() | QuarantineDropped() if self._lost_events:
                pass  # it names rows by numbers that may have shifted; what is written once more does no harm
            case Written():
                self.outbox.settle(event.serials, event.stamp)
            case Quarantined():
                rows = self.outbox.take_out(event.serial, event.stamp)
                self.quarantine.put(rows, event.message, event.sqlstate, event.wall_us)
            case QuarantineRetried():
                self.outbox.add(self.quarantine.take(event.ids))
            case QuarantineDropped():
                self.quarantine.drop(event.ids)
            case Forgotten():
                self.forgotten(event)
            case RoomChanged(room=True):
                self.collector.release_graces(event.mono_us)
            case RoomChanged():
                self.collector.hold_graces(event.mono_us)
            case Started():
                self._started(event, before_us or event.wall_us)
        return {}

    def received(self, events: Sequence[Received]) -> dict[int, Answer]:
        """Messages came in; all their batches are merged in one pass."""
        self.last_wall_us = events[-1].wall_us
        answers: dict[int, Answer] = {}
        arrivals: list[Arrival] = []
        numbers: list[tuple[Answer, int]] = []

        def merge() -> None:
            if not arrivals:
                return
            for (answer, sequence), arrival, rejections in zip(
                numbers, arrivals, self.collector.accept(arrivals), strict=True
            ):
                answer.rejected += [(sequence, rejection) for rejection in rejections]
                self.tally.accepted += len(arrival.batch) - len(rejections)
                self.tally.rejected.update(rejection.reason for rejection in rejections)
            arrivals.clear()
            numbers.clear()

        for event in events:
            client_id = self._client_of(event)
            if client_id is None:
                continue  # the stream was ended by an earlier event
            answer = answers.setdefault(event.stream, Answer())
            answer.messages += 1
            client = self._client(client_id)
            try:
                request = self._decoder.decode(event.message)
                fresh = tells_log(client_id) or is_next(client, request)
            except BrokenMessage as broken:
                reason = EndReason.ALREADY_EXISTS if isinstance(broken, UsedTwice) else EndReason.INVALID_ARGUMENT
                answer.end, answer.detail = reason, str(broken)
                merge()
                self._close_stream(event.stream, event.wall_us, event.mono_us)
                continue
            self._note_dropped(client, request.dropped_reports)
            if request.batch is not None:
                if fresh:
                    arrivals.append(Arrival(client_id, request.batch, event.wall_us, event.mono_us))
                    numbers.append((answer, request.sequence))
                    if request.sequence:
                        client.applied(request.sequence, request.digest)
                else:
                    self.tally.duplicate += len(request.batch)
                answer.acked_sequence = client.applied_sequence
            if request.closing:
                merge()
                self.collector.close_client(client_id, event.wall_us, event.mono_us)
                answer.end = EndReason.OK
                self._close_stream(event.stream, event.wall_us, event.mono_us)
        merge()
        return answers

    def lost_events(self) -> None:
        """Events that were journaled here cannot be read, so what follows may not fit to what there is."""
        self._lost_events = True
        for client in self.collector.clients:
            client.lost_batches = True

    def flushed(self, event: Flushed | FlushedOn) -> tuple[RolledUp, int]:
        """Roll up, or go on with it; the rows go into the outbox, whose stamp after it is returned too."""
        self.last_wall_us = event.wall_us
        if isinstance(event, Flushed):
            rolled_up = self.collector.flush(event.now_us, event.mono_us, event.until)
        else:
            rolled_up = self.collector.go_on(event.until)
        return rolled_up, self.outbox.add(rolled_up.rows)

    def held(self, user_id: bytes) -> Held:
        """How much is held of this person; changes nothing."""
        person = self.collector.person(user_id)
        return Held(person, self.outbox.count_person(user_id), self.quarantine.count_person(user_id))

    def forgotten(self, event: Forgotten) -> Held:
        """Erase a person; how much there was."""
        self.last_wall_us = event.wall_us
        self._decoder = Decoder()  # which remembers apps, and so whose they are
        person = self.collector.forget_person(event.user_id)
        return Held(person, self.outbox.forget_person(event.user_id), self.quarantine.forget_person(event.user_id))

    def _started(self, event: Started, last_wall_us: int) -> None:
        self.collector.restart(event.rules, event.wall_us, event.mono_us, last_wall_us)
        self.outbox.max_clock_skew_us = self.quarantine.max_clock_skew_us = event.rules.max_clock_skew_us
        self._clients.clear()
        self._streams.clear()
        self._lost_events = False
        self.tally = Tally(abandoned_before=self.collector.abandoned)

    def _note_dropped(self, client: Client, claimed: int) -> None:
        if claimed > client.dropped_reports:
            self.tally.dropped_by_clients += claimed - client.dropped_reports
            client.dropped_reports = claimed

    def _came(self, event: Came) -> dict[int, Answer]:
        answers = {}
        streams = self._streams.setdefault(event.client_id, [])
        if not tells_log(event.client_id):
            for older in streams:
                del self._clients[older]
                answers[older] = Answer(
                    end=EndReason.ABORTED,
                    detail=f"a newer stream took over client_id {event.client_id!r}; "
                    "a client_id is for one process alone",
                )
            streams.clear()
        self._clients[event.stream] = event.client_id
        streams.append(event.stream)
        self.next_stream = max(self.next_stream, event.stream + 1)
        self.collector.came(event.client_id, event.wall_us, event.mono_us)
        client = self._client(event.client_id)
        self._note_dropped(client, event.dropped_reports)
        client.software = event.software
        answers[event.stream] = Answer(greeting=client.applied_sequence)
        return answers

    def _client_of(self, event: Received) -> str | None:
        """Whose open stream the message came in on; None: the stream is not open any more."""
        if self._lost_events and event.stream >= self.next_stream:
            self._came(Came(event.stream, event.client_id, event.wall_us, event.mono_us))
        return self._clients.get(event.stream)

    def _client(self, client_id: str) -> Client:
        client = self.collector.clients.get(client_id)
        assert client is not None, "a client with an open stream is never forgotten"
        return client

    def _close_stream(self, stream: int, wall_us: int, mono_us: int) -> None:
        client_id = self._clients.pop(stream, None)
        if client_id is None:
            return
        streams = self._streams[client_id]
        streams.remove(stream)
        if not streams:
            del self._streams[client_id]
            self.collector.went(client_id, wall_us, mono_us)
