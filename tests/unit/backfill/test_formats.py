"""What lines of access logs tell of, and which of them tell of nothing."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID, uuid5

import pytest
from appstatsd.accesslog.naming import Naming, Unnamed
from appstatsd.accesslog.origins import Constant, HostPattern, Origin, parse_origin
from appstatsd.backfill.caddy import CaddyFormat
from appstatsd.backfill.combined import CombinedFormat
from appstatsd.backfill.lines import LogFormat, Unread
from appstatsd.collect.apps import USER, WORKSPACE, slug_or_port

ANN, DESK, MAIN = UUID(int=1), UUID(int=2), UUID(int=3)
AT = datetime(2026, 11, 24, 10, 0, 5, tzinfo=UTC)
AT_US = (AT - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def naming(
    *, user: str = f"constant:{ANN}", workspace: str = f"constant:{DESK}", slug: str = "constant:code"
) -> Naming:
    def at(text: str) -> tuple[Origin, ...]:
        return (parse_origin(text),)

    pattern = HostPattern("{slug}--{workspace}.apps.example.com")
    return Naming(
        *(at(user), at(workspace), (Constant(str(MAIN)),), (Constant("path"),), at(slug)),
        pattern,
        UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8"),
    )


def apps(log_format: LogFormat, *lines: bytes) -> tuple[list[tuple[bytes, bytes, str, int, int]], Counter[Enum]]:
    """User, workspace, slug, start and end of each request."""
    skipped: Counter[Enum] = Counter()
    parsed = log_format.parse(lines, skipped)
    found = [
        (parsed.apps[app][USER], parsed.apps[app][WORKSPACE], slug_or_port(parsed.apps[app]), start, end)
        for app, start, end in zip(parsed.app, parsed.started_us, parsed.ended_us, strict=True)
    ]
    assert len(parsed.places) == len(found)
    return found, skipped


LINE = b'203.0.113.7 - %b [24/Nov/2026:10:00:05 +0000] "GET /a HTTP/1.1" 200 512 "http://r/" "agent \\"x\\" \\x41"'


def test_a_combined_line_is_a_session_without_length() -> None:
    found, skipped = apps(CombinedFormat(naming()), LINE % b"ann")
    assert found == [(ANN.bytes, DESK.bytes, "code", AT_US, AT_US)]
    assert not skipped


@pytest.mark.parametrize(
    "line",
    [
        b'::1 - - [24/Nov/2026:10:00:05 +0000] "GET / HTTP/1.1" 200 512',
        b'apps.example.com:443 ::1 - - [24/Nov/2026:10:00:05 +0000] "GET / HTTP/1.1" 304 - "-" "-"',
        b'10.0.0.1 - ann smith [24/Nov/2026:12:30:05 +0230] "-" 408 - "-" "-"',
        b'10.0.0.1 - - [24/Nov/2026:05:00:05 -0500] "GET /\\"[x] HTTP/1.1" 200 5 "-" "-" 0.003 "more"',
        b'10.0.0.1 - - [24/Nov/2026:10:00:05 +0000] "\\x16\\x03\\x01" 400 226 "-" "-"\r',
    ],
)
def test_relatives_of_the_combined_format_are_read_too(line: bytes) -> None:
    for user in (f"constant:{ANN}", "header:user-agent"):
        found, skipped = apps(CombinedFormat(naming(user=user)), line)
        if user.startswith("constant"):
            assert [when for *_, when in found] == [AT_US]
        else:
            assert skipped == {Unnamed.NO_USER: 1}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe",
        b"# a comment",
        b'10.0.0.1 - - [24/Nov/2026:10:00:05] "GET / HTTP/1.1" 200 512 "-" "-"',
        b'10.0.0.1 - - [31/Feb/2026:10:00:05 +0000] "GET / HTTP/1.1" 200 512 "-" "-"',
        b'10.0.0.1 - - [24/Nop/2026:10:00:05 +0000] "GET / HTTP/1.1" 200 512 "-" "-"',
        b'10.0.0.1 - - [24/Nov/2026:10:00:05 +0000] "GET / HTTP/1.1" 200x "-" "-"',
        b'10.0.0.1 - - [24/Nov/2026:10:00:05 +0000] "GET / HTTP/1.1',
    ],
)
def test_what_is_no_combined_line_is_counted(line: bytes) -> None:
    assert apps(CombinedFormat(naming()), line) == ([], {Unread.MALFORMED: 1})


def test_names_are_taken_from_what_a_combined_line_has() -> None:
    line = b'code--desk.apps.example.com:443 203.0.113.7 - %b [24/Nov/2026:10:00:05 +0000] "GET / HTTP/1.1" 200 5 "%b" "%b"'
    names = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
    by_host = CombinedFormat(naming(user="tag:remote_user", workspace="host:workspace", slug="host:slug"))
    [found], skipped = apps(by_host, line % (b"ann", b"-", b"-"), line % (b"-", b"-", b"-"))
    assert found == (uuid5(names, "ann").bytes, uuid5(names, "desk").bytes, "code", AT_US, AT_US)
    assert skipped == {Unnamed.NO_USER: 1}
    by_others = CombinedFormat(naming(user="tag:remote_host", workspace="header:referer", slug="header:user-agent"))
    [found], _ = apps(by_others, line % (b"-", b"desk", b'a\\"b\\x41\\\\'))
    assert found == (uuid5(names, "203.0.113.7").bytes, uuid5(names, "desk").bytes, 'a"bA\\', AT_US, AT_US)


def test_a_field_that_a_combined_line_does_not_have_names_nothing() -> None:
    unknown = CombinedFormat(naming(user="header:x-user"))
    assert apps(unknown, LINE % b"ann")[1] == {Unnamed.NO_USER: 1}


def caddy(**changes: Any) -> bytes:
    request = {
        "remote_ip": "203.0.113.7",
        "host": "code--desk.apps.example.com",
        "method": "GET",
        "uri": "/",
        "headers": {"X-User-Id": [str(ANN)], "User-Agent": ["x"]},
    }
    record = {"level": "info", "ts": AT_US / 1e6, "logger": "http.log.access.log0", "msg": "handled request"}
    return json.dumps(record | {"request": request, "user_id": "", "duration": 0.25, "status": 200} | changes).encode()


def test_a_caddy_line_is_a_session_from_its_begin_to_its_end() -> None:
    log_format = CaddyFormat(naming(user="header:x-user-id", slug="host:slug"))
    found, skipped = apps(log_format, caddy(), caddy(duration=7200))
    assert found == [
        (ANN.bytes, DESK.bytes, "code", AT_US - 250_000, AT_US),
        (ANN.bytes, DESK.bytes, "code", AT_US - 7_200_000_000, AT_US),
    ]
    assert not skipped


def test_a_caddy_line_has_the_authenticated_user_and_the_address_as_tags() -> None:
    log_format = CaddyFormat(naming(user="tag:remote_user", slug="tag:remote_host"))
    found, skipped = apps(log_format, caddy(user_id=str(ANN)), caddy())
    assert [(user, slug) for user, _, slug, *_ in found] == [(ANN.bytes, "203.0.113.7")]
    assert skipped == {Unnamed.NO_USER: 1}


def test_what_caddy_logs_of_itself_is_counted_apart() -> None:
    line = b'{"level":"info","ts":1700000000.1,"logger":"admin","msg":"admin endpoint started"}'
    assert apps(CaddyFormat(naming()), line) == ([], {Unread.NO_REQUEST: 1})


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 200_000,
        b"7",
        b'{"request": {}}',
        b'{"request": 5, "ts": 5}',
        caddy(ts="2026-11-24T10:00:05Z"),
        caddy(ts=True),
        caddy(ts=-1),
        caddy(ts=1e300),
        caddy(duration=-1),
        caddy(request={"host": 5, "headers": {}}),
        caddy(request={"host": "\ud800", "headers": {}}),
        caddy(request={"host": ["a"], "headers": {}}),
        caddy(request={"host": "a", "headers": {"X-User-Id": [["a"]]}}),
        caddy(request={"host": "a", "headers": []}),
    ],
)
def test_what_is_no_line_of_caddys_is_counted(line: bytes) -> None:
    log_format = CaddyFormat(naming(user="header:x-user-id", slug="host:slug"))
    assert apps(log_format, line, caddy())[1] == {Unread.MALFORMED: 1}
