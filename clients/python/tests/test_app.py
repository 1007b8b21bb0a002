"""What an app is made of is checked where it is made."""

from __future__ import annotations

from uuid import UUID

import pytest
from appstatsd_client import AccessMethod, App

USER, WORKSPACE, AGENT = (UUID(int=n << 100 | n) for n in (1, 2, 3))


def test_ids_may_be_uuids_bytes_or_text() -> None:
    app = App(USER, WORKSPACE, AGENT, AccessMethod.PATH, "code")
    assert App(USER.bytes, WORKSPACE.bytes, AGENT.bytes, AccessMethod.PATH, "code") == app
    assert App(str(USER), WORKSPACE.hex, str(AGENT).upper(), AccessMethod.PATH, "code") == app
    assert app.user_id == USER.bytes
    assert len({app, App(str(USER), str(WORKSPACE), str(AGENT), AccessMethod.PATH, "code")}) == 1


@pytest.mark.parametrize(
    "wrong", ["", "code", "1234", str(USER) + "0", b"short", bytes(17), bytes(16), UUID(int=0), "0" * 32, "é" * 32]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_id_that_is_none_is_named(place: int, wrong: str | bytes | UUID) -> None:
    values: list[str | bytes | UUID] = [USER, WORKSPACE, AGENT]
    values[place] = wrong
    with pytest.raises(ValueError, match=("user_id", "workspace_id", "agent_id")[place]):
        App(*values, AccessMethod.PATH, "code")


@pytest.mark.parametrize("slug", ["", "x" * 257, "a\0b", "\ud800"])
def test_a_slug_that_the_daemon_would_reject_is_an_error(slug: str) -> None:
    with pytest.raises(ValueError, match=r"slug_or_port|surrogates"):
        App(USER, WORKSPACE, AGENT, AccessMethod.SUBDOMAIN, slug)


def test_the_longest_slug_and_a_terminals_empty_one_are_fine() -> None:
    assert App(USER, WORKSPACE, AGENT, AccessMethod.PATH, "\U0001f600" * 256).slug_or_port == "\U0001f600" * 256
    assert App(USER, WORKSPACE, AGENT, AccessMethod.TERMINAL, "").slug_or_port == ""


@pytest.mark.parametrize("method", [0, 4])
def test_an_access_method_that_is_none_is_an_error(method: int) -> None:
    with pytest.raises(ValueError, match="AccessMethod"):
        App(USER, WORKSPACE, AGENT, method, "code")  # type: ignore[arg-type]


def test_apps_that_differ_in_one_field_are_different() -> None:
    apps = {
        App(USER, WORKSPACE, AGENT, AccessMethod.PATH, "code"),
        App(WORKSPACE, WORKSPACE, AGENT, AccessMethod.PATH, "code"),
        App(USER, USER, AGENT, AccessMethod.PATH, "code"),
        App(USER, WORKSPACE, USER, AccessMethod.PATH, "code"),
        App(USER, WORKSPACE, AGENT, AccessMethod.TERMINAL, "code"),
        App(USER, WORKSPACE, AGENT, AccessMethod.PATH, "3000"),
    }
    assert len(apps) == 6
