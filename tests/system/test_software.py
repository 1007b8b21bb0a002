"""Which library of which version does a client speak through? Operators see it in the status."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from appstatsd_client import AccessMethod, App, Client

from tests.support.daemon import DaemonProcess, eventually
from tests.support.reports import agent, user, workspace


@pytest.mark.parametrize("durability", ["memory", "journal"])
def test_the_status_names_the_library_of_each_client_and_its_version(
    tmp_path: Path, postgres_url: str, durability: str
) -> None:
    daemon = DaemonProcess(tmp_path, postgres_url, f"--durability={durability}")
    daemon.start()
    try:
        client = Client(daemon.target)
        client.begin(App(user(1), workspace(1), agent(1), AccessMethod.PATH, "code"))

        said: Callable[[], list[str]] = lambda: [known.software for known in daemon.status().clients]  # noqa: E731
        assert eventually(said, bool) == ["python/0.1.0"]

        client.close(5)
    finally:
        daemon.kill()
