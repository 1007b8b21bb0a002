"""What each entry of Envoy's access log means: which session it tells of, from when to when, or why of none."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

import pytest
from appstatsd.accesslog.batch import batch
from appstatsd.accesslog.envoy import Log, Skipped, Told, told
from appstatsd.accesslog.naming import Naming, Unnamed
from appstatsd.accesslog.origins import HostPattern, parse_origin
from appstatsd.decode import Decoder
from envoy.config.core.v3.address_pb2 import Address, Pipe
from envoy.data.accesslog.v3.accesslog_pb2 import AccessLogCommon, HTTPAccessLogEntry, TCPAccessLogEntry
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import BoolValue, StringValue
from hypothesis import given
from hypothesis import strategies as st

from tests.support.access_logs import END, NAMING, PERIODIC, START, common, http, message, tcp
from tests.support.reports import SECOND, T0, reports_of

LOG = Log("edge-1", "http")
NOW_NS = (T0 + 60 * SECOND) * 1000


def tell(
    entry: HTTPAccessLogEntry | TCPAccessLogEntry, naming: Naming = NAMING, log: Log = LOG
) -> Told | Unnamed | Skipped:
    ((_, one),) = told(message(entry), log, naming, NOW_NS)
    return one


def session(entry: HTTPAccessLogEntry | TCPAccessLogEntry, naming: Naming = NAMING, log: Log = LOG) -> Told:
    one = tell(entry, naming, log)
    assert isinstance(one, Told), one
    return one


@pytest.mark.parametrize("make", [http, tcp])
class TestTheType:
    @pytest.mark.parametrize("kind", [1, 2, 4, 5, 10, 11, 12])
    def test_what_begins_or_goes_on_is_live(self, make: Any, kind: int) -> None:
        one = session(make(common(kind)))
        assert (one.started_ns, one.ended_ns) == (T0 * 1000, 0)

    @pytest.mark.parametrize("kind", [0, 3, 6, 13])
    def test_what_ends_has_an_end(self, make: Any, kind: int) -> None:
        one = session(make(common(kind, duration=Duration(seconds=7))))
        assert (one.started_ns, one.ended_ns) == (T0 * 1000, (T0 + 7 * SECOND) * 1000)

    @pytest.mark.parametrize("kind", [7, 8, 9])
    def test_the_upstream_side_is_no_session(self, make: Any, kind: int) -> None:
        assert tell(make(common(kind))) is Skipped.UPSTREAM

    @pytest.mark.parametrize("kind", [14, 15, 99, -1])
    def test_a_type_that_is_not_known_is_no_session(self, make: Any, kind: int) -> None:
        assert tell(make(common(kind))) is Skipped.UNKNOWN_TYPE

    def test_what_goes_on_is_live_in_an_old_envoys_log_too_which_knows_no_types(self, make: Any) -> None:
        assert session(make(common(0, intermediate_log_entry=True))).ended_ns == 0


class TestTheTimes:
    def test_before_there_was_a_duration_the_last_byte_is_the_end(self) -> None:
        old = common(0, time_to_last_rx_byte=Duration(seconds=9), time_to_last_downstream_tx_byte=Duration(seconds=8))
        assert session(http(old)).ended_ns == (T0 + 9 * SECOND) * 1000

    def test_an_end_that_says_nothing_of_how_long_it_took_is_now(self) -> None:
        assert session(tcp(common(0))).ended_ns == NOW_NS

    def test_no_end_lies_before_the_start(self) -> None:
        late = NOW_NS // 1000 + SECOND
        assert session(tcp(common(0, late))).ended_ns == late * 1000
        assert session(tcp(common(END, T0, -SECOND))).ended_ns == T0 * 1000

    def test_an_entry_without_a_start_is_no_session(self) -> None:
        entry = http(AccessLogCommon(access_log_type=END))
        assert tell(entry) is Skipped.NO_START

    @given(
        st.integers(-(2**62), 2**62), st.integers(-(2**31), 2**31 - 1), st.integers(-(2**62), 2**62), st.integers(0, 14)
    )
    def test_whatever_the_times_are_a_batch_can_be_made_of_them(
        self, seconds: int, nanos: int, took: int, kind: int
    ) -> None:
        properties = common(kind)
        properties.start_time.seconds, properties.start_time.nanos = seconds, nanos
        properties.duration.seconds = took
        one = tell(http(properties))
        if isinstance(one, Told):
            assert one.started_ns > 0
            assert not one.ended_ns or one.ended_ns >= one.started_ns
            batch([one])


class TestTheSession:
    def test_start_middle_and_end_of_a_request_are_one_session(self) -> None:
        ids = {session(http(common(kind))).session_id for kind in (START, PERIODIC, END)}
        assert len(ids) == 1

    @pytest.mark.parametrize(
        "other",
        [
            session(http(common(stream_id="r2"))),
            session(http(common(start_us=T0 + 1))),
            session(http(common(port=40_001))),
            session(http(common()), log=Log("edge-2", "http")),
            session(http(common()), log=Log("edge-1", "other")),
        ],
        ids=["stream id", "start", "port", "node", "log"],
    )
    def test_a_request_that_differs_in_one_of_what_makes_it_is_another_session(self, other: Told) -> None:
        assert other.session_id != session(http(common())).session_id

    def test_the_peer_may_be_on_a_unix_socket_or_known_only_by_what_is_said_of_it(self) -> None:
        def at(address: Address, field: str) -> bytes:
            properties = AccessLogCommon(access_log_type=END, **{field: address})
            properties.start_time.FromMicroseconds(T0)
            return session(http(properties)).session_id

        one, two = Address(pipe=Pipe(path="/run/a")), Address(pipe=Pipe(path="/run/b"))
        said, direct = "downstream_remote_address", "downstream_direct_remote_address"
        assert at(one, said) == at(one, direct) != at(two, direct) == at(two, said)


def packed(content: Any) -> AnyMessage:
    made = AnyMessage()
    made.Pack(content)
    return made


def tree(**fields: Any) -> Struct:
    made = Struct()
    made.update(fields)
    return made


PLACES = common(
    custom_tags={"user": "alice"},
    filter_state_objects={
        "user": packed(StringValue(value="alice")),
        "claims": packed(tree(sub="alice")),
        "flag": packed(BoolValue(value=True)),
        "broken": AnyMessage(type_url="type.googleapis.com/google.protobuf.StringValue", value=b"\xff"),
    },
)
PLACES.metadata.filter_metadata["jwt"].update({"payload": {"sub": "alice", "port": 8080}})
PLACES.tls_properties.tls_sni_hostname = "alice.apps.example.com"
HTTP = http(PLACES, user="alice", host="alice.apps.example.com:443")
TCP = tcp(PLACES)


@pytest.mark.parametrize("entry", [HTTP, TCP], ids=["HTTP", "TCP"])
@pytest.mark.parametrize(
    ("origin", "protocols"),
    [
        ("header:x-user", ["HTTP"]),
        ("tag:user", ["HTTP", "TCP"]),
        ("metadata:jwt/payload/sub", ["HTTP", "TCP"]),
        ("filter-state:user", ["HTTP", "TCP"]),
        ("filter-state:claims/sub", ["HTTP", "TCP"]),
        ("host:user", ["HTTP", "TCP"]),
        ("constant:alice", ["HTTP", "TCP"]),
        ("filter-state:flag", []),
        ("filter-state:broken", []),
        ("filter-state:none", []),
        ("metadata:none/sub", []),
        ("metadata:jwt/none/sub", []),
    ],
)
def test_a_name_is_found_in_every_place_that_the_protocol_has(
    entry: HTTPAccessLogEntry | TCPAccessLogEntry, origin: str, protocols: list[str]
) -> None:
    naming = Naming(
        user=(parse_origin(origin),),
        workspace=NAMING.workspace,
        agent=NAMING.agent,
        access_method=NAMING.access_method,
        slug_or_port=NAMING.slug_or_port,
        host_pattern=HostPattern("{user}.apps.example.com"),
        namespace=NAMESPACE_DNS,
    )
    before = entry.SerializeToString(deterministic=True)
    one = tell(entry, naming)
    if ("HTTP" if entry is HTTP else "TCP") in protocols:
        assert isinstance(one, Told)
        assert one.app.user_id == uuid5(NAMESPACE_DNS, "alice").bytes
    else:
        assert one is Unnamed.NO_USER
    assert entry.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("field", "header"),
    [
        ("authority", ":authority"),
        ("path", ":path"),
        ("original_path", ":path"),
        ("user_agent", "user-agent"),
        ("referer", "referer"),
        ("forwarded_for", "x-forwarded-for"),
        ("request_id", "x-request-id"),
    ],
)
def test_headers_that_envoy_tells_apart_from_the_others_are_headers_too(field: str, header: str) -> None:
    entry = http(common())
    setattr(entry.request, field, "it")
    ((read, _),) = told(message(entry), LOG, NAMING, NOW_NS)
    assert read.headers[header] == "it"


@given(st.binary(max_size=200))
def test_no_message_however_odd_is_more_than_entries_that_tell_of_something_or_say_why_not(content: bytes) -> None:
    odd = StreamAccessLogsMessage()
    try:
        odd.ParseFromString(content)
    except DecodeError:
        return
    sessions = [one for _, one in told(odd, LOG, NAMING, NOW_NS) if isinstance(one, Told)]
    Decoder().decode(batch(sessions))


def test_a_session_whose_names_are_missing_says_which_is() -> None:
    assert tell(http(common(), user="")) is Unnamed.NO_USER
    assert tell(tcp(common(), user="")) is Unnamed.NO_USER


def test_a_batch_says_what_its_sessions_say() -> None:
    entries = [http(common(stream_id=str(number)), user="alice" if number % 2 else "bob") for number in range(5)]
    sessions = [session(entry) for entry in (*entries, http(common(START, stream_id="live")))]
    request = Decoder().decode(batch(sessions))
    assert (request.client_id, request.sequence, request.closing) == ("", 0, False)
    made = request.batch
    assert made is not None
    assert len(made.apps) == 2
    assert [
        (astuple(one.app), one.session_id, one.started_ns, one.ended_ns, one.requests) for one in reports_of(made)
    ] == [(astuple(one.app), one.session_id, one.started_ns, one.ended_ns, 1) for one in sessions]
