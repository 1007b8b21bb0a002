"""Fixtures: the packages, and a host on which they can be installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import machine
from tests.support.machine import Machine
from tests.support.packages import make_packages


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of the packages of this run."""
    base = tmp_path_factory.getbasetemp()
    return make_packages(base if worker_id == "master" else base.parent)


@pytest.fixture(scope="module")
def host(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A host that has never seen the package."""
    machine.needed()
    booted = Machine(tmp_path_factory.mktemp("machine") / "host", packages)
    try:
        booted.boot()
        yield booted
    finally:
        booted.remove()
