"""TLS to the database, by libpq's own settings in the URL.

The server that tests have is built without TLS, so what asks for it here is a PgBouncer; for libpq that is the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from appstatsd.errors import StoreUnavailable
from appstatsd.store import launch
from appstatsd.store.migrate import migrate
from appstatsd.store.writer import PostgresReporter

from tests.integration.conftest import pooled
from tests.integration.store.samples import count, one_row

PEM = Path(__file__).parents[2] / "support/pem"
TRUST = f"sslmode=verify-full&sslrootcert={PEM / 'ca.pem'}"


@contextmanager
def demanding(postgres_url: str, tmp_path: Path, *more: str, ready: str = TRUST) -> Iterator[str]:
    """The database behind somebody who takes TLS alone."""
    migrate(postgres_url)
    key = tmp_path / "key.pem"
    shutil.copyfile(PEM / "daemon-key.pem", key)
    if owner := launch.account():
        shutil.chown(key, *owner)
    settings = (
        "client_tls_sslmode = require",
        f"client_tls_key_file = {key}",
        f"client_tls_cert_file = {PEM / 'daemon.pem'}",
    )
    with pooled(postgres_url, tmp_path, *settings, *more, ready=f"?{ready}") as url:
        yield url


def test_rows_go_through_tls_to_whoever_the_url_trusts(postgres_url: str, tmp_path: Path) -> None:
    with demanding(postgres_url, tmp_path) as url, PostgresReporter(f"{url}?{TRUST}") as store:
        store.report(one_row())
        with store.connection(5) as connection:
            assert connection.pgconn.ssl_in_use
        migrate(f"{url}?{TRUST}")
    assert count(postgres_url) == 1


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (f"sslmode=verify-full&sslrootcert={PEM / 'next/ca.pem'}", "certificate verify failed"),
        ("sslmode=disable", "SSL required"),
        (f"sslmode=verify-full&sslrootcert={PEM / 'none.pem'}", "none.pem"),
    ],
)
def test_nobody_else_gets_a_row_and_the_reason_is_told(
    postgres_url: str, tmp_path: Path, parameters: str, words: str
) -> None:
    with (
        demanding(postgres_url, tmp_path) as url,
        PostgresReporter(f"{url}?{parameters}", flush_timeout_seconds=3) as store,
        pytest.raises(StoreUnavailable) as caught,
    ):
        store.report(one_row())
    assert words in caught.value.message
    assert count(postgres_url) == 0


def test_a_name_that_the_certificate_does_not_have_is_not_trusted(postgres_url: str, tmp_path: Path) -> None:
    with (
        demanding(postgres_url, tmp_path) as url,
        PostgresReporter(
            url.replace("127.0.0.1", "db.example.com") + f"?{TRUST}&hostaddr=127.0.0.1", flush_timeout_seconds=3
        ) as store,
        pytest.raises(StoreUnavailable, match=r"db\.example\.com"),
    ):
        store.report(one_row())


def test_a_certificate_of_our_own_is_shown_where_one_is_asked_for(postgres_url: str, tmp_path: Path) -> None:
    key = tmp_path / "client-key.pem"
    shutil.copyfile(PEM / "client-key.pem", key)
    key.chmod(0o600)
    own = f"{TRUST}&sslcert={PEM / 'client.pem'}&sslkey={key}"
    asking = ("client_tls_sslmode = verify-ca", f"client_tls_ca_file = {PEM / 'ca.pem'}")
    with demanding(postgres_url, tmp_path, *asking, ready=own) as url:
        with PostgresReporter(f"{url}?{own}") as store:
            store.report(one_row())
        with (
            PostgresReporter(f"{url}?{TRUST}", flush_timeout_seconds=3) as store,
            pytest.raises(StoreUnavailable),
        ):
            store.report(one_row())
    assert count(postgres_url) == 1
