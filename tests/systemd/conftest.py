"""Fixtures: a host with the package installed and a PostgreSQL that asks for a password."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import machine
from tests.support.machine import Machine
from tests.support.packages import OLD, make_packages
from tests.systemd.host import Host


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of the packages of this run."""
    machine.needed()
    base = tmp_path_factory.getbasetemp()
    return make_packages(base if worker_id == "master" else base.parent)


@pytest.fixture(scope="module")
def host(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The host of this module; a test leaves the daemon running."""
    booted = Machine(tmp_path_factory.mktemp("machine") / "host", packages)
    try:
        booted.boot()
        host = Host(booted)
        host.run("dpkg", "--install", f"/media/appstatsd_{OLD}-1_amd64.deb")
        host.start_postgres()
        host.use_postgres()
        yield host
    finally:
        booted.remove()
