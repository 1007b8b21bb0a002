"""Fixtures: real daemon processes and migrated databases for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from appstatsd.store.migrate import migrate

from tests.support.daemon import DaemonProcess
from tests.support.postgres import PostgresServer

NewDaemon = Callable[..., DaemonProcess]


@pytest.fixture
def database_url(postgres_url: str) -> str:
    """The URL of a fresh database of this test's own, with our tables in it."""
    migrate(postgres_url)
    return postgres_url


def _makes_daemons(folder: Path) -> Iterator[NewDaemon]:
    made: list[DaemonProcess] = []

    def new(database_url: str | None, *flags: str, **environment: str) -> DaemonProcess:
        own = folder / f"d{len(made)}"
        own.mkdir()
        made.append(DaemonProcess(own, database_url, *flags, environment=environment))
        return made[-1]

    yield new
    for daemon in made:
        daemon.kill()
    assert [daemon.surprises() for daemon in made] == [[]] * len(made)


@pytest.fixture
def new_daemon(tmp_path: Path) -> Iterator[NewDaemon]:
    """Make a daemon of the test's own, which does not run yet; it ends with the test, and nothing about it surprises."""
    yield from _makes_daemons(tmp_path)


@dataclass(frozen=True)
class Service:
    """A daemon that tests share, and the database that it writes to. Flushes come when somebody asks for one."""

    daemon: DaemonProcess
    url: str

    @property
    def target(self) -> str:
        return self.daemon.target


@pytest.fixture(scope="module")
def module_daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewDaemon]:
    """Make a daemon that the tests of a module share."""
    yield from _makes_daemons(tmp_path_factory.mktemp("daemons"))


@pytest.fixture(scope="module")
def module_database_url(shared_postgres: PostgresServer) -> Iterator[str]:
    """The URL of a database that the tests of a module share, with our tables in it."""
    name = shared_postgres.create_database()
    migrate(shared_postgres.url(name))
    yield shared_postgres.url(name)
    shared_postgres.drop_database(name)


@pytest.fixture(scope="module")
def service(module_database_url: str, module_daemons: NewDaemon) -> Service:
    """The daemon of this module: tests leave it running, and look at what they reported themselves alone."""
    daemon = module_daemons(module_database_url, "--report-interval=1h")
    daemon.start()
    return Service(daemon, module_database_url)
