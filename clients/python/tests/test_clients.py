"""Both shells, the threaded and the asynchronous one, against a daemon that does as it is told."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import grpc
import pytest
from appstatsd_client import AccessMethod, App, AsyncClient, Client, Limits, Session, Stats, events
from appstatsd_client.wire.appstats.v1 import appstats_pb2 as pb
from scripted_daemon import DEADLINE_SECONDS, Refuse, ScriptedDaemon

T = TypeVar("T")
APP = App(UUID(int=1), UUID(int=2), UUID(int=3), AccessMethod.SUBDOMAIN, "code")
QUICK = {
    "linger_seconds": 0.001,
    "backoff_base_seconds": 0.001,
    "backoff_max_seconds": 0.01,
    "retry_slowest_seconds": 0.02,
    "refused_retry_seconds": 0.01,
    "channel_backoff_max_seconds": 0.01,
}
Code = grpc.StatusCode
STATUSES = [
    Code.INVALID_ARGUMENT,
    Code.RESOURCE_EXHAUSTED,
    Code.ALREADY_EXISTS,
    Code.ABORTED,
    Code.UNAUTHENTICATED,
    Code.PERMISSION_DENIED,
    Code.UNAVAILABLE,
    Code.INTERNAL,
]


class Proxy:
    """A proxy with a client. What a proxy calls on its way goes through `do`, so that it runs where it belongs."""

    def __init__(self, target: str, on_event: events.OnEvent | None = None, **limits: float) -> None:
        self.told: queue.Queue[events.Event] = queue.Queue()
        self.target = target
        self.settings: dict[str, Any] = {
            "limits": Limits(**{**QUICK, **limits}),  # type: ignore[arg-type]
            "on_event": on_event or self.told.put,
        }
        self.sessions: list[Session] = []

    def do(self, call: Callable[[], T]) -> T:
        raise NotImplementedError

    def close(self, timeout: float = DEADLINE_SECONDS) -> bool:
        raise NotImplementedError

    client: Client | AsyncClient

    def begin(self, count: int = 1, **options: Any) -> Session:
        def begin() -> None:
            self.sessions += [self.client.begin(APP, **options) for _ in range(count)]

        self.do(begin)
        return self.sessions[-1]

    def end(self) -> None:
        self.do(lambda: [session.end() for session in self.sessions])

    def stats(self) -> Stats:
        return self.do(lambda: self.client.stats())

    def wait_for(self, kind: type[events.Event]) -> Any:
        while True:
            event = self.told.get(timeout=DEADLINE_SECONDS)
            if isinstance(event, kind):
                return event

    def stop(self) -> None:
        self.close(0)


class ThreadedProxy(Proxy):
    def __init__(self, target: str, tls: Any = None, **settings: Any) -> None:
        super().__init__(target, **settings)
        self.client: Client = Client(target, tls=tls, **self.settings)

    def do(self, call: Callable[[], T]) -> T:
        return call()

    def close(self, timeout: float = DEADLINE_SECONDS) -> bool:
        return self.client.close(timeout)


class AsyncioProxy(Proxy):
    def __init__(self, target: str, tls: Any = None, **settings: Any) -> None:
        super().__init__(target, **settings)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="asyncio-proxy")
        self.thread.start()
        self.client: AsyncClient = self.do(lambda: AsyncClient(target, tls=tls, **self.settings))

    def do(self, call: Callable[[], T]) -> T:
        async def on_the_loop() -> T:
            return call()

        return asyncio.run_coroutine_threadsafe(on_the_loop(), self.loop).result(DEADLINE_SECONDS)

    def close(self, timeout: float = DEADLINE_SECONDS) -> bool:
        closing = asyncio.run_coroutine_threadsafe(self.client.close(timeout), self.loop)
        return closing.result(DEADLINE_SECONDS)

    def stop(self) -> None:
        super().stop()
        left = self.do(lambda: [task.get_name() for task in asyncio.all_tasks() if "appstatsd" in task.get_name()])
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        assert left == []


@pytest.fixture(params=[ThreadedProxy, AsyncioProxy], ids=["threads", "asyncio"])
def make_proxy(request: pytest.FixtureRequest) -> Iterator[Callable[..., Proxy]]:
    """Makes proxies; what they leave running fails the test."""
    made: list[Proxy] = []

    def make(target: str, **settings: Any) -> Proxy:
        made.append(request.param(target, **settings))
        return made[-1]

    yield make
    for proxy in made:
        proxy.stop()
    assert [thread.name for thread in threading.enumerate() if thread.name == "appstatsd-client"] == []


@pytest.fixture
def proxy(make_proxy: Callable[..., Proxy], daemon: ScriptedDaemon) -> Proxy:
    """A proxy beside the running daemon."""
    return make_proxy(daemon.target)


def has_all(proxy: Proxy) -> Callable[[ScriptedDaemon], bool]:
    """Whether the daemon knows every session of the proxy as it is."""

    def known(daemon: ScriptedDaemon) -> bool:
        held = daemon.model.sessions
        wanted = {s.session_id.bytes: (s.started_ns, s.ended_ns, s.requests) for s in proxy.sessions}
        return {key: (h.started_ns, h.ended_ns, h.requests) for key, h in held.items()} == wanted

    return known


def test_a_session_is_live_at_the_daemon_until_it_ends(proxy: Proxy, daemon: ScriptedDaemon) -> None:
    session = proxy.begin()
    daemon.wait_for(has_all(proxy))
    proxy.do(lambda: session.update(3))
    daemon.wait_for(has_all(proxy))
    proxy.do(session.end)
    daemon.wait_for(has_all(proxy))
    held = daemon.model.sessions[session.session_id.bytes]
    assert held.ended_ns >= held.started_ns
    assert (held.requests, held.app[3:]) == (4, (2, "code"))


def test_a_client_says_who_it_is_and_chooses_a_random_id(
    make_proxy: Callable[..., Proxy], daemon: ScriptedDaemon
) -> None:
    for _ in range(2):
        make_proxy(daemon.target).begin()
    daemon.wait_for(lambda d: len(d.model.clients) == 2)
    assert [metadata["appstats-client"] for metadata in daemon.metadata] == ["python/0.1.0"] * 2
    assert all(len(client_id) == 32 and int(client_id, 16) for client_id in daemon.model.clients)


def test_many_reports_go_as_few_batches_and_arrive(make_proxy: Callable[..., Proxy], daemon: ScriptedDaemon) -> None:
    proxy = make_proxy(daemon.target, linger_seconds=0.2)
    proxy.begin(5000)
    proxy.end()
    assert proxy.close()
    assert has_all(proxy)(daemon)
    assert len(daemon.model.applied) < 100


def test_an_acknowledgement_that_was_lost_costs_a_resend_and_counts_nothing_twice(
    proxy: Proxy, daemon: ScriptedDaemon
) -> None:
    daemon.script.append(Refuse(Code.UNAVAILABLE, apply=True))
    proxy.begin(3, report_live=False)
    proxy.end()
    daemon.wait_for(has_all(proxy))
    assert proxy.close()
    assert len(set(daemon.model.applied)) == len(daemon.model.applied)
    assert len(daemon.model.clients) == 1


@pytest.mark.parametrize(
    "status",
    [
        Code.INVALID_ARGUMENT,
        Code.RESOURCE_EXHAUSTED,
        Code.ALREADY_EXISTS,
        Code.ABORTED,
        Code.UNAUTHENTICATED,
        Code.PERMISSION_DENIED,
        Code.UNAVAILABLE,
        Code.INTERNAL,
    ],
)
@pytest.mark.parametrize("at", ["first", "batch", "closing"])
def test_live_sessions_survive_every_status_wherever_it_meets_the_stream(
    proxy: Proxy, daemon: ScriptedDaemon, status: grpc.StatusCode, at: str
) -> None:
    daemon.script.append(Refuse(status, at=at))
    proxy.begin(5)
    if at != "closing":
        daemon.wait_for(lambda d: d.refused)
        daemon.wait_for(has_all(proxy))
        event = proxy.wait_for(events.Disconnected)
        assert (event.status, event.attempt) == (status.name, 1)
    assert proxy.close()
    assert has_all(proxy)(daemon)
    assert all(session.ended_ns for session in proxy.sessions)
    assert len(daemon.refused) == 1
    assert proxy.stats().dropped_reports == 0


def test_a_report_that_is_refused_every_time_costs_no_other(proxy: Proxy, daemon: ScriptedDaemon) -> None:
    daemon.script.extend([Refuse(Code.INVALID_ARGUMENT)] * 3)
    proxy.begin(5)
    daemon.wait_for(lambda d: len(d.refused) == 3)
    daemon.wait_for(has_all(proxy))
    proxy.wait_for(events.BatchRefused)
    proxy.wait_for(events.ClientIdReplaced)


def test_the_daemon_says_when_to_come_back(proxy: Proxy, daemon: ScriptedDaemon) -> None:
    daemon.script.append(Refuse(Code.UNAVAILABLE, at="first", retry_delay_ms=8))
    proxy.begin()
    assert 0.008 <= proxy.wait_for(events.Disconnected).retry_seconds <= 0.010


def test_rejected_reports_are_told_and_counted(proxy: Proxy, daemon: ScriptedDaemon) -> None:
    daemon.rejections.append(pb.RejectedReport(sequence=1, index=0, reason=pb.REJECTION_REASON_CONFLICT, message="why"))
    session = proxy.begin()
    told = proxy.wait_for(events.Rejected)
    assert told.rejections == (events.Rejection(session.session_id, "REJECTION_REASON_CONFLICT", "why"),)
    assert proxy.stats().rejected_reports == 1


def test_a_daemon_that_acknowledges_what_was_never_sent_means_a_new_client_id(
    proxy: Proxy, daemon: ScriptedDaemon
) -> None:
    proxy.begin()
    daemon.wait_for(has_all(proxy))
    old = proxy.wait_for(events.Connected).client_id
    daemon.model.clients[old].last += 5
    daemon.script.append(Refuse(Code.UNAVAILABLE))
    proxy.begin()
    replaced = proxy.wait_for(events.ClientIdReplaced)
    assert (replaced.old, replaced.status) == (old, "ALREADY_EXISTS")
    daemon.wait_for(has_all(proxy))


def test_reports_wait_for_a_daemon_that_is_not_there_yet(make_proxy: Callable[..., Proxy], tmp_path: Path) -> None:
    daemon = ScriptedDaemon(f"unix:{tmp_path}/late.sock")
    proxy = make_proxy(daemon.target)
    proxy.begin(3)
    assert proxy.wait_for(events.Disconnected).status == "UNAVAILABLE"
    proxy.wait_for(events.Disconnected)
    daemon.start()
    try:
        daemon.wait_for(has_all(proxy))
        assert proxy.wait_for(events.Connected).acked_sequence == 0
        assert proxy.close()
    finally:
        daemon.stop()


def test_a_daemon_that_forgot_everything_knows_live_sessions_again(proxy: Proxy, daemon: ScriptedDaemon) -> None:
    proxy.begin(3)
    daemon.wait_for(has_all(proxy))
    daemon.stop()
    daemon.model.forget()
    daemon.start()
    daemon.wait_for(has_all(proxy))
    proxy.end()
    daemon.wait_for(has_all(proxy))


def test_a_slow_daemon_holds_up_no_session(make_proxy: Callable[..., Proxy], daemon: ScriptedDaemon) -> None:
    proxy = make_proxy(daemon.target, batch_max_reports=2, window_batches=2)
    daemon.may_answer.clear()
    proxy.begin(100)
    daemon.wait_for(lambda d: d.seen)
    proxy.end()
    proxy.begin(100, report_live=False)
    proxy.end()
    daemon.may_answer.set()
    daemon.wait_for(has_all(proxy))


def test_closing_ends_what_is_left_and_waits_for_the_confirmation(proxy: Proxy, daemon: ScriptedDaemon) -> None:
    proxy.begin(3)
    assert proxy.close()
    assert has_all(proxy)(daemon)
    assert daemon.seen[-1].closing
    assert list(daemon.model.closed) == list(daemon.model.clients)
    assert proxy.wait_for(events.Closed) == events.Closed(confirmed=True, left=0)
    assert not proxy.stats().connected
    assert proxy.close()
    proxy.begin()
    assert proxy.stats().live_sessions == 0


def test_closing_with_a_daemon_that_is_away_ends_at_the_deadline(
    make_proxy: Callable[..., Proxy], tmp_path: Path
) -> None:
    proxy = make_proxy(f"unix:{tmp_path}/none.sock")
    proxy.begin(3)
    assert not proxy.close(0.05)
    assert proxy.wait_for(events.Closed) == events.Closed(confirmed=False, left=3)
    assert proxy.stats().dropped_reports == 3


def test_closing_with_a_daemon_that_is_stuck_ends_at_the_deadline(proxy: Proxy, daemon: ScriptedDaemon) -> None:
    daemon.may_answer.clear()
    proxy.begin(3)
    daemon.wait_for(lambda d: d.seen)
    assert not proxy.close(0.05)
    assert proxy.wait_for(events.Closed).left == 3


def test_a_client_that_never_reported_closes_at_once_and_never_connects(proxy: Proxy, daemon: ScriptedDaemon) -> None:
    assert proxy.close()
    proxy.begin()
    assert daemon.seen == []


def test_a_client_that_has_sent_nothing_closes_at_once_though_it_is_connected(
    proxy: Proxy, daemon: ScriptedDaemon
) -> None:
    proxy.begin(report_live=False)
    proxy.wait_for(events.Connected)
    assert proxy.close()
    assert [message.closing for message in daemon.seen] == [False]


def test_a_hook_that_fails_costs_no_report(
    make_proxy: Callable[..., Proxy], daemon: ScriptedDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: events.Event) -> None:
        raise RuntimeError("the proxy's own mistake")

    proxy = make_proxy(daemon.target, on_event=fail)
    with caplog.at_level(logging.ERROR, "appstatsd_client"):
        proxy.begin()
        daemon.wait_for(has_all(proxy))
        assert proxy.close()
    assert "on_event failed for Connected" in caplog.text


def test_a_mistake_of_the_clients_own_costs_a_stream_and_no_report(
    proxy: Proxy, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, failed = proxy.client._core.answered, threading.Event()

    def fail_once(*arguments: Any) -> bool:
        if not failed.is_set():
            failed.set()
            raise KeyError("a mistake")
        return answered(*arguments)

    monkeypatch.setattr(proxy.client._core, "answered", fail_once)
    proxy.begin(3)
    assert proxy.wait_for(events.Disconnected).status == "UNKNOWN"
    daemon.wait_for(has_all(proxy))


def test_a_hundred_reconnects_leave_nothing_behind(proxy: Proxy, daemon: ScriptedDaemon) -> None:
    proxy.begin()
    daemon.wait_for(has_all(proxy))
    before = threading.active_count()
    daemon.script.extend([Refuse(Code.UNAVAILABLE)] * 100)
    daemon.stop()
    daemon.start()
    daemon.wait_for(lambda d: not d.script)
    daemon.wait_for(has_all(proxy))
    assert proxy.close()
    daemon.stop()
    assert threading.active_count() <= before


def test_without_a_hook_events_are_logged(daemon: ScriptedDaemon, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "appstatsd_client"), Client(daemon.target) as client:
        client.begin(APP).end()
    assert "connected to appstatsd" in caplog.text
    assert "closed; reports that appstatsd has not confirmed: 0" in caplog.text


def test_sessions_of_many_threads_all_arrive(daemon: ScriptedDaemon) -> None:
    with Client(daemon.target, limits=Limits(linger_seconds=0.001)) as client:

        def serve() -> None:
            for _ in range(500):
                with client.begin(APP) as session:
                    session.update()

        threads = [threading.Thread(target=serve) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    held = daemon.model.sessions.values()
    assert len(held) == 4000
    assert all(session.requests == 2 and session.ended_ns for session in held)


def test_a_process_that_gets_no_thread_goes_on_without_reporting(
    daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    client = Client(daemon.target)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        client.begin(APP).end()
    client.begin(APP).end()
    assert not client.close()
    assert daemon.seen == []


def test_the_asynchronous_client_asks_for_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        AsyncClient("unix:/nowhere").begin(APP)
