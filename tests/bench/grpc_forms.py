"""Which of gRPC's two servers moves bytes for less? An empty bidirectional echo on both, beside a caller of unary calls.

python -m tests.bench.grpc_forms
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Event
from typing import Any

import grpc

STREAM, UNARY = "/bench.Echo/Stream", "/bench.Echo/Unary"
CASES = ((8, 48_000, 1500), (64, 48_000, 200), (8, 100, 3000), (512, 100, 50))
IN_FLIGHT = 8
SPAWN = multiprocessing.get_context("spawn")


class Echo(grpc.GenericRpcHandler):
    """Both methods, over the given functions."""

    def __init__(self, stream: Any, unary: Any) -> None:
        self._stream = grpc.stream_stream_rpc_method_handler(stream)
        self._unary = grpc.unary_unary_rpc_method_handler(unary)

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        return self._stream if call.method == STREAM else self._unary


def serve_threads(address: str, streams: int, done: Event) -> None:
    def stream(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for _ in messages:
            yield b"ack"

    server = grpc.server(ThreadPoolExecutor(streams + 8), handlers=(Echo(stream, lambda message, context: b""),))
    server.add_insecure_port(address)
    server.start()
    done.wait()
    server.stop(0)


def serve_asyncio(address: str, streams: int, done: Event) -> None:
    async def stream(messages: AsyncIterator[bytes], context: Any) -> None:
        while isinstance(await context.read(), bytes):
            await context.write(b"ack")

    async def unary(message: bytes, context: Any) -> bytes:
        return b""

    async def main() -> None:
        server = grpc.aio.server(handlers=(Echo(stream, unary),))
        server.add_insecure_port(address)
        await server.start()
        await asyncio.to_thread(done.wait)
        await server.stop(0)

    asyncio.run(main())


def serve(form: str, address: str, streams: int, done: Event, report: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    (serve_threads if form == "threads" else serve_asyncio)(address, streams, done)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    report.put((cpu, after.ru_maxrss // 1024))


def stream_all(address: str, streams: int, size: int, count: int, report: Any) -> None:
    channel = grpc.insecure_channel(address)
    grpc.channel_ready_future(channel).result(30)
    message = os.urandom(size)

    def run() -> None:
        room = threading.Semaphore(IN_FLIGHT)

        def messages() -> Iterator[bytes]:
            for _ in range(count):
                room.acquire()
                yield message

        for _ in channel.stream_stream(STREAM)(messages()):
            room.release()

    threads = [threading.Thread(target=run) for _ in range(streams)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report.put(time.perf_counter() - began)


def call_unary(address: str, done: Event, report: Any) -> None:
    channel = grpc.insecure_channel(address)
    grpc.channel_ready_future(channel).result(30)
    call = channel.unary_unary(UNARY)
    seconds = []
    while not done.wait(0.01):
        began = time.perf_counter()
        call(b"")
        seconds.append(time.perf_counter() - began)
    report.put(sorted(seconds)[int(len(seconds) * 0.99)])


def measure(form: str, streams: int, size: int, count: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix:{folder}/s"
        called, done = SPAWN.Event(), SPAWN.Event()
        server, client, caller = SPAWN.Queue(), SPAWN.Queue(), SPAWN.Queue()
        processes = [
            SPAWN.Process(target=serve, args=(form, address, streams, done, server)),
            SPAWN.Process(target=stream_all, args=(address, streams, size, count, client)),
            SPAWN.Process(target=call_unary, args=(address, called, caller)),
        ]
        for process in processes:
            process.start()
        seconds = client.get()
        called.set()
        p99 = caller.get()
        done.set()
        cpu, mebibytes = server.get()
        for process in processes:
            process.join()
    total = streams * count
    return f"{cpu / total * 1e6:6.0f} µs, {total / seconds:7,.0f}/s, p99 {p99 * 1e3:4.1f} ms, {mebibytes} MiB"


def main() -> None:
    for streams, size, count in CASES:
        for form in ("threads", "asyncio"):
            print(f"{streams:4} x {size:6} B {form:8} {measure(form, streams, size, count)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
