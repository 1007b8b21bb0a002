"""Database URLs: what is shown of them, and what they mean where they are silent."""

from __future__ import annotations

import pytest
from appstatsd.store.url import redacted, with_defaults
from psycopg.conninfo import conninfo_to_dict


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:s3cret@db:5432/app", "postgresql://ann@db:5432/app"),
        ("postgres://ann:s3cret@db1:1,db2:2/app?sslmode=require", "postgres://ann@db1:1,db2:2/app?sslmode=require"),
        ("postgresql://ann@db/app", "postgresql://ann@db/app"),
        ("postgresql://db:5432/app", "postgresql://db:5432/app"),
        ("postgresql:///app?host=%2Frun%2Fpg&port=1", "postgresql:///app?host=%2Frun%2Fpg&port=1"),
        ("postgresql://db/app?user=ann&password=s3cret", "postgresql://db/app?user=ann"),
        ("postgresql://db/app?password=s3cret&user=ann", "postgresql://db/app?user=ann"),
        ("postgresql://db/app?sslkey=k&sslpassword=s3cret", "postgresql://db/app?sslkey=k"),
        # passwords that should have been percent-encoded
        ("postgresql://ann:s3@cret@db/app", "postgresql://ann@db/app"),
        ("postgresql://ann:s3/cret@db/app", "postgresql://ann@db/app"),
        ("postgresql://ann:s3?c#ret@db/app", "postgresql://ann@db/app"),
        ("host=db user=ann password=s3cret dbname=app", "host=db user=ann dbname=app"),
        ("host=db password='s3 cret'", "host=db"),
        ("host=db password='s3cret", "(a database URL that cannot be read)"),
    ],
)
def test_a_shown_url_keeps_everything_but_the_password(url: str, shown: str) -> None:
    assert _in_no_order(redacted(url)) == _in_no_order(shown)


def _in_no_order(url: str) -> list[str]:
    return [url] if "://" in url else sorted(url.split())


def test_a_silent_url_asks_for_a_primary_under_our_name() -> None:
    parameters = conninfo_to_dict(with_defaults("postgresql://db/app"))
    assert parameters["target_session_attrs"] == "read-write"
    assert parameters["application_name"] == "appstatsd"
    assert parameters["client_encoding"] == "UTF8"


def test_what_a_url_says_is_kept() -> None:
    url = "postgresql://db/app?target_session_attrs=any&application_name=mine&connect_timeout=2"
    parameters = conninfo_to_dict(with_defaults(url))
    assert (parameters["target_session_attrs"], parameters["application_name"]) == ("any", "mine")
    assert parameters["connect_timeout"] in (2, "2")


@pytest.mark.parametrize("url", ["postgresql://ann:s3cret@db:x y/app", "password='s3cret", "nonsense s3cret"])
def test_a_url_that_cannot_be_read_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="expected postgresql://") as caught:
        with_defaults(url)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
