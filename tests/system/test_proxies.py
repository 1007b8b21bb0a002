"""What becomes of live sessions when the proxy that reports them dies, freezes, or comes back (SPEC section 2 rule 6)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from appstatsd.collect.rows import EndSource

from tests.support.daemon import eventually
from tests.support.proxy import Proxy
from tests.support.raw_client import fresh, now_us
from tests.support.reports import HOUR, SECOND, Report, Row, app, report, workspace
from tests.support.table import last_used, rows_of
from tests.system.conftest import NewDaemon, Service


@pytest.fixture(scope="module")
def service(module_daemons: NewDaemon, module_database_url: str) -> Service:
    """A daemon with no patience for clients that are away. Flushes come when somebody asks for one."""
    daemon = module_daemons(module_database_url, "--report-interval=1h", "--client-grace=0s")
    daemon.start()
    return Service(daemon, module_database_url)


@pytest.fixture(scope="module")
def patient(module_daemons: NewDaemon, module_database_url: str) -> Service:
    """A daemon that waits for clients longer than any test does."""
    daemon = module_daemons(module_database_url, "--report-interval=1h")
    daemon.start()
    return Service(daemon, module_database_url)


@pytest.fixture
def number() -> int:
    [number] = fresh()
    return number


@pytest.fixture
def proxies() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def live(number: int, start: int, place: int = 0, requests: int = 1) -> Report:
    return report(number * 1_000 + place, start, None, requests, of=app(number))


def is_away(service: Service, proxy: Proxy) -> int:
    """Wait until the daemon has noticed that the proxy is gone; a moment after that."""
    eventually(
        lambda: {client.client_id: client.connected for client in service.daemon.status().clients}[proxy.client_id],
        lambda connected: not connected,
    )
    return now_us()


def rows_after_flush(service: Service, number: int) -> list[Row]:
    service.daemon.flush()
    return rows_of(service.url, workspace(number))


def killed(service: Service, proxy: Proxy) -> tuple[int, int]:
    """Kill the proxy; between these moments the daemon noticed it."""
    before = now_us()
    proxy.kill()
    return before, is_away(service, proxy)


def test_sessions_of_a_killed_proxy_end_where_it_died_and_stay_so(
    service: Service, number: int, proxies: ExitStack
) -> None:
    start = now_us() - HOUR
    proxy = proxies.enter_context(Proxy(service.target))
    proxy.report(*(live(number, start, place) for place in range(3)))
    assert {row.end_source for row in rows_after_flush(service, number)} == {EndSource.LIVE}
    before, after = killed(service, proxy)
    ended = rows_after_flush(service, number)
    assert len(ended) == 3
    for row in ended:
        assert row.end_source is EndSource.INFERRED
        assert before <= row.ended <= after
    assert last_used(service.url)[workspace(number)] <= after
    for _ in range(3):
        assert rows_after_flush(service, number) == ended


def test_a_short_session_of_a_killed_proxy_gets_a_row_of_its_own(
    service: Service, number: int, proxies: ExitStack
) -> None:
    proxy = proxies.enter_context(Proxy(service.target))
    start = now_us()
    proxy.report(live(number, start))
    assert rows_after_flush(service, number) == []
    before, after = killed(service, proxy)
    [row] = rows_after_flush(service, number)
    assert (row.started, row.sessions, row.end_source) == (start, 1, EndSource.INFERRED)
    assert before <= row.ended <= after


def test_what_a_proxy_had_ended_before_it_was_killed_keeps_its_end(
    service: Service, number: int, proxies: ExitStack
) -> None:
    start = now_us() - HOUR
    proxy = proxies.enter_context(Proxy(service.target))
    proxy.report(live(number, start, 1), live(number, start, 2))
    proxy.report(report(number * 1_000 + 1, start, start + HOUR // 2, of=app(number)))
    before, _ = killed(service, proxy)
    one, other = rows_after_flush(service, number)
    assert (one.ended, one.end_source) == (start + HOUR // 2, EndSource.REPORTED)
    assert other.ended >= before


class TestWithinTheGrace:
    def test_while_a_client_is_away_its_sessions_are_left_as_they_are(
        self, patient: Service, number: int, proxies: ExitStack
    ) -> None:
        proxy = proxies.enter_context(Proxy(patient.target))
        proxy.report(live(number, now_us() - HOUR))
        written = rows_after_flush(patient, number)
        killed(patient, proxy)
        for _ in range(3):
            assert rows_after_flush(patient, number) == written

    def test_one_that_comes_back_goes_on_as_if_nothing_had_been(
        self, patient: Service, number: int, proxies: ExitStack
    ) -> None:
        start = now_us() - HOUR
        proxy = proxies.enter_context(Proxy(patient.target))
        proxy.report(live(number, start))
        rows_after_flush(patient, number)
        killed(patient, proxy)
        again = proxies.enter_context(Proxy(patient.target, proxy.client_id))
        assert again.held == 1
        back = now_us()
        [row] = rows_after_flush(patient, number)
        assert row.end_source is EndSource.LIVE
        assert row.ended >= back


class TestAfterTheGrace:
    @pytest.fixture
    def start(self) -> int:
        return now_us() - HOUR

    @pytest.fixture
    def back(self, service: Service, number: int, proxies: ExitStack, start: int) -> Proxy:
        """A client that was away for longer than its grace, so that its session has an inferred end, and is back."""
        proxy = proxies.enter_context(Proxy(service.target))
        proxy.report(live(number, start))
        killed(service, proxy)
        [row] = rows_after_flush(service, number)
        assert row.end_source is EndSource.INFERRED
        again = proxies.enter_context(Proxy(service.target, proxy.client_id))
        again.sequence = again.held
        return again

    def test_it_is_back_but_its_session_stays_ended_until_it_is_reported(
        self, service: Service, number: int, back: Proxy
    ) -> None:
        [row] = rows_after_flush(service, number)
        assert row.end_source is EndSource.INFERRED

    def test_reported_live_again_the_session_is_live_again(
        self, service: Service, number: int, back: Proxy, start: int
    ) -> None:
        now = now_us()
        back.report(live(number, start, requests=9))
        [row] = rows_after_flush(service, number)
        assert (row.end_source, row.requests) == (EndSource.LIVE, 9)
        assert row.ended >= now

    @pytest.mark.parametrize("minutes", [-30, 5])
    def test_its_true_end_takes_the_place_of_the_inferred_one_be_it_earlier_or_later(
        self, service: Service, number: int, back: Proxy, start: int, minutes: int
    ) -> None:
        end = now_us() + minutes * 60 * SECOND
        back.report(report(number * 1_000, start, end, of=app(number)))
        [row] = rows_after_flush(service, number)
        assert (row.ended, row.end_source) == (end, EndSource.REPORTED)


def test_a_session_belongs_to_whoever_reported_it_last(service: Service, number: int, proxies: ExitStack) -> None:
    start = now_us() - HOUR
    old, new = (proxies.enter_context(Proxy(service.target)) for _ in range(2))
    old.report(live(number, start))
    new.report(live(number, start))
    killed(service, old)
    now = now_us()
    [row] = rows_after_flush(service, number)
    assert row.end_source is EndSource.LIVE
    assert row.ended >= now
    before, after = killed(service, new)
    [row] = rows_after_flush(service, number)
    assert row.end_source is EndSource.INFERRED
    assert before <= row.ended <= after


def test_a_killed_proxy_costs_others_nothing(service: Service, number: int, proxies: ExitStack) -> None:
    start = now_us() - HOUR
    one, other = (proxies.enter_context(Proxy(service.target)) for _ in range(2))
    one.report(live(number, start, 1))
    other.report(live(number, start, 2))
    killed(service, one)
    now = now_us()
    assert sorted((row.end_source, row.ended >= now) for row in rows_after_flush(service, number)) == [
        (EndSource.LIVE, True),
        (EndSource.INFERRED, False),
    ]
