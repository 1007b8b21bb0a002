"""Whoever may connect may do so badly: others are served meanwhile, and what the daemon takes of memory is bounded."""

from __future__ import annotations

import asyncio
import random
import resource
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from tests.support.daemon import DaemonProcess, eventually
from tests.support.http2 import PREFACE, Connection, frame, headers, message, settings
from tests.support.raw_client import STREAM, Client, RawStream, fresh, now_us, request
from tests.support.reports import MINUTE, app, report, workspace
from tests.support.table import rows_of
from tests.system.conftest import NewDaemon, Service

MIB = 1 << 20
MOST_GROWTH = 192 * MIB
"""What a daemon under abuse may take more than before: a multiple of what it was seen to take, and bounded all the same."""
OPENED = PREFACE + settings()
_RST_STREAM = 3


def resident_bytes(daemon: DaemonProcess) -> int:
    return int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.fixture(scope="module")
def service(module_database_url: str, module_daemons: NewDaemon) -> Service:
    """A daemon that was started with as few files as a service manager or a shell may give it."""
    daemon = module_daemons(module_database_url, "--report-interval=1h", "--durability=journal")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        daemon.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return Service(daemon, module_database_url)


class Neighbor:
    """A client that does all right."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._client = Client(service.target)

    def is_served(self) -> None:
        """Its batch is acknowledged, and the row lands."""
        [number] = fresh()
        end = now_us() - MINUTE
        assert self._client.report(report(number, end - 10 * MINUTE, end, of=app(number))) == []
        self._service.daemon.flush()
        assert len(rows_of(self._service.url, workspace(number))) == 1

    def close(self) -> None:
        self._client.stream.close()


@pytest.fixture
def neighbor(service: Service) -> Iterator[Neighbor]:
    """Is there before the abuse and after; what the daemon takes meanwhile stays in its bound."""
    before = resident_bytes(service.daemon)
    neighbor = Neighbor(service)
    try:
        neighbor.is_served()
        yield neighbor
        neighbor.is_served()
    finally:
        neighbor.close()
    assert resident_bytes(service.daemon) - before < MOST_GROWTH


def meanwhile(abuse: Callable[[], None], look: Callable[[], None], times: int = 3) -> None:
    """Look while somebody abuses the daemon again and again."""
    done, begun = threading.Event(), threading.Event()

    def go_on() -> None:
        while not done.is_set():
            abuse()
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        abuser = pool.submit(go_on)
        try:
            begun.wait(60)
            for _ in range(times):
                look()
        finally:
            done.set()
        abuser.result(60)


def test_messages_that_are_too_large_end_their_streams_alone(service: Service, neighbor: Neighbor) -> None:
    def abuse() -> None:
        with RawStream(service.target) as stream:
            stream.send(request(client_id="large"))
            stream.receive()
            stream.send(bytes(9 * MIB))
            assert stream.end().code is grpc.StatusCode.RESOURCE_EXHAUSTED

    meanwhile(abuse, neighbor.is_served)


def test_nothing_is_laid_aside_for_a_message_that_is_announced_to_be_huge(service: Service, neighbor: Neighbor) -> None:
    with ExitStack() as stack:
        for _ in range(50):
            said = OPENED + headers(1) + message(1, bytes(1000), announced=2**32 - 1)
            stack.enter_context(Connection(str(service.daemon.socket), said))
        neighbor.is_served()


@pytest.mark.parametrize("said", [b"", OPENED, OPENED + headers(1)], ids=["nothing", "a preface", "an empty stream"])
def test_1000_idle_connections_keep_nobody_out(service: Service, neighbor: Neighbor, said: bytes) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(Connection(str(service.daemon.socket), said)) for _ in range(1_000)]
        neighbor.is_served()
        assert service.daemon.health() == "SERVING"
        newcomer = Neighbor(service)
        newcomer.is_served()
        newcomer.close()
        # The daemon waits for none of them for ever.
        eventually(lambda: [each.ended() for each in idle].count(False) if said == b"" else 0, lambda left: left == 0)
    eventually(lambda: service.daemon.status().connected_streams, lambda count: count == 1)


def test_a_client_that_sends_and_never_reads_holds_back_itself_alone(service: Service, neighbor: Neighbor) -> None:
    bad = request(1, [report(place, of=app(1, slug="é" * 257)) for place in range(2_000)])
    with ExitStack() as stack:
        rejected = service.daemon.status().reports_rejected
        for place in range(4):
            stuck = stack.enter_context(RawStream(service.target, reads=False))
            stuck.send(request(client_id=f"stuck-{place}"))
            for sequence in range(1, 201):
                bad.sequence = sequence
                stuck.send(bad)
        eventually(lambda: service.daemon.status().reports_rejected - rejected, lambda count: count >= 4 * 32 * 2_000)
        neighbor.is_served()
        assert service.daemon.status().reports_rejected - rejected < 4 * 200 * 2_000


def test_nor_does_one_that_lets_not_a_byte_through(service: Service, neighbor: Neighbor) -> None:
    said = PREFACE + settings(initial_window=0) + headers(1) + message(1, request(client_id="shut").SerializeToString())
    batch = request(1, [report(place, of=app(1)) for place in range(1_000)])
    with Connection(str(service.daemon.socket), said) as shut:
        shut.socket.setblocking(False)
        sent = 0
        try:
            for sequence in range(1, 1_001):
                batch.sequence = sequence
                sent += shut.socket.send(message(1, batch.SerializeToString()))
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass  # nobody takes any more of it
        assert sent < 16 * MIB
        neighbor.is_served()


def test_a_client_that_opens_streams_in_a_loop_does_not_keep_others_from_theirs(
    service: Service, neighbor: Neighbor
) -> None:
    async def open_many() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(service.target, options=options) as channel:
            method = channel.stream_stream(STREAM, request_serializer=bytes, response_deserializer=bytes)
            for _ in range(200):
                call = method()  # type: ignore[call-arg]
                [number] = fresh()
                await call.write(request(client_id=f"loop-{number}").SerializeToString())
                await call.read()
                call.cancel()

    meanwhile(lambda: asyncio.run(open_many()), neighbor.is_served)
    eventually(lambda: service.daemon.status().connected_streams, lambda count: count == 1)
    assert len(service.daemon.status().clients) < 100  # who never reported is not remembered


def test_nor_does_one_that_takes_them_back_before_they_are_open(service: Service, neighbor: Neighbor) -> None:
    burst = b"".join(
        headers(number) + frame(_RST_STREAM, b"\0\0\0\x08", stream=number) for number in range(1, 2_001, 2)
    )
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(Connection(str(service.daemon.socket), OPENED + burst))
        for _ in range(20):
            assert service.daemon.health() == "SERVING"
        neighbor.is_served()


def test_random_bytes_on_the_socket_are_nothing_to_others(service: Service, neighbor: Neighbor) -> None:
    dice = random.Random(20261124)
    for place in range(300):
        begin = (b"", PREFACE, OPENED, OPENED + headers(1))[place % 4]
        noise = dice.randbytes(dice.randrange(1, 4_000))
        if place % 3 == 0:
            noise = b"".join(frame(dice.randrange(10), dice.randbytes(20), stream=place % 5) for _ in range(50))
        with Connection(str(service.daemon.socket)) as connection:
            connection.send(begin + noise)
        if place % 100 == 0:
            neighbor.is_served()


def test_a_slow_loris_holds_its_connections_and_no_more(service: Service, neighbor: Neighbor) -> None:
    first = message(1, request(client_id="slow").SerializeToString())
    path = str(service.daemon.socket)
    with ExitStack() as stack:
        dribbled = [
            (stack.enter_context(Connection(path, said)), slow)
            for said, slow in ((b"", PREFACE), (OPENED, headers(1)), (OPENED + headers(1), first))
            for _ in range(100)
        ]
        for place in range(5):
            for connection, slow in dribbled:
                connection.send(slow[place : place + 1])
            neighbor.is_served()
        # Those that have not said whose they are lose their places.
        eventually(lambda: service.daemon.status().connected_streams, lambda count: count == 1)


def test_streams_that_never_say_whose_they_are_lose_their_places_to_others(new_daemon: NewDaemon) -> None:
    daemon = new_daemon("postgresql://nobody@127.0.0.1:1/none", "--max-streams=5")
    daemon.start()
    with ExitStack() as stack:
        silent = [stack.enter_context(RawStream(daemon.target)) for _ in range(5)]
        eventually(lambda: daemon.status().connected_streams, lambda count: count == 5)
        for stream in silent:
            ended = stream.end()
            assert ended.code is grpc.StatusCode.UNAVAILABLE
            assert ended.details == "no first message, with a client_id, came within 10 s"
        Client(daemon.target).stream.close()
