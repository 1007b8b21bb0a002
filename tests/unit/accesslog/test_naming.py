"""Which app an entry of an access log tells of, and why it tells of none."""

from __future__ import annotations

from uuid import NAMESPACE_DNS, UUID, uuid5

import pytest
from appstatsd.accesslog.entry import Entry
from appstatsd.accesslog.naming import MAX_SLUG_CHARACTERS, METHODS, NamedApp, Naming, Unnamed, id_of
from appstatsd.accesslog.origins import HostPattern, Origin, parse_origin
from appstatsd.collect import apps, validate
from appstatsd.collect.batch import ReportedApp
from hypothesis import given
from hypothesis import strategies as st

ALICE = UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")


def origins(*texts: str) -> tuple[Origin, ...]:
    return tuple(map(parse_origin, texts))


def naming(
    user: tuple[Origin, ...] = origins("header:user"),
    workspace: tuple[Origin, ...] = origins("header:workspace"),
    agent: tuple[Origin, ...] = origins("constant:main"),
    access_method: tuple[Origin, ...] = origins("header:method", "constant:subdomain"),
    slug_or_port: tuple[Origin, ...] = origins("header:slug"),
    host_pattern: HostPattern | None = None,
    namespace: UUID | None = NAMESPACE_DNS,
) -> Naming:
    return Naming(user, workspace, agent, access_method, slug_or_port, host_pattern, namespace)


def entry(**headers: str) -> Entry:
    return Entry(headers={"user": str(ALICE), "workspace": "dev", "slug": "code"} | headers)


def test_a_uuid_names_itself_and_another_name_becomes_one_of_version_5_in_the_namespace() -> None:
    assert naming().app_of(entry()) == NamedApp(
        ALICE.bytes, uuid5(NAMESPACE_DNS, "dev").bytes, uuid5(NAMESPACE_DNS, "main").bytes, 2, "code"
    )


def test_the_first_origin_that_has_a_name_counts() -> None:
    several = naming(slug_or_port=origins("header:port", "header:slug", "constant:none"))
    assert several.app_of(entry(port="8080")) == naming(slug_or_port=origins("constant:8080")).app_of(entry())
    assert several.app_of(entry()) == naming().app_of(entry())
    assert several.app_of(entry(slug="")) == naming(slug_or_port=origins("constant:none")).app_of(entry())


def test_names_can_all_stand_in_the_host_name() -> None:
    found = naming(
        origins("host:user"),
        origins("host:workspace"),
        origins("host:agent"),
        origins("constant:subdomain"),
        origins("host:slug"),
        HostPattern("{slug}--{agent}--{workspace}--{user}.apps.example.com"),
    ).app_of(Entry(host=f"code--main--dev--{ALICE}.apps.example.com:443"))
    assert found == naming().app_of(entry())


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"user": ""}, Unnamed.NO_USER),
        ({"workspace": ""}, Unnamed.NO_WORKSPACE),
        ({"method": "ssh"}, Unnamed.NO_ACCESS_METHOD),
        ({"slug": ""}, Unnamed.NO_SLUG_OR_PORT),
        ({"slug": "x" * 257}, Unnamed.NO_SLUG_OR_PORT),
        ({"slug": "a\0b"}, Unnamed.NO_SLUG_OR_PORT),
        ({"user": str(UUID(int=0))}, Unnamed.NO_UUID),
    ],
)
def test_an_entry_without_a_needed_name_tells_of_no_app_and_why(headers: dict[str, str], why: Unnamed) -> None:
    assert naming().app_of(entry(**headers)) is why


def test_an_entry_without_an_agent_tells_of_no_app() -> None:
    assert naming(agent=origins("header:agent")).app_of(entry()) is Unnamed.NO_AGENT


def test_without_a_namespace_only_uuids_are_names() -> None:
    strict = naming(agent=origins("header:user"), namespace=None)
    assert strict.app_of(entry()) is Unnamed.NO_UUID
    assert strict.app_of(entry(workspace=str(ALICE))) == NamedApp(ALICE.bytes, ALICE.bytes, ALICE.bytes, 2, "code")


def test_a_terminal_needs_no_slug_and_methods_may_be_in_capitals() -> None:
    app = naming().app_of(entry(slug="", method="Terminal"))
    assert isinstance(app, NamedApp)
    assert (app.access_method, app.slug_or_port) == (3, "")


@pytest.mark.parametrize("text", ["{%s}", "urn:uuid:%s", "%s ", "0x%s"])
def test_other_spellings_of_a_uuid_are_names_like_others(text: str) -> None:
    name = text % ALICE
    assert id_of(name, NAMESPACE_DNS) == uuid5(NAMESPACE_DNS, name).bytes
    assert id_of(ALICE.hex, NAMESPACE_DNS) == uuid5(NAMESPACE_DNS, ALICE.hex).bytes
    assert id_of(str(ALICE).upper(), None) == ALICE.bytes


def test_methods_and_limits_are_those_of_reports() -> None:
    assert {name: apps.METHODS.index(name) for name in METHODS} == METHODS
    assert set(METHODS) == set(apps.METHODS[1:])
    assert MAX_SLUG_CHARACTERS == validate.MAX_SLUG_CHARACTERS


@given(st.fixed_dictionaries({name: st.text(max_size=40) for name in ("user", "workspace", "agent", "method", "slug")}))
def test_whatever_an_entry_says_the_app_that_it_names_is_one_that_reports_may_name(headers: dict[str, str]) -> None:
    app = naming(agent=origins("header:agent")).app_of(Entry(headers=headers))
    if isinstance(app, NamedApp):
        reported = ReportedApp(app.user_id, app.workspace_id, app.agent_id, app.access_method, app.slug_or_port)
        assert not isinstance(validate.checked_app(reported), ReportedApp)
