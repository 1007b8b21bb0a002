"""Whatever clients send, it ends their streams at worst: nothing that comes in may stop the one writer."""

from __future__ import annotations

import random
from typing import Any

import pytest
from appstatsd.collect.rules import Rules
from appstatsd.events import Came, Event, Flushed, Received, Started, Went
from appstatsd.ledger import EndReason, Ledger
from appstatsd.store.copy_body import BodyEncoder
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

from tests.support.reports import HOUR, SECOND, T0

UINT64, UINT32 = 2**64 - 1, 2**32 - 1
HOUR_NS = HOUR * 1000

IDS = (b"", bytes(16), b"\x01" * 16, b"\x02" * 16, b"\xff" * 16, b"short", b"longer than sixteen")
TIMES = (0, 1, 999, UINT64, 2**63, 2**63 - 1, 1_577_836_800_000_000_000)
COUNTS = (0, 1, 2**31 - 1, 2**31, UINT32)
SLUGS = ("", "code", "\0", "x" * 256, "x" * 257, "\U0001f600" * 256)
METHODS = (0, 1, 2, 3, 4, 2**31 - 1, -1, -(2**31))


class Vandal:
    """Makes messages that are right in part."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice

    def time(self) -> int:
        near = T0 * 1000 + self.dice.randrange(-2 * HOUR_NS, HOUR_NS)
        return self.dice.choice((near, near, near, self.dice.choice(TIMES), self.dice.randrange(UINT64)))

    def app(self) -> dict[str, Any]:
        likely = self.dice.random() < 0.7
        ids = (IDS[2],) if likely else IDS
        return {
            "user_id": self.dice.choice(ids),
            "workspace_id": self.dice.choice(ids),
            "agent_id": self.dice.choice(ids),
            "access_method": 1 if likely else self.dice.choice(METHODS),
            "slug_or_port": "code" if likely else self.dice.choice(SLUGS),
        }

    def message(self) -> bytes:
        dice = self.dice
        if dice.random() < 0.05:
            return dice.randbytes(dice.randrange(40))
        message = wire.StreamReportsRequest(
            client_id=dice.choice(("", "", "", "", "a", "b", "x" * 129)),
            sequence=dice.choice((0, 1, 1, 2, 2, 3, 4, 5, UINT64)),
            closing=dice.random() < 0.1,
            dropped_reports=dice.choice((0, 5, UINT64)),
        )
        for _ in range(dice.randrange(4)):
            message.reports.add(
                session_id=dice.choice(IDS),
                session_started_at_unix_nano=self.time(),
                session_ended_at_unix_nano=dice.choice((0, self.time())),
                requests=dice.choice(COUNTS),
                **self.app(),
            )
        columns = message.columns
        for _ in range(dice.randrange(1, 4)):
            columns.apps.add(**self.app())
        for _ in range(dice.randrange(5)):
            columns.app.append(dice.randrange(len(columns.apps) + (dice.random() < 0.05)))
            columns.session_ids += dice.choice((bytes(16), *IDS[2:5]))
            columns.session_started_at_unix_nano.append(self.time())
            columns.session_ended_at_unix_nano.append(dice.choice((0, self.time())))
            columns.requests.append(dice.choice(COUNTS))
        return message.SerializeToString()


@pytest.mark.parametrize("seed", range(100))
def test_whatever_clients_send_the_ledger_goes_on_and_its_rows_can_be_written(seed: int) -> None:
    dice = random.Random(seed)
    vandal = Vandal(dice)
    ledger = Ledger(Rules())
    ledger.apply(Started(Rules(), T0, 0))
    encoder = BodyEncoder()
    streams: dict[str, int] = {}
    wall, mono = T0, 0
    for _ in range(20):
        client_id = dice.choice("ab")
        events: list[Event] = []
        if client_id not in streams:
            streams[client_id] = ledger.next_stream
            events.append(Came(streams[client_id], client_id, wall, mono))
        events.append(Received(streams[client_id], client_id, vandal.message(), wall, mono))
        answer = ledger.apply_all(events)[streams[client_id]]
        assert answer.messages == 1
        if answer.end is not None:
            assert answer.end is EndReason.OK or answer.detail
            ledger.apply(Went(streams.pop(client_id), wall, mono))
        wall, mono = wall + SECOND, mono + SECOND
    pause = dice.randrange(3 * HOUR)
    for now in (wall, wall + pause, wall + 3 * pause):
        rolled_up, _ = ledger.flushed(Flushed(now, now, mono + now - wall))
        assert encoder.body(rolled_up.rows)
    # Whoever does right after all that is served.
    stream = ledger.next_stream
    good = wire.StreamReportsRequest(sequence=1, closing=True)
    good.reports.add(
        user_id=b"\x09" * 16,
        workspace_id=b"\x09" * 16,
        agent_id=b"\x09" * 16,
        access_method=wire.ACCESS_METHOD_PATH,
        slug_or_port="code",
        session_id=b"\x09" * 16,
        session_started_at_unix_nano=T0 * 1000,
    )
    answer = ledger.apply_all(
        [Came(stream, "good", wall, mono), Received(stream, "good", good.SerializeToString(), wall, mono)]
    )[stream]
    assert (answer.acked_sequence, answer.end, answer.rejected) == (1, EndReason.OK, [])
