"""How is a person erased, and who hears how far that is?

The handler of `ForgetUser`. The order matters: first from memory, by an event; then from the state directory, by a
snapshot that takes the place of everything older; then nothing that was taken out to be written may be on its way;
and only then from the database, so that no row comes back. Invariant: what is told as erased is gone for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import structlog

from appstatsd.deliver.deliverer import Deliverer
from appstatsd.drain import Drain, EventLog, ForgetCall, Question
from appstatsd.errors import RowsRefused, StoreUnavailable
from appstatsd.ingest.server import ERASURE_SERVICE, handlers
from appstatsd.ingest.told import Told, serialized
from appstatsd.ledger import Held
from appstatsd.store.removal import Connect, RowsOfPerson
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

_ID_BYTES: Final = 16
_Context = grpc.aio.ServicerContext[Any, Any]


class Erasure:
    """Erases people; on the event loop."""

    def __init__(self, drain: Drain, deliverer: Deliverer, log: EventLog, connect: Connect) -> None:
        self._drain = drain
        self._deliverer = deliverer
        self._event_log = log
        self._connect = connect
        self._log = structlog.get_logger("appstatsd.erasure")

    def service(self) -> grpc.GenericRpcHandler:
        """The service as gRPC wants it."""
        return handlers(
            ERASURE_SERVICE,
            {
                "ForgetUser": grpc.unary_stream_rpc_method_handler(
                    self.forget_user, wire.ForgetUserRequest.FromString, serialized
                )
            },
        )

    async def forget_user(
        self, request: wire.ForgetUserRequest, context: _Context
    ) -> AsyncIterator[wire.ForgetUserResponse]:
        """Erase a person, or say how much there is."""
        if len(request.user_id) != _ID_BYTES or not any(request.user_id):
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"user_id is {request.user_id.hex() or 'empty'}; expected a UUID, 16 bytes, not nil",
            )
        rows = RowsOfPerson(self._connect, request.user_id)
        if request.dry_run:
            yield await self._count(request.user_id, rows)
            return
        answer = await self._erase(request.user_id)
        answer.files_set_aside.extend(self._event_log.set_aside())
        yield answer
        try:
            async for removed in _removed(rows):
                answer.database_rows += removed
                yield answer
        except (RowsRefused, StoreUnavailable) as error:
            answer.database_error = str(error)
            yield answer
        # Whose they were is what was to be forgotten.
        self._log.info(
            "A person was erased",
            sessions=answer.live_sessions + answer.ended_sessions,
            backlog_rows=answer.backlog_rows,
            quarantined_rows=answer.quarantined_rows,
            database_rows=answer.database_rows,
            error=answer.database_error or None,
        )

    async def _count(self, user_id: bytes, rows: RowsOfPerson) -> wire.ForgetUserResponse:
        held: Told[Held] = Told()
        self._drain.put(Question(lambda ledger: held.tell(ledger.held(user_id))))
        answer = _of(await held.value)
        answer.files_set_aside.extend(self._event_log.set_aside())
        try:
            answer.database_rows = await asyncio.to_thread(rows.count)
        except (RowsRefused, StoreUnavailable) as error:
            answer.database_error = str(error)
        return answer

    async def _erase(self, user_id: bytes) -> wire.ForgetUserResponse:
        """From memory and from the state directory, so that nothing of it can reach the database any more."""
        erased: Told[Held] = Told()
        gone: Told[None] = Told()
        none_on_its_way: Told[None] = Told()
        self._drain.put(ForgetCall(user_id, erased.tell, lambda: gone.tell(None)))
        held = await erased.value
        self._deliverer.erased(lambda: none_on_its_way.tell(None))
        await gone.value
        await none_on_its_way.value
        return _of(held)


def _of(held: Held) -> wire.ForgetUserResponse:
    return wire.ForgetUserResponse(
        live_sessions=held.collected.live_sessions,
        ended_sessions=held.collected.ended_sessions,
        groups=held.collected.groups,
        backlog_rows=held.backlog_rows,
        quarantined_rows=held.quarantined_rows,
    )


async def _removed(rows: RowsOfPerson) -> AsyncIterator[int]:
    """How many rows left the database, batch by batch, with pauses as long as the batches took."""
    clock = asyncio.get_running_loop().time
    while True:
        began_s = clock()
        removed = await asyncio.to_thread(rows.remove_some)
        if not removed:
            return
        yield removed
        await asyncio.sleep(clock() - began_s)
