"""How fast does a server acknowledge reports, and at what cost? The load, in a process of its own.

Messages are made and serialized beforehand, so that the sender costs little while the time runs. Half of the reports of a
batch are of new sessions, half go on with those of the batch before.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import grpc
import numpy as np
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

STREAM: Final = "/appstats.v1.SessionReportService/StreamReports"
APPS: Final = 100
IN_FLIGHT: Final = 8
_SPAWN: Final = multiprocessing.get_context("spawn")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """What is sent."""

    streams: int
    batch: int
    batches: int
    """On each stream."""
    live: bool = False
    """Whether all sessions are new, and stay live."""

    @property
    def reports(self) -> int:
        return self.streams * self.batch * self.batches


@dataclass(frozen=True)
class Measured:
    """What it took."""

    reports_per_second: float
    cpu_us_per_report: float
    acknowledgement_seconds: list[float]
    """Of each batch, from its sending."""

    def percentile(self, part: float) -> float:
        """Of the acknowledgement times, in milliseconds."""
        return float(np.quantile(self.acknowledgement_seconds, part)) * 1000


def measure(target: str, pid: int, load: Load, pause_seconds: float = 0.0) -> Measured:
    """Send the load to the server of this process id; with a pause between the batches of a stream, at a given pace."""
    results = _SPAWN.Queue()
    begin = _SPAWN.Barrier(2)
    sender = _SPAWN.Process(target=_send_all, args=(target, load, pause_seconds, begin, results))
    sender.start()
    begin.wait(120)
    cpu = cpu_seconds(pid)
    seconds, latencies = results.get(timeout=300)
    cpu = cpu_seconds(pid) - cpu
    sender.join()
    return Measured(load.reports / seconds, cpu / load.reports * 1e6, latencies)


def cpu_seconds(pid: int) -> float:
    """What the process has used so far, in user and in system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _send_all(target: str, load: Load, pause_seconds: float, begin: Any, results: Any) -> None:
    made = [_messages(load, seed) for seed in range(load.streams)]
    channels = [
        grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(min(load.streams, 8))
    ]
    latencies: list[list[float]] = [[] for _ in made]
    ready = threading.Barrier(load.streams + 1)
    threads = [
        threading.Thread(
            target=_send, args=(channels[place % len(channels)], messages, pause_seconds, ready, latencies[place])
        )
        for place, messages in enumerate(made)
    ]
    for thread in threads:
        thread.start()
    ready.wait()
    begin.wait()
    began = time.perf_counter()
    ready.wait()
    for thread in threads:
        thread.join()
    results.put((time.perf_counter() - began, [each for some in latencies for each in some]))


def _send(
    channel: grpc.Channel, messages: list[bytes], pause_seconds: float, ready: threading.Barrier, latencies: list[float]
) -> None:
    room = threading.Semaphore(IN_FLIGHT)
    sent: list[float] = []
    greeted = threading.Event()

    def outgoing() -> Iterator[bytes]:
        yield wire.StreamReportsRequest(client_id=f"load-{uuid4()}").SerializeToString()
        greeted.wait()
        for message in messages:
            room.acquire()
            if pause_seconds:
                time.sleep(pause_seconds)
            sent.append(time.perf_counter())
            yield message

    acked = 0
    answers = channel.stream_stream(STREAM, response_deserializer=wire.StreamReportsResponse.FromString)(outgoing())
    next(answers)
    ready.wait()
    ready.wait()
    greeted.set()
    for answer in answers:
        now = time.perf_counter()
        for place in range(acked, answer.acked_sequence):
            latencies.append(now - sent[place])
            room.release()
        acked = answer.acked_sequence


def _messages(load: Load, seed: int) -> list[bytes]:
    random = np.random.default_rng(seed)
    now_ns = time.time_ns()
    apps = [
        wire.App(
            user_id=random.bytes(16),
            workspace_id=random.bytes(16),
            agent_id=random.bytes(16),
            access_method=1 + number % 3,
            slug_or_port=f"app-{number}",
        )
        for number in range(APPS)
    ]
    before: tuple[bytes, list[int]] = b"", []
    made = []
    fresh = load.batch if load.live else (load.batch + 1) // 2
    for number in range(load.batches):
        ids, app = random.bytes(16 * fresh), random.integers(0, APPS, fresh).tolist()
        message = wire.StreamReportsRequest(sequence=number + 1)
        columns = message.columns
        columns.apps.extend(apps)
        columns.session_ids = ids + before[0][: 16 * (load.batch - fresh)]
        columns.app.extend(app + before[1][: load.batch - fresh])
        count = len(columns.app)
        columns.session_started_at_unix_nano.extend([now_ns - 30_000_000_000] * count)
        columns.session_ended_at_unix_nano.extend([0] * fresh + [now_ns - 1_000_000_000] * (count - fresh))
        columns.requests.extend([1] * count)
        if load.batch < APPS:
            _keep_named_apps(columns)
        before = ids, app
        made.append(message.SerializeToString())
    return made


def _keep_named_apps(columns: wire.SessionReportColumns) -> None:
    """A client sends the apps that its batch names, and no others."""
    used = sorted(set(columns.app))
    places = {app: place for place, app in enumerate(used)}
    kept = [columns.apps[app] for app in used]
    named = [places[app] for app in columns.app]
    del columns.apps[:], columns.app[:]
    columns.apps.extend(kept)
    columns.app.extend(named)
