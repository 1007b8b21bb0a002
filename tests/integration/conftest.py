"""A transaction-pooling proxy in front of a test's database."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from appstatsd.store import launch
from psycopg.conninfo import conninfo_to_dict

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")


@pytest.fixture
def pooled_url(postgres_url: str, tmp_path: Path) -> Iterator[str]:
    """The test's database through a PgBouncer with two sessions for all clients."""
    with pooled(postgres_url, tmp_path) as url:
        yield url


@contextlib.contextmanager
def pooled(postgres_url: str, tmp_path: Path, *more: str, ready: str = "") -> Iterator[str]:
    """A database through a PgBouncer with two sessions for all clients.

    Args:
        postgres_url: The database.
        tmp_path: Where its settings lie.
        more: Lines that its settings have besides.
        ready: Parameters with which it can be connected to.
    """
    if PGBOUNCER is None:
        pytest.skip("needs pgbouncer (Debian package pgbouncer)")
    target = conninfo_to_dict(postgres_url)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = tmp_path / "pgbouncer.ini"
    (tmp_path / "users.txt").write_text('"postgres" ""\n')
    settings.write_text(
        f"""[databases]
* = host={target["host"]} port={target["port"]}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {tmp_path / "users.txt"}
pool_mode = transaction
default_pool_size = 2
"""
        + "\n".join(more)
    )
    process = subprocess.Popen(
        launch.command(Path(PGBOUNCER), [str(settings)], death_signal=signal.SIGKILL, account=launch.account()),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = f"postgresql://postgres@127.0.0.1:{port}/{target['dbname']}"
        wait_until_it_answers(f"{url}{ready}", process)
        yield url
    finally:
        process.kill()
        process.communicate()


def wait_until_it_answers(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(url).close()
            return
    process.kill()
    pytest.fail(f"PgBouncer does not answer: {process.communicate()[1]}")
