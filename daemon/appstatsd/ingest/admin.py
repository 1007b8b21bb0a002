"""What can operators ask for?

The handlers of `Flush`, `GetStatus` and the quarantine. Each asks the drain, which answers between two drains, so that
what is told is what one moment held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import grpc

from appstatsd.clock import Clock
from appstatsd.collect.apps import AGENT, METHOD, USER, WORKSPACE, slug_or_port
from appstatsd.deliver.asks import FlushOutcome
from appstatsd.deliver.quarantine import Quarantined
from appstatsd.drain import Drain, Question
from appstatsd.events import QuarantineDropped, QuarantineRetried
from appstatsd.flushes import Flushes
from appstatsd.ingest.server import QUARANTINE_SERVICE, REPORT_SERVICE, handlers
from appstatsd.ingest.told import Told, serialized
from appstatsd.ledger import Ledger
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

_PAGE_ROWS = 1000
_T = TypeVar("_T")
_Context = grpc.aio.ServicerContext[Any, Any]


class Admin:
    """Answers operators; on the event loop."""

    def __init__(
        self,
        drain: Drain,
        flushes: Flushes,
        clock: Clock,
        status: Callable[[Ledger], wire.GetStatusResponse],
        *,
        test_clock: bool,
    ) -> None:
        self._drain = drain
        self._flushes = flushes
        self._clock = clock
        self._status = status
        self._test_clock = test_clock

    def services(self, *report_methods: tuple[str, grpc.RpcMethodHandler[Any, Any]]) -> list[grpc.GenericRpcHandler]:
        """The services as gRPC wants them; `report_methods` are the other methods of the report service."""
        unary = grpc.unary_unary_rpc_method_handler
        return [
            handlers(
                REPORT_SERVICE,
                {
                    **dict(report_methods),
                    "Flush": unary(self.flush, wire.FlushRequest.FromString, serialized),
                    "GetStatus": unary(self.get_status, wire.GetStatusRequest.FromString, serialized),
                },
            ),
            handlers(
                QUARANTINE_SERVICE,
                {
                    "ListQuarantine": unary(self.list_quarantine, wire.ListQuarantineRequest.FromString, serialized),
                    "RetryQuarantine": unary(self.retry_quarantine, wire.RetryQuarantineRequest.FromString, serialized),
                    "DropQuarantine": unary(self.drop_quarantine, wire.DropQuarantineRequest.FromString, serialized),
                },
            ),
        ]

    async def flush(self, request: wire.FlushRequest, context: _Context) -> wire.FlushResponse:
        """Roll up, and answer once every row is in the database."""
        as_of_us = request.as_of_unix_nano // 1000 or None
        if as_of_us is not None and not self._test_clock:
            await _abort(
                context,
                grpc.StatusCode.FAILED_PRECONDITION,
                "as_of_unix_nano is set, and the daemon runs without --enable-test-clock; leave it out",
            )
        outcome = await self.flush_now(as_of_us)
        if outcome.error is not None:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, str(outcome.error))
        return wire.FlushResponse(rows_written=outcome.rows_written, backlog_rows=outcome.backlog_rows)

    async def flush_now(self, as_of_us: int | None) -> FlushOutcome:
        """Roll up, and wait until every row is in the database, or can't be; no longer than a flush may take."""
        outcome: Told[FlushOutcome] = Told()
        self._drain.put(self._flushes.call(as_of_us, outcome.tell))
        return await outcome.value

    async def get_status(self, request: wire.GetStatusRequest, context: _Context) -> wire.GetStatusResponse:
        """What the daemon holds and how it is doing."""
        return await self._ask(self._status)

    async def list_quarantine(
        self, request: wire.ListQuarantineRequest, context: _Context
    ) -> wire.ListQuarantineResponse:
        """Show refused rows, a page at a time."""
        rows = await self._ask(lambda ledger: ledger.quarantine.page(request.after_id, _PAGE_ROWS))
        return wire.ListQuarantineResponse(rows=[_shown(row) for row in rows])

    async def retry_quarantine(
        self, request: wire.RetryQuarantineRequest, context: _Context
    ) -> wire.RetryQuarantineResponse:
        """Put refused rows back into the backlog."""
        ids, unknown = await self._chosen(request, context)
        self._drain.put(QuarantineRetried(ids, self._clock.wall_us()))
        await self._ask(_nothing)  # which is answered after the event
        return wire.RetryQuarantineResponse(rows_retried=len(ids), unknown_ids=unknown)

    async def drop_quarantine(
        self, request: wire.DropQuarantineRequest, context: _Context
    ) -> wire.DropQuarantineResponse:
        """Forget refused rows for good."""
        ids, unknown = await self._chosen(request, context)
        self._drain.put(QuarantineDropped(ids, self._clock.wall_us()))
        await self._ask(_nothing)
        return wire.DropQuarantineResponse(rows_dropped=len(ids), unknown_ids=unknown)

    async def _chosen(
        self, request: wire.RetryQuarantineRequest | wire.DropQuarantineRequest, context: _Context
    ) -> tuple[tuple[int, ...], list[int]]:
        if bool(request.ids) == request.all:
            await _abort(
                context, grpc.StatusCode.INVALID_ARGUMENT, "expected either ids or all; say which rows are meant"
            )
        known = await self._ask(lambda ledger: ledger.quarantine.ids())
        if request.all:
            return tuple(known), []
        wanted = set(request.ids)
        return tuple(sorted(wanted.intersection(known))), sorted(wanted.difference(known))

    async def _ask(self, look: Callable[[Ledger], _T]) -> _T:
        seen: Told[_T] = Told()
        self._drain.put(Question(lambda ledger: seen.tell(look(ledger))))
        return await seen.value


def _nothing(ledger: Ledger) -> None:
    pass


def _shown(row: Quarantined) -> wire.QuarantinedRow:
    cells = row.cells
    return wire.QuarantinedRow(
        id=row.id,
        user_id=row.app[USER],
        workspace_id=row.app[WORKSPACE],
        agent_id=row.app[AGENT],
        access_method=wire.AccessMethod.Name(row.app[METHOD]),
        slug_or_port=slug_or_port(row.app),
        session_id=cells["session_id"][0].tobytes(),
        session_started_at_unix_nano=int(cells["started_us"][0]) * 1000,
        session_ended_at_unix_nano=int(cells["ended_us"][0]) * 1000,
        requests=int(cells["requests"][0]),
        sessions=int(cells["sessions"][0]),
        message=row.message,
        sqlstate=row.sqlstate or "",
        quarantined_at_unix_nano=row.at_us * 1000,
    )


async def _abort(context: _Context, status: grpc.StatusCode, detail: str) -> NoReturn:
    await context.abort(status, detail)
    raise AssertionError("abort does not return")
