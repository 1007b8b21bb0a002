"""What a proxy calls, against the buffer behind it; no thread is started."""

from __future__ import annotations

from contextlib import nullcontext
from uuid import UUID

import pytest
from appstatsd_client import AccessMethod, App, Clock, Limits
from appstatsd_client.core import Core
from appstatsd_client.session import SessionReporter, new_session_id

SECOND = 1_000_000_000
WALL = 1_700_000_000 * SECOND
APP = App(UUID(int=1), UUID(int=2), UUID(int=3), AccessMethod.PATH, "code")


class Quiet(SessionReporter):
    """A client whose shell does nothing, with clocks that the test moves."""

    def __init__(self) -> None:
        self.wall, self.monotonic = WALL, 7 * SECOND
        self.wakes = self.starts = 0
        clock = Clock(lambda: self.wall, lambda: self.monotonic)
        super().__init__("unix:/nowhere", None, Limits(), lambda event: None, clock, nullcontext())

    def _start(self) -> None:
        self.starts += 1

    def _wake(self) -> None:
        self.wakes += 1

    @property
    def core(self) -> Core:
        return self._core

    def pass_time(self, seconds: int) -> None:
        self.wall += seconds * SECOND
        self.monotonic += seconds * SECOND


def test_a_session_begins_now_with_an_id_of_its_own_and_one_request() -> None:
    client = Quiet()
    one, other = client.begin(APP), client.begin(APP)
    assert (one.started_ns, one.ended_ns, one.requests, one.app) == (WALL, 0, 1, APP)
    assert one.session_id != other.session_id
    assert client.core.stats().live_sessions == 2


def test_session_ids_are_random_uuids() -> None:
    ids = {UUID(bytes=new_session_id()) for _ in range(1000)}
    assert len(ids) == 1000
    assert {(made.version, made.variant) for made in ids} == {(4, "specified in RFC 4122")}


def test_the_end_is_the_start_plus_what_the_monotonic_clock_says_has_passed() -> None:
    client = Quiet()
    session = client.begin(APP)
    client.pass_time(30)
    client.wall -= 3600 * SECOND
    session.end()
    assert session.ended_ns == WALL + 30 * SECOND


def test_a_session_goes_on_that_another_process_began() -> None:
    client = Quiet()
    session = client.begin(APP, session_id=UUID(int=9), started_ns=WALL - 100 * SECOND, requests=5)
    client.pass_time(1)
    session.update(2)
    session.end()
    assert (session.session_id, session.started_ns, session.requests) == (UUID(int=9), WALL - 100 * SECOND, 7)
    assert session.ended_ns == WALL + SECOND


def test_a_start_that_lies_ahead_does_not_end_before_it_began() -> None:
    client = Quiet()
    session = client.begin(APP, started_ns=WALL + 100 * SECOND)
    session.end()
    assert session.ended_ns == session.started_ns


def test_a_second_end_and_an_update_after_it_change_nothing() -> None:
    client = Quiet()
    session = client.begin(APP)
    session.end()
    client.pass_time(5)
    session.end()
    session.update()
    assert (session.ended_ns, session.requests) == (WALL, 1)


def test_a_session_that_is_not_reported_live_is_nothing_until_it_ends() -> None:
    client = Quiet()
    session = client.begin(APP, report_live=False)
    session.update()
    assert (client.core.stats().pending_reports, client.core.stats().live_sessions) == (0, 0)
    session.end()
    assert (client.core.stats().pending_reports, session.requests) == (1, 2)


def test_as_a_context_manager_a_session_ends_when_its_block_does_whatever_happens() -> None:
    client = Quiet()
    with pytest.raises(RuntimeError, match="the upstream"), client.begin(APP) as session:
        raise RuntimeError("the upstream broke")
    assert session.ended_ns == WALL


def test_the_sender_is_woken_for_the_first_report_and_for_a_full_batch_only() -> None:
    client = Quiet()
    for _ in range(999):
        client.begin(APP)
    assert client.wakes == 1
    client.begin(APP)
    assert client.wakes == 2
    client.begin(APP)
    assert client.wakes == 2


def test_the_client_starts_at_the_first_session_and_once() -> None:
    client = Quiet()
    assert client.starts == 0
    client.begin(APP, report_live=False)
    client.begin(APP)
    assert client.starts == 1


@pytest.mark.parametrize(
    "wrong",
    [{"requests": -1}, {"started_ns": 0}, {"started_ns": 2**63}, {"session_id": b"short"}, {"session_id": bytes(16)}],
)
def test_what_cannot_be_is_an_error_in_the_caller(wrong: dict[str, int]) -> None:
    client = Quiet()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        client.begin(APP, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="requests"):
        client.begin(APP).update(-1)


@pytest.mark.parametrize("target", ["", "unix:", "nowhere", "host:", ":1", "http://host:1", "host:port", "[::1]"])
def test_a_target_that_is_none_is_an_error(target: str) -> None:
    from appstatsd_client import AsyncClient, Client

    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match="target"):
            kind(target)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_max_reports": 10_001},
        {"batch_max_reports": 0},
        {"batch_max_bytes": 1 << 23},
        {"linger_seconds": -1},
        {"backoff_max_seconds": 0},
    ],
)
def test_a_limit_that_cannot_be_is_an_error(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)  # type: ignore[arg-type]
