"""How does a test run the daemon for real? As a process of its own, through the installed command, ended by its pid.

Nothing here sleeps: `ready` is a line on standard output, the log is read as it comes and waited on, and what can only be
asked for (the status, the health) is asked again until it fits or the patience is over.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
from appstatsd.addresses import UnixAddress
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire
from grpc_health.v1 import health_pb2

COMMAND = Path(sys.executable).with_name("appstatsd")
PATIENCE_SECONDS = 60.0
SERVICE = "/appstats.v1.SessionReportService"

_OWN_SUBCHANNEL = ("grpc.use_local_subchannel_pool", 1)
_T = TypeVar("_T")


def eventually(look: Callable[[], _T], fits: Callable[[_T], bool], seconds: float = PATIENCE_SECONDS) -> _T:
    """Ask again until the answer fits; for what nobody announces."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not fits(seen := look()):
        assert time.monotonic() < deadline, f"still {seen!r} after {seconds} s"
        pause.wait(0.02)
    return seen


@contextmanager
def connected(target: str, *options: tuple[str, object]) -> Iterator[grpc.Channel]:
    """A channel with a connection of its own."""
    channel = grpc.insecure_channel(target, options=[_OWN_SUBCHANNEL, *options])
    try:
        yield channel
    finally:
        channel.close()


class Caller:
    """Asks a daemon what operators ask; every call has a connection of its own, and a deadline."""

    def __init__(self, target: str) -> None:
        self.target = target

    def flush(self, as_of_us: int = 0, seconds: float = PATIENCE_SECONDS) -> wire.FlushResponse:
        """Flush now, or at the time of a test's own."""
        answer: wire.FlushResponse = self.call(
            f"{SERVICE}/Flush", wire.FlushRequest(as_of_unix_nano=as_of_us * 1000), wire.FlushResponse, seconds
        )
        return answer

    def status(self) -> wire.GetStatusResponse:
        answer: wire.GetStatusResponse = self.call(
            f"{SERVICE}/GetStatus", wire.GetStatusRequest(), wire.GetStatusResponse
        )
        return answer

    def quarantine(self) -> list[wire.QuarantinedRow]:
        answer: wire.ListQuarantineResponse = self.call(
            "/appstats.v1.QuarantineService/ListQuarantine", wire.ListQuarantineRequest(), wire.ListQuarantineResponse
        )
        return list(answer.rows)

    def forget(self, user_id: bytes, *, dry_run: bool = False) -> wire.ForgetUserResponse:
        """Erase a person, or count; the last of the answers."""
        with connected(self.target) as channel:
            call = channel.unary_stream(
                "/appstats.v1.ErasureService/ForgetUser",
                request_serializer=wire.ForgetUserRequest.SerializeToString,
                response_deserializer=wire.ForgetUserResponse.FromString,
            )
            *_, answer = call(wire.ForgetUserRequest(user_id=user_id, dry_run=dry_run), timeout=PATIENCE_SECONDS)
        assert isinstance(answer, wire.ForgetUserResponse)
        return answer

    def health(self, name: str = "") -> str:
        """The health of one of the service's names, or the status that refuses to say."""
        try:
            answer: health_pb2.HealthCheckResponse = self.call(
                "/grpc.health.v1.Health/Check",
                health_pb2.HealthCheckRequest(service=name),
                health_pb2.HealthCheckResponse,
            )
        except grpc.RpcError as error:
            return str(error.code().name)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    def call(self, method: str, request: Any, response: Any, seconds: float = PATIENCE_SECONDS) -> Any:
        with connected(self.target) as channel:
            unary = channel.unary_unary(
                method, request_serializer=type(request).SerializeToString, response_deserializer=response.FromString
            )
            return unary(request, timeout=seconds)


class DaemonProcess(Caller):
    """One daemon process; its state, and its socket unless a test says otherwise, are in a folder of the test's."""

    def __init__(
        self, folder: Path, database_url: str | None, *flags: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.socket = folder / "a.sock"
        super().__init__(UnixAddress(self.socket).target)
        self.arguments = [
            "serve",
            *(() if _given("--listen", flags) else (f"--listen=unix:{self.socket}",)),
            f"--state-dir={folder / 'state'}",
            *(() if database_url is None else (f"--database-url={database_url}",)),
            *(() if _given("--durability", flags) else ("--durability=memory",)),
            "--log-format=json",
            *flags,
        ]
        self.log: list[dict[str, Any]] = []
        """The events that it has logged so far, this start's and earlier ones'."""
        self.output: list[str] = []
        """What it said that is no event: its standard output, and what is no JSON on its standard error."""
        self.addresses: list[str] = []
        """What the ready line names."""
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[str] | None = None
        self._changed = threading.Condition()  # protects `log`, `output` and `_open`
        self._open = 0
        self._readers: list[threading.Thread] = []

    @property
    def pid(self) -> int:
        assert self._process is not None, "the daemon does not run"
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it accepts streams."""
        before = len(self.output)
        self.launch()
        line = self._wait_for(lambda: next((line for line in self.output[before:] if line.startswith("ready")), None))
        self.addresses = line.split()[1:]

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        assert self._process is None, "the daemon runs already"
        self._process = subprocess.Popen(
            [str(COMMAND), *self.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )
        self._open = 2
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), name=f"daemon-{name}", daemon=True)
            for name, stream in (("output", self._process.stdout), ("log", self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            with self._changed:
                if line.startswith("{"):
                    self.log.append(json.loads(line))
                else:
                    self.output.append(line.rstrip())
                self._changed.notify_all()
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def wait_for_event(self, text: str, after: int = 0, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """The first event of the log, from place `after` on, whose words contain `text`, capital letters or not."""
        return self._wait_for(
            lambda: next((event for event in self.log[after:] if text.lower() in event["event"].lower()), None), seconds
        )

    def _wait_for(self, find: Callable[[], _T | None], seconds: float = PATIENCE_SECONDS) -> _T:
        deadline = time.monotonic() + seconds
        with self._changed:
            while (found := find()) is None:
                left = deadline - time.monotonic()
                assert self._open, f"it ended without; {self.said()}"
                assert left > 0, f"it did not come within {seconds} s; {self.said()}"
                self._changed.wait(left)
            return found

    def said(self) -> str:
        """Output and log, for the message of a failed test."""
        lines = [*self.output, *(json.dumps(event) for event in self.log[-40:])]
        return "the daemon said:\n" + "\n".join(lines)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait until it has ended; its exit status, negative for a signal."""
        assert self._process is not None, "the daemon does not run"
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon runs still; {self.said()}") from None
        for reader in self._readers:
            reader.join(PATIENCE_SECONDS)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        self._process = None
        return status

    def stop(self) -> int:
        """End it in order; its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None:
            self._process.kill()
            self.wait()

    def surprises(self) -> list[str]:
        """What no daemon should ever log or say: errors that nobody foresaw."""
        traces = [json.dumps(event) for event in self.log if "exception" in event or event["level"] == "critical"]
        return traces + [line for line in self.output if not line.startswith("ready")]


def _given(flag: str, flags: tuple[str, ...]) -> bool:
    return any(each.split("=")[0] == flag for each in flags)
