"""A proxy of the fault campaign: a process that reports sessions by hand, and writes down what it did before it does it.

    python -m tests.faults.chaos.reporter TARGET DIARY SEED

It speaks the protocol of SPEC section 1 with nothing of the project's own but the generated messages: it resends what was
not acknowledged under its old numbers, reports its live sessions again, and on SIGTERM ends all and says `closing`.
The diary has a JSON line for each batch before it is sent, each greeting and each acknowledgement, so that whoever
reads it knows what was promised even if the process is killed at any moment.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

import grpc
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

STREAM: Final = "/appstats.v1.SessionReportService/StreamReports"
SECOND: Final = 1_000_000
APPS: Final = 12
IN_FLIGHT: Final = 4
LIVE: Final = 30
PACE_SECONDS: Final = 0.15
"""Between two batches, on average: what six proxies report is remembered for minutes, in a small state directory."""


def app(number: int) -> wire.App:
    """The campaign's app of this number."""
    return wire.App(
        user_id=bytes([1]) + number.to_bytes(15, "big"),
        workspace_id=bytes([2]) + (number // 2).to_bytes(15, "big"),
        agent_id=bytes([3]) + (number // 3).to_bytes(15, "big"),
        access_method=1 + number % 3,
        slug_or_port=f"app-{number}",
    )


class Diary:
    """Lines that are in the file when `write` returns, whoever dies then."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, **entry: Any) -> None:
        os.write(self._file, json.dumps(entry, separators=(",", ":")).encode() + b"\n")


class Reporter:
    """One client_id, its batches and its live sessions."""

    def __init__(self, target: str, diary: Diary, seed: int, closing: threading.Event) -> None:
        self._target = target
        self._diary = diary
        self._random = random.Random(seed)
        self._client_id = f"chaos-{seed}-{os.getpid()}"
        self._sequence = 0
        self._unacked: dict[int, wire.StreamReportsRequest] = {}
        self._live: dict[bytes, list[Any]] = {}
        self._acked = 0
        self._closing = closing
        self._diary.write(client=self._client_id)

    def run(self) -> None:
        """Report until told to close, and until that is confirmed."""
        while True:
            with contextlib.suppress(grpc.RpcError):
                if self._stream():
                    self._diary.write(closed=True)
                    return
            time.sleep(self._random.uniform(0.02, 0.3))

    def _stream(self) -> bool:
        outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        with grpc.insecure_channel(
            self._target,
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 500)],
        ) as channel:
            call = channel.stream_stream(STREAM, response_deserializer=wire.StreamReportsResponse.FromString)
            answers = call(iter(outgoing.get, None))
            outgoing.put(wire.StreamReportsRequest(client_id=self._client_id).SerializeToString())
            try:
                held = next(answers).acked_sequence
                # What the daemon holds and we never heard of was journaled, and not acknowledged, when it died.
                self._diary.write(greeting=held, known=self._acked)
                self._heard(held)
                for message in self._unacked.values():
                    outgoing.put(message.SerializeToString())
                if self._live:
                    self._send(outgoing, list(self._live.items()))
                self._converse(outgoing, answers)
                return self._closing.is_set() and answers.code() is grpc.StatusCode.OK
            finally:
                outgoing.put(None)
                answers.cancel()

    def _converse(self, outgoing: queue.SimpleQueue[bytes | None], answers: Iterator[Any]) -> None:
        said_closing = False
        while True:
            while len(self._unacked) < IN_FLIGHT and not self._closing.is_set():
                self._send(outgoing, self._news())
                time.sleep(self._random.uniform(0, 2 * PACE_SECONDS))
            if self._closing.is_set() and not said_closing and not self._unacked:
                if self._live:
                    for session in self._live.values():
                        session[2] = _now()
                    self._send(outgoing, list(self._live.items()))
                else:
                    said_closing = True
                    outgoing.put(wire.StreamReportsRequest(closing=True).SerializeToString())
            answer = next(answers, None)
            if answer is None:
                return
            for rejected in answer.rejected:
                self._diary.write(rejected=rejected.message, sequence=rejected.sequence, index=rejected.index)
            self._heard(answer.acked_sequence)

    def _heard(self, sequence: int) -> None:
        if sequence > self._acked:
            self._acked = sequence
            self._diary.write(acked=sequence)
            for number in [number for number in self._unacked if number <= sequence]:
                del self._unacked[number]

    def _news(self) -> list[tuple[bytes, list[Any]]]:
        """Sessions that began, went on or ended: app, start, end (0: live), requests."""
        rnd, now = self._random, _now()
        news: dict[bytes, list[Any]] = {}
        for _ in range(rnd.randint(1, 60)):
            ago = rnd.randint(0, 100 * SECOND)
            lasted = rnd.randint(0, min(ago, 58 * SECOND) if rnd.random() < 0.7 else ago)
            news[self._new_id()] = [
                rnd.randrange(APPS),
                _no_edge(now - ago),
                _no_edge(now - ago) + lasted,
                rnd.randint(1, 9),
            ]
        while len(self._live) < LIVE:
            self._live[self._new_id()] = [rnd.randrange(APPS), _no_edge(now - rnd.randint(0, 100 * SECOND)), 0, 1]
        for session_id in rnd.sample(sorted(self._live), 6):
            session = self._live[session_id]
            session[3] += rnd.randint(0, 5)
            if rnd.random() < 0.3:
                session[2] = max(now, session[1])
            news[session_id] = list(session)
        return list(news.items())

    def _send(self, outgoing: queue.SimpleQueue[bytes | None], sessions: list[tuple[bytes, list[Any]]]) -> None:
        self._sequence += 1
        message = wire.StreamReportsRequest(sequence=self._sequence)
        columns = message.columns
        columns.apps.extend(app(number) for number in range(APPS))
        columns.session_ids = b"".join(session_id for session_id, _ in sessions)
        for session_id, (number, started_us, ended_us, requests) in sessions:
            columns.app.append(number)
            columns.session_started_at_unix_nano.append(started_us * 1000)
            columns.session_ended_at_unix_nano.append(ended_us * 1000)
            columns.requests.append(requests)
            if ended_us:
                self._live.pop(session_id, None)
        self._unacked[self._sequence] = message
        self._diary.write(batch=self._sequence, reports=[(session_id.hex(), *rest) for session_id, rest in sessions])
        outgoing.put(message.SerializeToString())

    def _new_id(self) -> bytes:
        return UUID(int=self._random.getrandbits(128), version=4).bytes


def _now() -> int:
    return time.time_ns() // 1000


def _no_edge(time_us: int) -> int:
    """Not a whole minute: a row whose start is one is a rolled-up row, for whoever reads the table."""
    return time_us + (time_us % (60 * SECOND) == 0)


def main(target: str, diary: str, seed: str) -> None:
    closing = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: closing.set())  # before the diary says that it is there
    Reporter(target, Diary(diary), int(seed), closing).run()


if __name__ == "__main__":
    main(*itertools.islice(sys.argv, 1, 4))
