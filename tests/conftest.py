"""Fixtures that tests of several parts share: real PostgreSQL servers and fresh databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer, make_template


@pytest.fixture(scope="session")
def postgres_template(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """An initialized data folder that servers copy; made once a run."""
    base = tmp_path_factory.getbasetemp()
    return make_template(base if worker_id == "master" else base.parent)


@pytest.fixture(scope="session")
def shared_postgres(tmp_path_factory: pytest.TempPathFactory, postgres_template: Path) -> Iterator[PostgresServer]:
    """The server that all tests of one worker share. Leave it as it is: take `postgres_url` for a database in it."""
    server = PostgresServer(tmp_path_factory.mktemp("shared-postgres") / "data", postgres_template)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_url(shared_postgres: PostgresServer) -> Iterator[str]:
    """The URL of a fresh, empty database of this test's own (superuser, through the unix socket)."""
    name = shared_postgres.create_database()
    try:
        yield shared_postgres.url(name)
    finally:
        shared_postgres.drop_database(name)


@pytest.fixture
def new_postgres(tmp_path: Path, postgres_template: Path) -> Iterator[Callable[[], PostgresServer]]:
    """Make a started server of this test's own, to be stopped, killed and made read-only."""
    servers: list[PostgresServer] = []

    def make() -> PostgresServer:
        server = PostgresServer(tmp_path / f"postgres-{len(servers)}", postgres_template)
        servers.append(server)
        server.start()
        return server

    try:
        yield make
    finally:
        for server in servers:
            server.remove()
