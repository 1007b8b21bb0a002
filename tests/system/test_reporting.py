"""From a report on the wire to its row in PostgreSQL, through the real daemon."""

from __future__ import annotations

from dataclasses import replace

import grpc
import pytest
from appstatsd.collect.batch import Reason
from appstatsd.collect.rows import EndSource

from tests.support.raw_client import Client, RawStream, fresh, now_us, request
from tests.support.reports import (
    DAY,
    HOUR,
    MINUTE,
    PATH,
    SECOND,
    SUBDOMAIN,
    TERMINAL,
    Report,
    Row,
    app,
    report,
    session,
    workspace,
)
from tests.support.table import last_used, rows_of
from tests.system.conftest import Service

WINDOW = MINUTE


@pytest.fixture
def number() -> int:
    [number] = fresh()
    return number


def long_ago(number: int, place: int = 0, requests: int = 1, minutes: int = 10) -> Report:
    """A session of so many minutes that ended a minute ago, `place` in this test."""
    ended = now_us() - MINUTE
    return report(number * 1_000 + place, ended - minutes * MINUTE, ended, requests, of=app(number))


def content(row: Row) -> tuple[object, ...]:
    """All but whose it is."""
    return (row.access_method, row.slug_or_port, row.started, row.ended, row.requests, row.sessions, row.end_source)


def test_reports_and_columns_make_the_same_rows(service: Service, number: int) -> None:
    [other] = fresh()
    start = now_us() // WINDOW * WINDOW - HOUR
    sent = [
        report(number * 1_000 + 1, start, start + 10 * SECOND, 3, of=app(number, SUBDOMAIN, "8080")),
        report(number * 1_000 + 2, start + SECOND, start + 20 * SECOND, 4, of=app(number, SUBDOMAIN, "8080")),
        report(number * 1_000 + 3, start, start + HOUR // 2, 5, of=app(number, TERMINAL, "")),
        report(number * 1_000 + 4, start, None, 6, of=app(number, PATH, "ü" * 256)),
    ]
    others = [
        replace(
            one,
            app=replace(one.app, workspace_id=workspace(other)),
            session_id=session(other * 1_000 + place),
        )
        for place, one in enumerate(sent)
    ]
    with Client(service.target) as client:
        assert client.report(*sent) == []
        client.stream.send(request(2, reports=others))
        assert client.stream.acked(2) == []
        service.daemon.flush()
        mine = rows_of(service.url, workspace(number))
        assert {(row.access_method, row.slug_or_port, row.requests, row.sessions, row.end_source) for row in mine} == {
            (SUBDOMAIN, "8080", 7, 2, EndSource.REPORTED),
            (TERMINAL, "", 5, 1, EndSource.REPORTED),
            (PATH, "ü" * 256, 6, 1, EndSource.LIVE),
        }
        assert [content(row) for row in mine] == [content(row) for row in rows_of(service.url, workspace(other))]
        client.say_goodbye()


def test_a_workspace_was_last_used_when_the_last_of_its_rows_ended(service: Service, number: int) -> None:
    with Client(service.target) as client:
        one, other = long_ago(number, 1), long_ago(number, 2, minutes=5)
        client.report(one, other)
        service.daemon.flush()
    assert last_used(service.url)[workspace(number)] == max(one.ended_ns, other.ended_ns) // 1000


def test_a_bad_report_costs_none_of_its_neighbours_and_is_told_apart(service: Service, number: int) -> None:
    too_new, too_old = now_us() + 11 * MINUTE, now_us() - 32 * DAY
    with Client(service.target) as client:
        rejected = client.report(
            long_ago(number, 1),
            report(number * 1_000 + 2, too_new, of=app(number)),
            report(number * 1_000 + 3, too_old, too_old + 31 * DAY + SECOND, of=app(number)),
            report(number * 1_000 + 4, now_us(), now_us() - HOUR, of=app(number)),
            report(number * 1_000 + 5, now_us() // 1000, of=app(number)),
            long_ago(number, 6),
        )
        service.daemon.flush()
    assert [(one.sequence, one.index, one.reason) for one in rejected] == [
        (1, index, Reason.INVALID_TIME) for index in (1, 2, 3, 4)
    ]
    for one, words in zip(
        rejected,
        ("ahead of the daemon's clock; allowed: 600 s", "has lasted", "not before the start", "The unit is nanosec"),
        strict=True,
    ):
        assert words in one.message
    assert len(rows_of(service.url, workspace(number))) == 2


def test_rejections_are_logged_at_a_bounded_rate(service: Service, number: int) -> None:
    bad = [report(number * 1_000 + place, now_us(), of=app(number, method=77)) for place in range(500)]
    seen = len(service.daemon.log)
    with Client(service.target) as client:
        client.report(*bad)
        client.report(*bad)
        service.daemon.status()
        logged = [event for event in service.daemon.log[seen:] if event["event"] == "A report was rejected"]
        assert 0 < len(logged) < 20
        assert logged[0]["client_id"] == client.client_id
        assert (logged[0]["sequence"], logged[0]["index"]) == (1, 0)
        assert "access_method is 77" in logged[0]["reason"]


def test_a_batch_sent_again_counts_once(service: Service, number: int) -> None:
    batch = [long_ago(number, place, requests=2) for place in range(3)]
    before = service.daemon.status().reports_duplicate
    with Client(service.target) as client:
        client.report(*batch)
        client.stream.send(request(1, batch))
        client.stream.acked(1)
        client.reopen()
        assert client.held == 1
        client.stream.send(request(1, batch))
        client.stream.acked(1)
        client.report(long_ago(number, 3))
        service.daemon.flush()
        service.daemon.flush()
    assert service.daemon.status().reports_duplicate == before + 6
    assert sorted(row.requests for row in rows_of(service.url, workspace(number))) == [1, 2, 2, 2]


def test_a_last_word_ends_what_is_live_and_a_second_one_is_answered_too(service: Service, number: int) -> None:
    began = now_us() - HOUR
    with Client(service.target) as client:
        client.report(*(report(number * 1_000 + place, began, requests=5, of=app(number)) for place in range(3)))
        before = now_us()
        client.stream.send(
            request(2, [report(number * 1_000, began, began + MINUTE * 2, requests=6, of=app(number))], closing=True)
        )
        client.stream.acked(2)
        assert client.stream.end().code is grpc.StatusCode.OK
        after = now_us()
        client.stream = RawStream(service.target)
        client.stream.send(request(client_id=client.client_id, closing=True))
        assert client.stream.receive().acked_sequence == 2
        assert client.stream.end().code is grpc.StatusCode.OK
        service.daemon.flush()
    ends = sorted((row.ended, row.end_source) for row in rows_of(service.url, workspace(number)))
    assert ends[0] == (began + 2 * MINUTE, EndSource.REPORTED)
    for ended, source in ends[1:]:
        assert before <= ended <= after
        assert source is EndSource.REPORTED


def test_a_count_that_saturates_stays_at_the_largest_integer(service: Service, number: int) -> None:
    start = now_us() // WINDOW * WINDOW - HOUR
    with Client(service.target) as client:
        client.report(
            report(number * 1_000, start, start + SECOND, 2**32 - 1, of=app(number)),
            report(number * 1_000 + 1, start, start + SECOND, 7, of=app(number)),
            long_ago(number, 2, requests=2**31),
        )
        service.daemon.flush()
    assert [row.requests for row in rows_of(service.url, workspace(number))] == [2**31 - 1] * 2


def test_10000_reports_in_one_batch_become_10000_rows(service: Service, number: int) -> None:
    batch = [long_ago(number, place) for place in range(10_000)]
    with Client(service.target) as client:
        client.report(*batch)
        service.daemon.flush()
    mine = rows_of(service.url, workspace(number))
    assert {row.session_id for row in mine} == {one.session_id for one in batch}


def test_two_streams_of_one_client_id_are_one_client_and_the_older_is_told(service: Service, number: int) -> None:
    with Client(service.target) as older:
        older.report(long_ago(number, 1))
        with Client(service.target, older.client_id) as newer:
            assert newer.held == 1
            ended = older.stream.end()
            assert ended.code is grpc.StatusCode.ABORTED
            assert older.client_id in ended.details
            [mine] = [each for each in service.daemon.status().clients if each.client_id == older.client_id]
            assert (mine.connected, mine.acked_sequence) == (True, 1)


def test_the_log_names_a_stream_that_broke_the_protocol(service: Service) -> None:
    seen = len(service.daemon.log)
    with Client(service.target) as client:
        client.stream.send(request(5))
        assert client.stream.end().code is grpc.StatusCode.INVALID_ARGUMENT
        event = service.daemon.wait_for_event("A stream was ended", seen)
    assert (event["client_id"], event["status"]) == (client.client_id, "INVALID_ARGUMENT")
    assert "batch 5 is empty" in event["reason"]
