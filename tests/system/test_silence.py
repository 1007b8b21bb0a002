"""Who is silent, and who is gone? The daemon asks after 20 s, and waits 10 s for the answer.

What takes so long to happen happens to all at once here: one fixture lets it, and the tests look at what came of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from appstatsd.collect.rows import EndSource

from tests.support.daemon import eventually
from tests.support.proxy import Proxy
from tests.support.raw_client import Client, now_us
from tests.support.reports import HOUR, app, report, workspace
from tests.support.table import rows_of
from tests.system.conftest import NewDaemon, Service

PATIENCE_SECONDS = 45.0
"""Much longer than 30 s, and shorter than the 63 s after which gRPC notices if it is not told all that it needs."""
FROZEN, IDLE, PINGING = 1, 2, 3


@dataclass(frozen=True)
class Silence:
    """A time in which nobody said anything, and one client could not."""

    service: Service
    frozen: Proxy
    idle: Proxy
    pinging: Proxy
    began_us: int
    noticed_us: int
    """A moment after the daemon noticed the frozen one."""


@pytest.fixture(scope="module")
def silence(module_daemons: NewDaemon, module_database_url: str) -> Iterator[Silence]:
    daemon = module_daemons(module_database_url, "--report-interval=1h", "--client-grace=0s")
    daemon.start()
    start = now_us() - HOUR
    with ExitStack() as stack:
        frozen, idle = (stack.enter_context(Proxy(daemon.target)) for _ in range(2))
        # Clients may ping every 10 s; this one is in a hurry, so that enough pings come.
        pinging = stack.enter_context(Proxy(daemon.target, ping_ms=6_000))
        for number, proxy in ((FROZEN, frozen), (IDLE, idle), (PINGING, pinging)):
            proxy.report(report(number, start, of=app(number)))
        daemon.flush()
        began_us = now_us()
        frozen.freeze()
        # While it is frozen and nobody knows, nobody else waits for it.
        with Client(daemon.target) as other:
            other.report(report(4, start, of=app(4)))
            daemon.flush()
        eventually(
            lambda: {client.client_id: client.connected for client in daemon.status().clients}[frozen.client_id],
            lambda connected: not connected,
            PATIENCE_SECONDS,
        )
        noticed_us = now_us()
        daemon.flush()
        yield Silence(Service(daemon, module_database_url), frozen, idle, pinging, began_us, noticed_us)
        frozen.thaw()


def test_a_frozen_client_is_noticed_and_its_sessions_end_then(silence: Silence) -> None:
    [row] = rows_of(silence.service.url, workspace(FROZEN))
    assert row.end_source is EndSource.INFERRED
    assert silence.began_us < row.ended <= silence.noticed_us


@pytest.mark.parametrize("number", [IDLE, PINGING])
def test_a_silent_client_that_answers_keeps_its_stream_and_its_sessions(silence: Silence, number: int) -> None:
    [row] = rows_of(silence.service.url, workspace(number))
    assert row.end_source is EndSource.LIVE
    assert row.ended >= silence.noticed_us
    proxy = silence.idle if number == IDLE else silence.pinging
    proxy.report(report(number, row.started, requests=2, of=app(number)))
    connected = {client.client_id: client.connected for client in silence.service.daemon.status().clients}
    assert connected[proxy.client_id]


def test_a_frozen_client_that_goes_on_finds_all_that_was_acknowledged_still_held(silence: Silence) -> None:
    silence.frozen.thaw()
    with Client(silence.service.target, silence.frozen.client_id) as again:
        assert again.held == 1
