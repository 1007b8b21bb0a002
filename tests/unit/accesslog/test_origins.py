"""Where a name stands in an entry, and how that is written."""

from __future__ import annotations

import string

import pytest
from appstatsd.accesslog.entry import Entry
from appstatsd.accesslog.origins import HostPattern, parse_origin
from hypothesis import given
from hypothesis import strategies as st

PATTERN = HostPattern("{slug}--{agent}--{workspace}--{user}.apps.example.com")
ENTRY = Entry(
    host="code--main--dev--alice.apps.example.com:8443",
    headers={"x-user-id": "of header"},
    tags={"user": "of tag"},
    metadata={"jwt": {"payload": {"sub": "of metadata", "port": 8080.0, "share": 0.5, "admin": True}}},
    filter_state={"who": "of filter state", "tree": {"name": "in a tree"}},
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("header:x-user-id", "of header"),
        ("header:X-User-Id", "of header"),
        ("header:x-other", ""),
        ("tag:user", "of tag"),
        ("tag:USER", ""),
        ("metadata:jwt/payload/sub", "of metadata"),
        ("metadata:jwt/payload/port", "8080"),
        ("metadata:jwt/payload/share", ""),
        ("metadata:jwt/payload/admin", ""),
        ("metadata:jwt/payload", ""),
        ("metadata:jwt/payload/sub/deeper", ""),
        ("metadata:other/sub", ""),
        ("filter-state:who", "of filter state"),
        ("filter-state:tree/name", "in a tree"),
        ("filter-state:tree", ""),
        ("filter-state:nobody", ""),
        ("host:user", "alice"),
        ("host:slug", "code"),
        ("constant:main", "main"),
        ("constant:a:b", "a:b"),
    ],
)
def test_an_origin_gives_what_stands_there_and_nothing_where_nothing_does(text: str, name: str) -> None:
    assert parse_origin(text).find(ENTRY, PATTERN.names_in(ENTRY.host)) == name


@pytest.mark.parametrize(
    "text",
    ["", "x-user-id", "header:", "Header:x", "cookie:user", "metadata:jwt", "metadata:jwt//sub", "metadata:/sub"],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_origin(text)


@pytest.mark.parametrize(
    "host",
    [
        "code--main--dev--alice.apps.example.com",
        "code--main--dev--alice.apps.example.com:443",
        "code--main--dev--alice.apps.example.com.",
        "CODE--Main--dev--alice.Apps.example.COM",
    ],
)
def test_a_host_name_is_read_whatever_its_case_and_its_port(host: str) -> None:
    assert PATTERN.names_in(host) == {"slug": "code", "agent": "main", "workspace": "dev", "user": "alice"}


@pytest.mark.parametrize(
    "host",
    [
        "",
        "apps.example.com",
        "main--dev--alice.apps.example.com",
        "code--main--dev--alice--else.apps.example.com",
        "code---main--dev--alice.apps.example.com",
        "code----dev--alice.apps.example.com",
        "code--main--dev--al.ice.apps.example.com",
        "code--main--dev--alice.apps.example.com.evil.org",
        "code--main--dev--alice.appsXexample.com",
    ],
)
def test_a_host_name_that_does_not_match_in_one_way_has_no_names(host: str) -> None:
    assert PATTERN.names_in(host) == {}


NAMES = st.from_regex(r"[a-z0-9_]+(-[a-z0-9_]+)*", fullmatch=True)


@given(NAMES, NAMES, NAMES, NAMES)
def test_names_that_are_put_into_a_host_name_are_found_again(slug: str, agent: str, workspace: str, user: str) -> None:
    host = f"{slug}--{agent}--{workspace}--{user}.apps.example.com"
    assert PATTERN.names_in(host) == {"slug": slug, "agent": agent, "workspace": workspace, "user": user}


@given(st.text(string.ascii_lowercase + "-.:{}", max_size=60))
def test_no_host_name_is_read_in_a_way_that_does_not_give_it_back(host: str) -> None:
    names = PATTERN.names_in(host)
    if names:
        assert host.rpartition(":")[0] in ("", host.partition(":")[0])
        assert host.startswith("--".join(names[name] for name in ("slug", "agent", "workspace", "user")))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("apps.example.com", "no {name}"),
        ("{}.example.com", "is not a name"),
        ("{a b}.example.com", "is not a name"),
        ("{user}--{user}.example.com", "twice"),
        ("{user}{workspace}.example.com", "nothing between"),
        ("{user}.exa mple.com", "beside the"),
        ("{user.example.com", "no {name}"),
        ("{user}}.example.com", "beside the"),
    ],
)
def test_what_is_no_host_pattern_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        HostPattern(text)
