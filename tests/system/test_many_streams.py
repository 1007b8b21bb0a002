"""Streams are long-lived and many; whoever else asks for something does not notice them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

from tests.support.daemon import DaemonProcess, eventually
from tests.support.raw_client import PATIENCE_SECONDS, STREAM, Client, RawStream, fresh, now_us, request
from tests.support.reports import MINUTE, app, report, workspace
from tests.support.table import rows_of
from tests.system.conftest import NewDaemon

MOST = 600
Call = grpc.aio.StreamStreamCall[wire.StreamReportsRequest, wire.StreamReportsResponse]


@asynccontextmanager
async def open_streams(target: str, count: int, connections: int) -> AsyncIterator[list[Call]]:
    """Streams whose first message has been answered."""
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
            )
            for _ in range(connections)
        ]
        calls: list[Call] = [
            channels[place % connections].stream_stream(
                STREAM,
                request_serializer=wire.StreamReportsRequest.SerializeToString,
                response_deserializer=wire.StreamReportsResponse.FromString,
            )()
            for place in range(count)
        ]
        await asyncio.gather(*(say(call, request(client_id=f"{id(calls)}-{n}")) for n, call in enumerate(calls)))
        yield calls


async def say(call: Call, message: wire.StreamReportsRequest) -> wire.StreamReportsResponse:
    """Send a message, and read one response."""
    await call.write(message)
    response: Any = await call.read()
    assert response is not grpc.aio.EOF, await call.details()
    return response  # type: ignore[no-any-return]


@pytest.fixture
def daemon(new_daemon: NewDaemon, database_url: str) -> DaemonProcess:
    daemon = new_daemon(database_url, "--report-interval=1h", f"--max-streams={MOST}")
    daemon.start()
    return daemon


def with_streams(daemon: DaemonProcess, connections: int, look: Callable[[], None]) -> None:
    async def run() -> None:
        async with open_streams(daemon.target, MOST - 1, connections):
            await asyncio.to_thread(look)

    asyncio.run(run())


@pytest.mark.parametrize("connections", [1, 100])
def test_hundreds_of_silent_streams_starve_neither_flush_nor_status_nor_health_nor_a_client_that_reports(
    daemon: DaemonProcess, database_url: str, connections: int
) -> None:
    def look() -> None:
        [number] = fresh()
        end = now_us() - MINUTE
        assert daemon.health() == "SERVING"
        assert daemon.status().connected_streams == MOST - 1
        with Client(daemon.target) as client:
            for place in range(10):
                client.report(report(number * 1_000 + place, end - 10 * MINUTE, end, of=app(number)))
                daemon.flush()
            assert len(rows_of(database_url, workspace(number))) == 10
            with RawStream(daemon.target) as one_more:
                ended = one_more.end()
        assert ended.code is grpc.StatusCode.UNAVAILABLE
        assert f"its most streams ({MOST}, --max-streams)" in ended.details
        assert ended.trailers["appstats-retry-delay-ms"] == "10000"

    with_streams(daemon, connections, look)
    eventually(lambda: daemon.status().connected_streams, lambda count: count == 0)


def test_hundreds_of_streams_that_report_at_once_are_all_acknowledged(daemon: DaemonProcess, database_url: str) -> None:
    [number] = fresh()
    end = now_us() - MINUTE

    async def run() -> None:
        async with open_streams(daemon.target, 300, 30) as calls:
            for sequence in (1, 2, 3):
                answers = await asyncio.gather(
                    *(
                        say(
                            call,
                            request(
                                sequence,
                                [
                                    report(
                                        number * 1_000_000 + place * 10 + sequence,
                                        end - 10 * MINUTE,
                                        end,
                                        of=app(number),
                                    )
                                ],
                            ),
                        )
                        for place, call in enumerate(calls)
                    )
                )
                assert {answer.acked_sequence for answer in answers} == {sequence}

    asyncio.run(run())
    daemon.flush()
    assert len(rows_of(database_url, workspace(number))) == 900


def test_all_streams_end_when_the_daemon_stops(daemon: DaemonProcess) -> None:
    async def run() -> None:
        async with open_streams(daemon.target, 300, 30) as calls:
            stopping = asyncio.create_task(asyncio.to_thread(daemon.stop))
            codes = [await call.code() for call in calls]
            assert set(codes) == {grpc.StatusCode.UNAVAILABLE}
            trailers = [dict(await call.trailing_metadata()) for call in calls]
            assert {trailer.get("appstats-retry-delay-ms") for trailer in trailers} == {"1000"}
            assert await stopping == 0

    asyncio.run(run())
