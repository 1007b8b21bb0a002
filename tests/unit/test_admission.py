"""Is what does not fit held back, told, and let in again?"""

from __future__ import annotations

from dataclasses import dataclass, field

from appstatsd.admission import PATIENCE_US, Admission
from appstatsd.events import Came, Event, Received, RoomChanged


@dataclass
class Disk:
    """How many bytes of messages have room, and what streams were told."""

    room: int = 1_000_000
    refusals: list[bool] = field(default_factory=list)

    def admission(self) -> Admission:
        return Admission(lambda size: size <= self.room, self.refusals.append)


def message(stream: int, size: int = 100) -> Received:
    return Received(stream, "client", bytes(size), 0, 0)


def changes(events: list[Event]) -> list[bool]:
    return [event.room for event in events if isinstance(event, RoomChanged)]


def test_with_room_all_events_go_on_as_they_came() -> None:
    events: list[Event] = [Came(1, "client", 0, 0, 0), message(1)]

    assert Disk().admission().admit(events, 0, 0) == events


def test_without_room_messages_are_held_back_and_all_else_goes_on() -> None:
    came = Came(1, "client", 0, 0, 0)

    going_on = Disk(room=50).admission().admit([came, message(1)], 7, 8)

    assert going_on == [came, RoomChanged(False, 7, 8)]


def test_once_there_is_room_those_held_back_come_first_and_in_their_order() -> None:
    disk = Disk(room=50)
    admission = disk.admission()
    admission.admit([message(1), message(2)], 0, 0)
    admission.admit([message(3)], 0, 1)
    disk.room = 1_000_000

    going_on = admission.admit([message(4)], 9, 10)

    assert going_on == [RoomChanged(True, 9, 10), *(message(stream) for stream in (1, 2, 3, 4))]
    assert not admission.full
    assert disk.refusals == []


def test_room_is_looked_for_though_nobody_sends_anything() -> None:
    disk = Disk(room=50)
    admission = disk.admission()
    admission.admit([message(1)], 0, 0)
    disk.room = 1_000_000

    assert admission.admit([], 0, 1) == [RoomChanged(True, 0, 1), message(1)]


def test_when_it_lasts_streams_are_refused_once_and_what_was_held_back_is_left_to_be_sent_again() -> None:
    disk = Disk(room=50)
    admission = disk.admission()
    admission.admit([message(1)], 0, 0)

    for later_us in (PATIENCE_US, PATIENCE_US + 1, PATIENCE_US + 2):
        assert not changes(admission.admit([], 0, later_us))
    assert disk.refusals == [True]
    disk.room = 1_000_000

    assert admission.admit([], 5, 6) == [RoomChanged(True, 5, 6)]
    assert disk.refusals == [True, False]


def test_room_for_one_message_more_is_not_enough_to_let_clients_in_again() -> None:
    disk = Disk(room=50)
    admission = disk.admission()
    admission.admit([message(1)], 0, 0)
    disk.room = 101

    assert admission.admit([], 0, 1) == []
    assert admission.full
