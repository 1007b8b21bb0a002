"""In which order is a person erased? Nothing is asked of the database before nothing can bring a row back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from appstatsd.collect.person import Person
from appstatsd.deliver.deliverer import Deliverer
from appstatsd.drain import Drain, EventLog, ForgetCall, Forgetful, Question
from appstatsd.errors import StoreUnavailable
from appstatsd.ingest.erasure import Erasure
from appstatsd.ledger import Held
from appstatsd.store.pool import BoundedConnection
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

from tests.support.reports import user

AWAY = StoreUnavailable("the database is away")
REQUEST = wire.ForgetUserRequest(user_id=user(1))


class Parts:
    """A daemon's parts, which tell what they are asked to when the test says so, and a database that is away."""

    def __init__(self) -> None:
        self.calls: list[ForgetCall | Question] = []
        self.waiting: list[Callable[[], None]] = []
        self.connects = 0

    def put(self, call: ForgetCall | Question) -> None:
        self.calls.append(call)

    def erased(self, none_on_its_way: Callable[[], None]) -> None:
        self.waiting.append(none_on_its_way)

    @contextmanager
    def connect(self, seconds: float) -> Iterator[BoundedConnection]:
        self.connects += 1
        raise AWAY
        yield

    @property
    def call(self) -> ForgetCall:
        [call] = self.calls
        assert isinstance(call, ForgetCall)
        return call

    def answers(self) -> AsyncIterator[wire.ForgetUserResponse]:
        erasure = Erasure(cast(Drain, self), cast(Deliverer, self), cast(EventLog, Forgetful()), self.connect)
        return erasure.forget_user(REQUEST, cast(Any, None))


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("disk_first", [True, False])
def test_memory_disk_and_what_is_on_its_way_come_before_the_database(disk_first: bool) -> None:
    async def story() -> None:
        parts = Parts()
        answers = parts.answers()
        first = asyncio.ensure_future(anext(answers))
        await settled()
        assert parts.waiting == []
        parts.call.erased(Held(Person(1, 2, 3), 4, 5))
        await settled()
        [none_on_its_way] = parts.waiting
        told = [parts.call.gone, none_on_its_way]
        for tell in told if disk_first else reversed(told):
            assert not first.done()
            tell()
            await settled()
        answer = await first
        assert parts.connects == 0
        assert (answer.live_sessions, answer.ended_sessions, answer.groups) == (1, 2, 3)
        assert (answer.backlog_rows, answer.quarantined_rows, answer.database_error) == (4, 5, "")
        assert (await anext(answers)).database_error == str(AWAY)
        assert parts.connects == 1
        assert await anext(answers, None) is None

    asyncio.run(story())


def test_whoever_does_not_wait_for_the_answer_does_no_harm() -> None:
    async def story() -> Parts:
        parts = Parts()
        answers = parts.answers()
        first = asyncio.ensure_future(anext(answers))
        await settled()
        first.cancel()
        await settled()
        parts.call.erased(Held(Person(0, 0, 0), 0, 0))
        await settled()
        return parts

    parts = asyncio.run(story())
    parts.call.gone()  # the loop has ended by now
