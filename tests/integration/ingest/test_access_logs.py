"""What becomes of Envoy's access log over a real connection, as far as the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import pytest
from appstatsd.accesslog.batch import MAX_REPORTS
from appstatsd.accesslog.envoy import Skipped
from appstatsd.accesslog.naming import Unnamed
from appstatsd.events import Came, Received, Went
from appstatsd.ingest.stream import MAX_UNANSWERED

from tests.support.access_logs import NAMING, START, common, http, message, tcp
from tests.support.daemon import eventually
from tests.support.raw_client import ACCESS_LOGS, RawStream, request
from tests.support.reports import T0, report
from tests.support.served import Served

Open = Callable[[Served], RawStream]


@pytest.fixture
def logs(serve: Callable[..., Served]) -> Served:
    return serve(naming=NAMING)


@pytest.fixture
def open_log() -> Iterator[Open]:
    with ExitStack() as streams:
        yield lambda served: streams.enter_context(RawStream(served.target, path=ACCESS_LOGS))


def live(served: Served) -> int:
    return served.ask(lambda ledger: ledger.collector.live_sessions)


def accepted(served: Served) -> int:
    return served.ask(lambda ledger: ledger.tally.accepted)


def names(served: Served) -> list[str]:
    return served.ask(lambda ledger: [client.client_id for client in ledger.collector.clients])


def test_the_first_message_alone_says_whose_log_it_is(logs: Served, open_log: Open) -> None:
    stream = open_log(logs)
    stream.send(message(http(common(START, stream_id="1")), node="edge-1"))
    stream.send(message(http(common(START, stream_id="2"))))
    stream.send(message(tcp(common(1, stream_id="3"))))
    eventually(lambda: live(logs), lambda count: count == 3)
    assert names(logs) == ["als/edge-1/http"]


def test_a_first_message_may_tell_nothing_yet(logs: Served, open_log: Open) -> None:
    stream = open_log(logs)
    stream.send(message(node="edge-1"))
    stream.send(message())
    eventually(lambda: names(logs), lambda found: found == ["als/edge-1/http"])
    assert accepted(logs) == 0


def test_names_are_quoted_so_that_no_two_logs_are_one_client(logs: Served, open_log: Open) -> None:
    for node, log in (("a/b", "c"), ("a", "b/c"), ("sidecar~10.0.0.1~web-1.ns~cluster.local", "ütf")):
        open_log(logs).send(message(http(common(START)), node=node, log=log))
    wanted = {"als/a%2Fb/c", "als/a/b%2Fc", "als/sidecar~10.0.0.1~web-1.ns~cluster.local/%C3%BCtf"}
    eventually(lambda: set(names(logs)), lambda found: found == wanted)


def test_what_envoy_says_of_itself_is_shown(logs: Served, open_log: Open) -> None:
    first = message(http(common(START)), node="edge-1")
    first.identifier.node.user_agent_name = "envoy"
    first.identifier.node.user_agent_build_version.version.major_number = 1
    first.identifier.node.user_agent_build_version.version.minor_number = 40
    open_log(logs).send(first)
    eventually(
        lambda: logs.ask(lambda ledger: [client.software for client in ledger.collector.clients]),
        lambda found: found == ["envoy 1.40.0"],
    )


def test_streams_of_one_log_are_open_side_by_side_and_each_ends_alone(logs: Served, open_log: Open) -> None:
    first, second = open_log(logs), open_log(logs)
    for number, stream in enumerate((first, second)):
        stream.send(message(http(common(START, stream_id=str(number))), node="edge-1"))
    eventually(lambda: live(logs), lambda count: count == 2)
    first.half_close()
    assert first.end().code is grpc.StatusCode.OK
    assert logs.ask(lambda ledger: [client.here for client in ledger.collector.clients]) == [True]
    second.send(message(http(common(START, stream_id="2"))))
    eventually(lambda: live(logs), lambda count: count == 3)
    second.close()
    eventually(
        lambda: logs.ask(lambda ledger: [client.here for client in ledger.collector.clients]),
        lambda here: here == [False],
    )


def test_a_client_that_closes_its_side_is_told_the_one_message_of_the_service(logs: Served, open_log: Open) -> None:
    stream = open_log(logs)
    stream.send(message(http(common()), node="edge-1"))
    stream.half_close()
    assert stream.receive().ByteSize() == 0
    assert stream.end().code is grpc.StatusCode.OK
    assert accepted(logs) == 1


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (message(http(common())), "the first message has a node.id of 0 characters"),
        (message(node="n" * 257), "the first message has a node.id of 257 characters"),
        (message(node="edge-1", log=""), "the first message has a log_name of 0 characters"),
        (b"\xff", "the message is not a StreamAccessLogsMessage"),
    ],
)
def test_a_stream_that_does_not_say_whose_it_is_ends_with_what_was_expected(
    logs: Served, open_log: Open, first: object, said: str
) -> None:
    stream = open_log(logs)
    stream.send(first)  # type: ignore[arg-type]
    ended = stream.end()
    assert ended.code is grpc.StatusCode.INVALID_ARGUMENT
    assert said in ended.details
    assert names(logs) == []


def test_a_later_message_that_cannot_be_read_ends_the_stream_and_what_came_before_it_counts(
    logs: Served, open_log: Open
) -> None:
    stream = open_log(logs)
    stream.send(message(http(common()), node="edge-1"))
    stream.send(b"\xff")
    ended = stream.end()
    assert (ended.code, "StreamAccessLogsMessage" in ended.details) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    assert accepted(logs) == 1


def test_entries_that_tell_of_no_session_are_counted_by_their_reason_and_cost_no_other(
    logs: Served, open_log: Open
) -> None:
    stream = open_log(logs)
    nobody = [http(common(), user="") for _ in range(3)]
    others = [http(common(7)), http(common(14)), http(common(0, 0)), http(common(stream_id="2"))]
    stream.send(message(*nobody, *others, node="edge-1"))
    eventually(lambda: accepted(logs), lambda count: count == 1)
    assert logs.logs is not None
    assert {reason: count for reason, count in logs.logs.skipped.items() if count} == {
        Unnamed.NO_USER: 3,
        Skipped.UPSTREAM: 1,
        Skipped.UNKNOWN_TYPE: 1,
        Skipped.NO_START: 1,
    }


def test_a_large_message_becomes_several_batches(logs: Served, open_log: Open) -> None:
    stream = open_log(logs)
    stream.send(message(*(http(common(stream_id=str(number))) for number in range(2 * MAX_REPORTS + 1)), node="edge-1"))
    eventually(lambda: accepted(logs), lambda count: count == 2 * MAX_REPORTS + 1)
    assert sum(isinstance(event, Received) for event in logs.log.events) == 3


@pytest.mark.parametrize(("messages", "entries"), [(3 * MAX_UNANSWERED, 1), (1, 2 * MAX_UNANSWERED * MAX_REPORTS)])
def test_a_stream_is_not_read_faster_than_the_drain_takes(
    logs: Served, open_log: Open, messages: int, entries: int
) -> None:
    logs.log.gate.clear()
    logs.drain.put(Went(0, T0, 0))  # so that the drain is at the gate
    stream = open_log(logs)
    for number in range(messages):
        told = (http(common(stream_id=f"{number} {entry}")) for entry in range(entries))
        stream.send(message(*told, node="edge-1"))
    eventually(logs.drain._items.qsize, lambda waiting: waiting >= MAX_UNANSWERED)
    logs.run(asyncio.sleep(0.2))  # in which more would come
    logs.log.gate.set()
    eventually(lambda: accepted(logs), lambda count: count == messages * entries)
    together = [sum(isinstance(event, Received) for event in events) for events in logs.log.drains]
    assert max(together) <= MAX_UNANSWERED


def test_while_streams_are_refused_those_of_access_logs_are_too(logs: Served, open_log: Open) -> None:
    stream = open_log(logs)
    stream.send(message(http(common()), node="edge-1"))
    eventually(lambda: accepted(logs), lambda count: count == 1)
    logs.refuse("the daemon stops", 1000)
    assert stream.end().code is grpc.StatusCode.UNAVAILABLE
    assert open_log(logs).end().code is grpc.StatusCode.UNAVAILABLE


def test_for_the_drain_a_stream_begins_and_ends_once(logs: Served, open_log: Open) -> None:
    stream = open_log(logs)
    stream.send(message(http(common()), node="edge-1"))
    eventually(lambda: accepted(logs), lambda count: count == 1)
    stream.close()
    eventually(lambda: logs.ask(lambda ledger: ledger.open_streams), lambda count: count == 0)
    assert [type(event) for event in logs.log.events][1:] == [Came, Received, Went]


def test_a_report_that_the_collector_rejects_costs_no_other(logs: Served, open_log: Open) -> None:
    stream = open_log(logs)
    ancient = http(common(stream_id="1", start_us=T0 - 400 * 86_400_000_000, took_us=399 * 86_400_000_000))
    stream.send(message(ancient, http(common(stream_id="2")), node="edge-1"))
    eventually(lambda: accepted(logs), lambda count: count == 1)
    assert logs.ask(lambda ledger: ledger.tally.rejected.total()) == 1


def test_no_client_may_take_the_name_of_a_log(logs: Served) -> None:
    with RawStream(logs.target) as stream:
        stream.send(request(1, [report(1)], client_id="als/edge-1/http"))
        ended = stream.end()
        assert ended.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "'als/edge-1/http' begins with 'als/'" in ended.details


def test_without_settings_for_it_there_is_no_such_service(served: Served, open_log: Open) -> None:
    stream = open_log(served)
    stream.send(message(http(common()), node="edge-1"))
    assert stream.end().code is grpc.StatusCode.UNIMPLEMENTED
