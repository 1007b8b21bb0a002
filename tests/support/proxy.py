"""A client in a process of its own, to be frozen or killed: it passes on the messages that the test gives it.

Run with a target it opens a stream, sends each message that comes as a line of base64 on its standard input, and writes
each response in the same form on its standard output.
"""

from __future__ import annotations

import base64
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import grpc
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

from tests.support.raw_client import PATIENCE_SECONDS, STREAM, request
from tests.support.reports import Report

_ROOT = Path(__file__).parents[2]


class Proxy:
    """A client process, with its stream open and its first message answered."""

    def __init__(self, target: str, client_id: str | None = None, *, ping_ms: int = 0) -> None:
        """With `ping_ms` it pings the daemon so often, whether or not it has something to say."""
        self.client_id = client_id or f"proxy-{uuid4()}"
        self.sequence = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.proxy", target, str(ping_ms)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{_ROOT}:{_ROOT / 'daemon'}"},
        )
        self._responses: queue.SimpleQueue[wire.StreamReportsResponse | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="proxy", daemon=True)
        self._reader.start()
        self._send(request(client_id=self.client_id))
        self.held = self.receive().acked_sequence

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._responses.put(wire.StreamReportsResponse.FromString(base64.b64decode(line)))
        self._responses.put(None)

    def _send(self, message: wire.StreamReportsRequest) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(base64.b64encode(message.SerializeToString()).decode() + "\n")
        self._process.stdin.flush()

    def receive(self) -> wire.StreamReportsResponse:
        got = self._responses.get(timeout=PATIENCE_SECONDS)
        assert got is not None, "the stream ended"
        return got

    def report(self, *reports: Report) -> None:
        """Report, and see it acknowledged."""
        self.sequence += 1
        self._send(request(self.sequence, reports))
        while self.receive().acked_sequence < self.sequence:
            pass

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, whatever it is doing; its stream is cut."""
        self._process.kill()
        self._process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self.kill()


def main(target: str, ping_ms: int) -> None:
    options = [("grpc.keepalive_time_ms", ping_ms), ("grpc.http2.max_pings_without_data", 0)] if ping_ms else []
    with grpc.insecure_channel(target, options=options) as channel:
        stream = channel.stream_stream(STREAM, request_serializer=bytes)
        for response in stream(base64.b64decode(line) for line in sys.stdin):
            print(base64.b64encode(response).decode(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
