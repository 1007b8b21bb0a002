"""What the text of a setting means, kind by kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from appstatsd.addresses import TcpAddress, UnixAddress
from appstatsd.database_url import DatabaseUrl
from appstatsd.values import (
    Boolean,
    Choice,
    Duration,
    FileMode,
    FilePath,
    Group,
    Integer,
    ListenAddress,
    Size,
    TcpListenAddress,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [("500ms", 500_000), ("30s", 30_000_000), ("1m", 60_000_000), ("24h", 86_400_000_000), ("31d", 2_678_400_000_000)],
)
def test_a_duration_is_a_number_and_its_unit(text: str, microseconds: int) -> None:
    assert Duration("1ms", "366d").parse(text) == microseconds


@pytest.mark.parametrize(
    "text",
    ["", "30", "s", "1.5s", "-1s", "+1s", "1 s", " 1s", "1s ", "1S", "1us", "1h30m", "1_0s", "１s", "1" * 19 + "s"],
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="number and its unit"):
        Duration("0s", "366d").parse(text)


def test_the_bounds_of_a_duration_are_within_it_and_what_lies_beyond_is_not() -> None:
    kind = Duration("100ms", "1h")
    assert (kind.parse("100ms"), kind.parse("60m")) == (100_000, 3_600_000_000)
    for text in ("99ms", "0s", "3600001ms", "2h"):
        with pytest.raises(ValueError):  # noqa: PT011
            kind.parse(text)
    assert kind.allowed == "a duration from 100ms to 1h"


def test_a_size_is_a_number_and_its_binary_unit() -> None:
    kind = Size("1B", "16TiB")
    texts = ("1B", "2KiB", "64MiB", "1GiB", "16TiB")
    assert [kind.parse(text) for text in texts] == [1, 2048, 64 * 2**20, 2**30, 16 * 2**40]
    for text in ("1", "1KB", "1kib", "1 GiB", "0B", "17TiB"):
        with pytest.raises(ValueError):  # noqa: PT011
            kind.parse(text)


@given(st.integers())
def test_a_whole_number_is_taken_exactly_within_its_bounds(number: int) -> None:
    kind = Integer(1, 1_000)
    if 1 <= number <= 1_000:
        assert kind.parse(str(number)) == number
    else:
        with pytest.raises(ValueError):  # noqa: PT011
            kind.parse(str(number))


@pytest.mark.parametrize("text", ["", "1.0", "0x10", "1_0", " 1", "1\n", "one", "٣"])
def test_only_plain_digits_are_a_whole_number(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Integer(0, 1_000).parse(text)


def test_a_choice_is_one_of_its_words_as_written() -> None:
    kind = Choice(("auto", "upsert", "off"))
    assert kind.parse("upsert") == "upsert"
    assert kind.allowed == "auto, upsert or off"
    with pytest.raises(ValueError):  # noqa: PT011
        kind.parse("Auto")


def test_on_and_off_have_the_usual_spellings() -> None:
    kind = Boolean()
    assert [kind.parse(text) for text in ("true", "on", "yes", "1")] == [True] * 4
    assert [kind.parse(text) for text in ("false", "off", "no", "0")] == [False] * 4
    with pytest.raises(ValueError):  # noqa: PT011
        kind.parse("2")


def test_a_mode_is_octal_and_of_permissions_only() -> None:
    kind = FileMode()
    assert (kind.parse("0660"), kind.parse("600"), kind.parse("0000")) == (0o660, 0o600, 0)
    for text in ("0888", "4755", "66", "0o660", "rw-rw----", ""):
        with pytest.raises(ValueError):  # noqa: PT011
            kind.parse(text)


def test_a_group_is_known_by_name_or_number() -> None:
    kind = Group()
    assert (kind.parse("root"), kind.parse("4711")) == (0, 4711)
    with pytest.raises(ValueError, match="no such group"):
        kind.parse("nobody-has-this-group")


def test_a_path_is_neither_empty_nor_holds_a_nul() -> None:
    assert FilePath().parse("/var/lib/appstatsd") == Path("/var/lib/appstatsd")
    for text in ("", "a\0b"):
        with pytest.raises(ValueError):  # noqa: PT011
            FilePath().parse(text)


def test_a_unix_address_is_a_path_and_gRPC_gets_it_as_a_part_of_a_uri() -> None:  # noqa: N802
    address = ListenAddress().parse("unix:/run/my apps/50%/a.sock")
    assert address == UnixAddress(Path("/run/my apps/50%/a.sock"))
    assert (str(address), address.target) == ("unix:/run/my apps/50%/a.sock", "unix:/run/my%20apps/50%25/a.sock")


def test_a_unix_path_is_as_long_as_the_kernel_takes_and_no_longer() -> None:
    ListenAddress().parse(f"unix:/{'ä' * 53}")
    with pytest.raises(ValueError, match="108 bytes"):
        ListenAddress().parse(f"unix:/{'ä' * 53}x")


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:4390", "127.0.0.1", 4390, True),
        ("127.8.9.1:0", "127.8.9.1", 0, True),
        ("localhost:65535", "localhost", 65535, True),
        ("[::1]:1", "::1", 1, True),
        ("0.0.0.0:80", "0.0.0.0", 80, False),
        ("[::]:80", "::", 80, False),
        ("10.0.0.7:80", "10.0.0.7", 80, False),
        ("localhost.example.org:80", "localhost.example.org", 80, False),
    ],
)
def test_a_tcp_address_is_a_host_and_a_port_and_knows_whether_others_can_connect(
    text: str, host: str, port: int, loopback: bool
) -> None:
    for kind in (ListenAddress(), TcpListenAddress()):
        address = kind.parse(text)
        assert address == TcpAddress(host, port)
        assert (str(address), address.target, address.loopback) == (text, text, loopback)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:",
        "4390",
        ":4390",
        "127.0.0.1",
        "127.0.0.1:",
        "h:65536",
        "::1:80",
        "[::x]:80",
        "[1]:80",
        "h:80/",
        "a b:80",
    ],
)
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        ListenAddress().parse(text)


def test_metrics_are_served_on_tcp_only() -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        TcpListenAddress().parse("unix:/run/metrics.sock")


def test_an_address_that_stands_for_all_is_reached_at_loopback() -> None:
    assert str(TcpAddress("0.0.0.0", 80).reached_at) == "127.0.0.1:80"
    assert str(TcpAddress("::", 80).reached_at) == "[::1]:80"
    assert str(TcpAddress("10.0.0.7", 80).reached_at) == "10.0.0.7:80"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://app:hunter2@db.example:5432/apps",
        "postgres://app:hun%40ter2@db/apps?sslmode=require",
        "postgresql:///apps?host=/run/postgresql&user=app&password=hunter2",
        "host=db user=app password='hunter2' dbname=apps",
    ],
)
def test_a_database_is_shown_without_its_password(text: str) -> None:
    database = DatabaseUrl.parse(text)
    assert database.text == text
    for shown in (str(database), repr(database), database.shown):
        assert "hun" not in shown
        assert "apps" in shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "apps",
        "mysql://app:hunter2@db/apps",
        "postgresql://app:hun@ter2@db/apps",
        "postgresql://app:hunter2",
        "postgresql://db/apps?hunter2=1",
        "host=db password='hunter2",
    ],
)
def test_what_libpq_would_not_take_is_no_database_and_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        DatabaseUrl.parse(text)
    assert str(caught.value) == ""
