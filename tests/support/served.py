"""The gRPC side of the daemon in the test's process: on a real socket, with clocks and a disk of the test's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import grpc
from appstatsd.accesslog.naming import Naming
from appstatsd.addresses import UnixAddress
from appstatsd.collect.rules import Rules
from appstatsd.drain import Drain, FlushCall, Question
from appstatsd.events import Started
from appstatsd.ingest.access_logs import AccessLogs
from appstatsd.ingest.reports import ReportStreams
from appstatsd.ingest.server import REPORT_SERVICE, Server, SocketRights, handlers
from appstatsd.ledger import Ledger

from tests.support.standing import PATIENCE_SECONDS, GatedLog, StandingClock

_T = TypeVar("_T")


class Served:
    """Streams, drain and ledger behind a unix socket; the event loop has a thread of its own."""

    def __init__(self, path: Path, rules: Rules, max_streams: int, naming: Naming | None = None) -> None:
        self.address = UnixAddress(path)
        self.target = self.address.target
        self.clock = StandingClock()
        self.logs = None if naming is None else AccessLogs(naming, self.clock)
        self.log = GatedLog()
        self.failures: list[BaseException] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="served")
        self._thread.start()
        self.ledger = Ledger(rules)
        self.drain = Drain(
            self.ledger,
            self.log,
            self.clock,
            first_flush_us=None,
            flush_interval_us=1,
            timer_flush=lambda: FlushCall(None, lambda _: None),
            answer=lambda answers: self.streams.answer(answers),
            rolled_up=lambda _: None,
            outbox_changed=lambda: None,
            acknowledged=lambda _: None,
            refuse=lambda _: None,
            give_way=lambda _, go_on: go_on(),
            failed=self.failures.append,
        )
        self.drain.put(Started(rules, self.clock.wall_us(), self.clock.mono_us()))
        self.drain.start()
        self.run(self._start(max_streams))

    def run(self, coroutine: Any) -> Any:
        """The result of a coroutine on the event loop."""
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(PATIENCE_SECONDS)

    async def _start(self, max_streams: int) -> None:
        self.streams = ReportStreams(self.drain.put, self.clock, first_stream=1, max_streams=max_streams)
        methods = {"StreamReports": grpc.stream_stream_rpc_method_handler(self.streams.handle)}
        logs = [] if self.logs is None else [self.logs.service(self.streams.serve)]
        self._server = Server([handlers(REPORT_SERVICE, methods), *logs], SocketRights(0o600, None), None)
        await self._server.start([self.address])

    def ask(self, question: Callable[[Ledger], _T]) -> _T:
        """What the ledger says once the drain has dealt with all that came before."""
        answer: Future[_T] = Future()
        self.drain.put(Question(lambda ledger: answer.set_result(question(ledger))))
        return answer.result(PATIENCE_SECONDS)

    def refuse(self, why: str, retry_delay_ms: int) -> None:
        async def refuse() -> None:
            self.streams.refuse(why, retry_delay_ms)

        self.run(refuse())

    def take_again(self) -> None:
        async def take_again() -> None:
            self.streams.take_again()

        self.run(take_again())

    def close(self) -> None:
        self.log.gate.set()
        self.run(self._server.stop(0))
        self.drain.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()
