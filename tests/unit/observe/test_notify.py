"""What systemd is told, and when it is told that the daemon lives."""

from __future__ import annotations

import asyncio
import queue
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from appstatsd.collect.rules import Rules
from appstatsd.drain import Question
from appstatsd.ledger import Ledger
from appstatsd.observe.notify import RECOVERY_WORD_US, NotifyMissing, ServiceManager, service_manager

from tests.support.standing import StandingClock

PATIENCE_SECONDS = 60.0


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket on which systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(PATIENCE_SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield heard


def test_its_messages_reach_systemds_socket_with_all_their_lines(systemd: socket.socket, tmp_path: Path) -> None:
    manager = service_manager({"NOTIFY_SOCKET": str(tmp_path / "notify")}, StandingClock())
    manager.ready()
    assert systemd.recv(1000) == b"STATUS=Streams are accepted\nREADY=1"
    with manager.reloading():
        assert systemd.recv(1000) == b"STATUS=Reading the settings again\nRELOADING=1"
    assert systemd.recv(1000) == b"STATUS=Streams are accepted\nREADY=1"
    manager.stopping()
    assert systemd.recv(1000) == b"STATUS=Stopping: writing what is left\nSTOPPING=1"


def test_nothing_is_said_where_nobody_listens() -> None:
    manager = service_manager({}, StandingClock())
    manager.ready()
    asyncio.run(asyncio.wait_for(manager.stay_alive(lambda _: None, str), PATIENCE_SECONDS))


def test_a_start_that_systemd_would_wait_for_in_vain_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cysystemd.daemon", None)
    with pytest.raises(NotifyMissing, match=r"pip install 'appstatsd\[systemd\]'"):
        service_manager({"NOTIFY_SOCKET": "/run/systemd/notify"}, StandingClock())


def test_a_long_recovery_asks_for_more_time_once_a_second() -> None:
    said: list[str] = []
    clock = StandingClock()
    manager = ServiceManager(said.append, clock)
    for done in range(0, 101, 10):
        manager.recovering(done << 20, 100 << 20)
        clock.passed += RECOVERY_WORD_US // 5
    assert said == [
        "Recovering: 0 % of the journal's 100.0 MiB read\nEXTEND_TIMEOUT_USEC=60000000",
        "Recovering: 50 % of the journal's 100.0 MiB read\nEXTEND_TIMEOUT_USEC=60000000",
        "Recovering: 100 % of the journal's 100.0 MiB read\nEXTEND_TIMEOUT_USEC=60000000",
    ]


def test_a_sign_of_life_comes_only_once_the_drain_has_answered() -> None:
    said: list[str] = []
    questions: queue.SimpleQueue[Question] = queue.SimpleQueue()
    ledger = Ledger(Rules())

    async def live() -> None:
        alive = asyncio.create_task(
            ServiceManager(said.append, StandingClock(), watchdog_seconds=0.003).stay_alive(
                questions.put, lambda asked: f"{asked.collector.sessions} sessions"
            )
        )
        for beats in range(1, 4):
            question = await asyncio.to_thread(questions.get, timeout=PATIENCE_SECONDS)
            assert len(said) == beats - 1
            await asyncio.to_thread(question.ask, ledger)
        while len(said) < 3:
            await asyncio.sleep(0)
        alive.cancel()

    asyncio.run(asyncio.wait_for(live(), PATIENCE_SECONDS))
    assert said[:3] == ["0 sessions\nWATCHDOG=1"] * 3
