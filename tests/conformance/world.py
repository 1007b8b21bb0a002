"""What do the steps of a scenario do? One client (or a few of one language), one daemon and what is between them.

Each `do_…` is a step under that name. Nothing sleeps but `pause`, which is for outages whose length is the point.

Invariant: what was started here has ended when `end` returns.
"""

from __future__ import annotations

import operator
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from appstatsd.store.migrate import migrate
from appstatsd.wire.appstats.v1 import appstats_pb2 as wire

from tests.conformance.command import PATIENCE_SECONDS, Command
from tests.conformance.front import Front, Refusal
from tests.conformance.scenario import Language, Scenario, Total
from tests.support.daemon import DaemonProcess, connected, eventually

LATER_US = 600_000_000
"""Rows are asked for at this much later than now, when every window is over."""
LONGEST_SLUG = 256

_TOTALS = """
SELECT slug_or_port, access_method, end_source, sum(sessions)::bigint, sum(requests)::bigint, count(*),
       min(extract(epoch FROM session_ended_at - session_started_at))::float,
       max(extract(epoch FROM session_ended_at - session_started_at))::float
FROM workspace_app_stats GROUP BY 1, 2, 3
"""
_COMPARISONS = {">=": operator.ge, "<=": operator.le, "": operator.eq}


class World:
    """Carries out the steps of one scenario for one language."""

    def __init__(self, scenario: Scenario, language: Language, folder: Path, url: str) -> None:
        self._scenario = scenario
        self._language = language
        self._folder = folder
        self._url = url
        self._commands: dict[str, Command] = {}
        self._ids: dict[str, str] = {}
        self._told: dict[str, list[str]] = {}
        self._front: Front | None = None
        self._client_id = ""
        self._up_since = 0.0
        self.figures: list[str] = []
        """What was measured, for the table."""
        migrate(url)
        durability = () if any("--durability" in flag for flag in scenario.daemon) else ("--durability=memory",)
        flags = ["--enable-test-clock", *durability, *scenario.daemon]
        if scenario.tls:
            make_certificates(folder)
            flags += ["--listen=127.0.0.1:0", f"--admin-listen=unix:{folder}/admin.sock"]
            flags += [f"--tls-{name}={folder}/{file}" for name, file in _DAEMON_TLS.items()]
        self._daemon = DaemonProcess(folder, url, *flags)
        if scenario.tls:
            self._daemon.target = f"unix:{folder}/admin.sock"

    def run(self) -> None:
        """All steps, then the rows."""
        if not self._scenario.away:
            self.do_start_daemon()
        for number, step in enumerate(self._scenario.steps, start=1):
            more = dict(step)
            try:
                getattr(self, f"do_{more.pop('do')}")(**more)
            except AssertionError as error:
                raise AssertionError(f"step {number}, {step}: {error}") from error
        self._check_rows()

    def end(self) -> None:
        for command in self._commands.values():
            command.kill()
        if self._front is not None:
            self._front.stop()
        with suppress(ProcessLookupError, AssertionError):
            self._daemon.signal(signal.SIGCONT)
        self._daemon.kill()
        surprises = self._daemon.surprises()
        assert not surprises, f"the daemon logged {surprises}"

    # the daemon

    def do_start_daemon(self) -> None:
        """Starts it, again if it has ended."""
        self._daemon.start()
        self._up_since = time.monotonic()

    def do_stop_daemon(self) -> None:
        assert self._daemon.stop() == 0

    def do_kill_daemon(self) -> None:
        self._daemon.kill()

    def do_freeze_daemon(self) -> None:
        self._daemon.signal(signal.SIGSTOP)

    def do_thaw_daemon(self) -> None:
        self._daemon.signal(signal.SIGCONT)

    def do_pause(self, seconds: float) -> None:
        threading.Event().wait(seconds)

    def do_flush(self) -> None:
        """Rows are written as of now, with the daemon's clock."""
        self._daemon.flush()

    def do_wait_status(self, **expected: Any) -> None:
        """Waits until the daemon's status says so."""
        eventually(
            self._daemon.status,
            lambda status: _fits(expected, lambda name: getattr(status, name)),
            PATIENCE_SECONDS,
        )

    def do_wait_clients(self, **counts: int) -> None:
        """Waits until the daemon has seen so many clients (`known`), and so many of them are there (`connected`)."""

        def seen() -> dict[str, int]:
            clients = self._daemon.status().clients
            return {"known": len(clients), "connected": sum(client.connected for client in clients)}

        eventually(seen, lambda answer: _fits(counts, answer.__getitem__), PATIENCE_SECONDS)

    # what is between them

    def do_refuse(self, status: str, holding: str = "", **more: Any) -> None:
        """See `Refusal`; `holding` is the name of a session."""
        session_id = UUID(self._ids[holding]).bytes if holding else b""
        self._fronted().refuse(Refusal(status, holding=session_id, **more))

    def do_refuse_no_more(self) -> None:
        self._fronted().refuse_no_more()

    def do_wait_refused(self, times: int) -> None:
        eventually(lambda: self._fronted().refused, lambda refused: refused >= times, PATIENCE_SECONDS)

    def do_hold_answers(self) -> None:
        self._fronted().hold()

    def do_release_answers(self) -> None:
        self._fronted().release()

    def do_delay_answers(self, seconds: float) -> None:
        self._fronted().delay(seconds)

    def do_cut(self) -> None:
        self._fronted().cut()

    # the client

    def do_open(
        self, client: str = "proxy", limits: dict[str, float] | None = None, certificate: str = "proxy"
    ) -> None:
        """Makes a client; the one called `proxy` is made by the first step that needs it."""
        told: dict[str, Any] = {"limits": self._scenario.client_limits | (limits or {})}
        if self._scenario.tls:
            told["target"] = next(address for address in self._daemon.addresses if not address.startswith("unix:"))
            files = {"ca": "ca.pem", "certificate": f"{certificate}.pem", "key": f"{certificate}.key"}
            told["tls"] = {name: str(self._folder / file) for name, file in files.items()}
        else:
            told["target"] = self._fronted().target if self._scenario.front else f"unix:{self._daemon.socket}"
        command = self._commands[client] = Command(self._language, self._folder / f"{client}.log")
        command.tell("open", **told)

    def do_begin(
        self,
        session: str,
        count: int = 0,
        client: str = "proxy",
        slug: str = "code",
        longest_slugs: bool = False,
        method: str = "path",
        session_id_of: str = "",
        started_seconds_ago: float | None = None,
        **options: Any,
    ) -> None:
        """Begins a session; with `count` so many, under `NAME/0`, `NAME/1` and so on."""
        if session_id_of:
            options["session_id"] = self._ids[session_id_of]
        if started_seconds_ago is not None:
            options["started_ns"] = time.time_ns() - int(started_seconds_ago * 1_000_000_000)
        names = _names(session, count)

        def instructions() -> Iterator[dict[str, Any]]:
            for number, name in enumerate(names):
                its_slug = f"{number:05}".ljust(LONGEST_SLUG, "𝒳") if longest_slugs else slug
                app = {
                    "user_id": str(UUID(int=1)),
                    "workspace_id": str(UUID(int=2)),
                    "agent_id": str(UUID(int=3)),
                    "access_method": method,
                    "slug_or_port": its_slug,
                }
                yield {"do": "begin", "session": name, "app": app, **options}

        for name, answer in zip(names, self._command(client).tell_all(instructions()), strict=True):
            self._ids[name] = answer["session_id"]

    def do_update(self, session: str, count: int = 0, client: str = "proxy", requests: int = 1) -> None:
        told = ({"do": "update", "session": name, "requests": requests} for name in _names(session, count))
        self._command(client).tell_all(told)

    def do_end(self, session: str, count: int = 0, client: str = "proxy") -> None:
        self._command(client).tell_all({"do": "end", "session": name} for name in _names(session, count))

    def do_step_wall(self, seconds: float, client: str = "proxy") -> None:
        self._command(client).tell("step_wall", seconds=seconds)

    def do_wait_stats(self, client: str = "proxy", **expected: Any) -> None:
        """Waits until the client's statistics say so."""
        command = self._command(client)
        eventually(lambda: command.tell("stats"), lambda stats: _fits(expected, stats.__getitem__), PATIENCE_SECONDS)

    def do_wait_back(self, at_most_seconds: float, client: str = "proxy") -> None:
        """Waits until the client is connected again; how long that took since the daemon was up goes into the table."""
        command = self._command(client)
        eventually(lambda: command.tell("stats"), lambda stats: bool(stats["connected"]), PATIENCE_SECONDS)
        took = time.monotonic() - self._up_since
        self.figures.append(f"{took:.1f} s")
        assert took <= at_most_seconds, f"back after {took:.1f} s; at most {at_most_seconds} s are allowed"

    def do_wait_told(self, events: list[str], client: str = "proxy") -> None:
        """Waits until `on_event` was told each of these: `NAME`, or `NAME STATUS-OR-REASON`."""
        command, told = self._command(client), self._told.setdefault(client, [])

        def look() -> list[str]:
            told.extend(chain.from_iterable(_words(event) for event in command.tell("events")["events"]))
            return told

        eventually(look, lambda seen: set(events) <= set(seen), PATIENCE_SECONDS)

    def do_close(self, timeout_seconds: float = 60, confirmed: bool = True, client: str = "proxy") -> None:
        began = time.monotonic()
        assert self._command(client).tell("close", timeout_seconds=timeout_seconds) == {"confirmed": confirmed}
        took = time.monotonic() - began
        assert took < timeout_seconds + 2, f"close took {took:.1f} s"

    def do_leave(self, client: str = "proxy") -> None:
        """The command's input ends."""
        assert self._command(client).leave() == 0

    def do_kill_client(self, client: str = "proxy") -> None:
        self._commands.pop(client).kill()

    def do_freeze_client(self, client: str = "proxy") -> None:
        self._command(client).signal(signal.SIGSTOP)

    def do_thaw_client(self, client: str = "proxy") -> None:
        self._command(client).signal(signal.SIGCONT)

    def do_note_client_id(self, client: str = "proxy") -> None:
        """For `take_over`."""
        self._client_id = self._command(client).tell("stats")["client_id"]

    def do_take_over(self, batches: int = 0) -> None:
        """Somebody else uses the client's client_id, and sends batches under the numbers that come next."""
        first = wire.StreamReportsRequest(client_id=self._client_id)
        with connected(f"unix:{self._daemon.socket}") as channel:
            stream = channel.stream_stream(
                "/appstats.v1.SessionReportService/StreamReports",
                request_serializer=wire.StreamReportsRequest.SerializeToString,
                response_deserializer=wire.StreamReportsResponse.FromString,
            )
            go_on = threading.Event()
            held: list[int] = []

            def messages() -> Iterator[wire.StreamReportsRequest]:
                yield first
                go_on.wait(PATIENCE_SECONDS)
                for number in range(batches):
                    yield wire.StreamReportsRequest(sequence=held[0] + 1 + number, reports=[_strangers_report(number)])

            for response in stream(messages()):
                held.append(response.acked_sequence)
                go_on.set()
                if response.acked_sequence >= held[0] + batches:
                    break

    def _command(self, client: str) -> Command:
        if client not in self._commands:
            self.do_open(client)
        return self._commands[client]

    def _fronted(self) -> Front:
        if self._front is None:
            self._front = Front(f"unix:{self._folder}/front.sock", f"unix:{self._daemon.socket}")
        return self._front

    def _check_rows(self) -> None:
        self._daemon.flush(time.time_ns() // 1000 + LATER_US)
        with psycopg.connect(self._url) as connection:
            found = connection.execute(_TOTALS).fetchall()
        named = {total.slug for total in self._scenario.rows}
        seen: dict[tuple[str, str, str], list[Any]] = {}
        for slug, method, end, *figures in found:
            key = (slug if slug in named else "*", method, end)
            so_far = seen.setdefault(key, [0, 0, 0, figures[3], figures[4]])
            so_far[:3] = [a + b for a, b in zip(so_far[:3], figures[:3], strict=True)]
            so_far[3:] = [min(so_far[3], figures[3]), max(so_far[4], figures[4])]
        expected = {(total.slug, total.method, total.end): total for total in self._scenario.rows}
        assert seen.keys() == expected.keys(), f"rows of {sorted(seen)}, expected of {sorted(expected)}"
        for key, total in expected.items():
            _check(key, seen[key], total)


def _check(key: tuple[str, str, str], seen: list[Any], total: Total) -> None:
    sessions, requests, rows, least, most = seen
    assert (sessions, requests) == (total.sessions, total.requests), f"{key}: {sessions} sessions, {requests} requests"
    assert total.rows is None or rows == total.rows, f"{key}: {rows} rows"
    assert total.least_seconds is None or least >= total.least_seconds, f"{key}: a row of {least} s"
    assert total.most_seconds is None or most <= total.most_seconds, f"{key}: a row of {most} s"


def _names(session: str, count: int) -> list[str]:
    return [f"{session}/{number}" for number in range(count)] if count else [session]


def _words(event: dict[str, Any]) -> list[str]:
    name = event["event"]
    details = [event["status"]] if "status" in event else event.get("reasons", [])
    return [name, *(f"{name} {detail}" for detail in details)]


def _fits(expected: dict[str, Any], found: Callable[[str], Any]) -> bool:
    """Whether each is as expected: a value, or a text such as `>=3`."""
    for name, value in expected.items():
        comparison = re.fullmatch(r"(>=|<=)(\d+)", value) if isinstance(value, str) else None
        if comparison is None:
            if found(name) != value:
                return False
        elif not _COMPARISONS[comparison[1]](found(name), int(comparison[2])):
            return False
    return True


def _strangers_report(number: int) -> wire.SessionReport:
    now_ns = time.time_ns()
    return wire.SessionReport(
        user_id=UUID(int=1).bytes,
        workspace_id=UUID(int=2).bytes,
        agent_id=UUID(int=3).bytes,
        access_method=wire.ACCESS_METHOD_PATH,
        slug_or_port="stranger",
        session_id=UUID(int=1_000_000 + number).bytes,
        session_started_at_unix_nano=now_ns,
        session_ended_at_unix_nano=now_ns,
        requests=1,
    )


_DAEMON_TLS = {"cert": "daemon.pem", "key": "daemon.key", "client-ca": "ca.pem"}


def make_certificates(folder: Path) -> None:
    """ca.pem, and NAME.pem and NAME.key of `daemon`, `proxy` and `stranger`, whom the CA does not know."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=PATIENCE_SECONDS)

    (folder / "extensions").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name, issuer in (("ca", ""), ("daemon", "ca"), ("proxy", "ca"), ("stranger", "")):
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]
        if not issuer:
            openssl("req", "-x509", *key, "-out", f"{name}.pem", "-subj", f"/CN={name}", "-days", "2")
            continue
        openssl("req", *key, "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial", "-days", "2"]
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile", "extensions", *signing)
