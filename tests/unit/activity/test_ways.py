"""Activity is told in the ways that are set, and in none by default."""

from __future__ import annotations

import pytest
from appstatsd.activity.ways import tellers
from appstatsd.cli.sources import Flags, Host, read

HOST = Host(uid=1000, terminal=False)


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ({}, []),
        ({"activity-notify": ("true",)}, ["notify"]),
        ({"activity-hook": ("https://host/used",)}, ["hook"]),
        ({"activity-notify": ("true",), "activity-hook": ("http://host",)}, ["notify", "hook"]),
    ],
)
def test_only_the_ways_that_are_set_are_used(flags: Flags, names: list[str]) -> None:
    found = tellers(read(flags, {"HOME": "/home/ops"}, HOST), lambda: "")
    assert [teller.name for teller in found] == names
