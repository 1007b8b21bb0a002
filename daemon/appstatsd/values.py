"""What is a setting, and what does its text mean?

A kind says what it takes (`allowed`, a phrase for people), how that is called in help (`metavar`), and turns text into a
value. Invariant: a value that a kind has returned is within what the kind allows; all else is a ValueError, whose text is
what there is to say beyond `allowed`, and which never holds a secret.

Kinds without parameters are plain classes: every command waits for this module, and a dataclass takes 0.6 ms to make.
"""

from __future__ import annotations

import grp
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from appstatsd.addresses import MAX_SOCKET_PATH_BYTES, Address, TcpAddress, UnixAddress
from appstatsd.database_url import DatabaseUrl
from appstatsd.http_url import HttpUrl

Value_co = TypeVar("Value_co", covariant=True)

_UNITS_US: Final = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_UNITS_BYTES: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


class Kind(Protocol[Value_co]):
    """What a setting's value may be."""

    @property
    def metavar(self) -> str:
        """What help calls such a value."""

    @property
    def allowed(self) -> str:
        """What is allowed, to be read after "allowed is"."""

    def parse(self, text: str) -> Value_co:
        """The value that the text stands for.

        Raises:
            ValueError: the text is not what is allowed; says why where `allowed` does not.
        """


def _number(text: str, units: dict[str, int]) -> int:
    """A whole number with its unit, in the smallest of the units."""
    match = re.fullmatch(r"([0-9]{1,18})([A-Za-z]+)", text)
    if match is None or match[2] not in units:
        raise ValueError(f"a whole number and its unit are expected, as in {', '.join(f'30{unit}' for unit in units)}")
    return int(match[1]) * units[match[2]]


def _within(value: int, lowest: int, highest: int) -> int:
    if not lowest <= value <= highest:
        raise ValueError
    return value


@dataclass(frozen=True, slots=True)
class Duration:
    """A time span such as `30s`; the value is in microseconds."""

    lowest: str
    highest: str
    metavar: str = "DURATION"

    @property
    def allowed(self) -> str:
        """The bounds."""
        return f"a duration from {self.lowest} to {self.highest}"

    def parse(self, text: str) -> int:
        """The time span in microseconds."""
        return _within(_number(text, _UNITS_US), _number(self.lowest, _UNITS_US), _number(self.highest, _UNITS_US))


@dataclass(frozen=True, slots=True)
class Size:
    """An amount of bytes such as `64MiB`; the value is in bytes."""

    lowest: str
    highest: str
    metavar: str = "SIZE"

    @property
    def allowed(self) -> str:
        """The bounds."""
        return f"a size from {self.lowest} to {self.highest}"

    def parse(self, text: str) -> int:
        """The size in bytes."""
        return _within(
            _number(text, _UNITS_BYTES), _number(self.lowest, _UNITS_BYTES), _number(self.highest, _UNITS_BYTES)
        )


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number."""

    lowest: int
    highest: int
    metavar: str = "NUMBER"

    @property
    def allowed(self) -> str:
        """The bounds."""
        return f"a whole number from {self.lowest} to {self.highest}"

    def parse(self, text: str) -> int:
        """The number."""
        if re.fullmatch(r"[0-9]{1,18}", text) is None:
            raise ValueError
        return _within(int(text), self.lowest, self.highest)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: Sequence[str]
    metavar: str = "WORD"

    @property
    def allowed(self) -> str:
        """The words."""
        return f"{', '.join(self.words[:-1])} or {self.words[-1]}"

    def parse(self, text: str) -> str:
        """The word."""
        if text not in self.words:
            raise ValueError
        return text


class Boolean:
    """On or off."""

    metavar = "BOOLEAN"
    allowed = "true or false (also on, off, yes, no, 1, 0)"

    def parse(self, text: str) -> bool:
        """Whether it is on."""
        if text in ("true", "on", "yes", "1"):
            return True
        if text in ("false", "off", "no", "0"):
            return False
        raise ValueError


class FileMode:
    """Permissions of a file, in octal."""

    metavar = "MODE"
    allowed = "an octal mode from 0000 to 0777, such as 0660"

    def parse(self, text: str) -> int:
        """The permission bits."""
        if re.fullmatch(r"0?[0-7]{3}", text) is None:
            raise ValueError
        return int(text, 8)


class Group:
    """A group of this host."""

    metavar = "GROUP"
    allowed = "the name or the number of a group of this host"

    def parse(self, text: str) -> int:
        """The group's number."""
        if re.fullmatch(r"[0-9]{1,9}", text):
            return int(text)
        try:
            return grp.getgrnam(text).gr_gid
        except KeyError:
            raise ValueError("there is no such group") from None


class FilePath:
    """Where a file or folder is; nothing is looked up."""

    metavar = "PATH"
    allowed = "a path"

    def parse(self, text: str) -> Path:
        """The path."""
        if not text or "\0" in text:
            raise ValueError
        return Path(text)


class ListenAddress:
    """Where to listen for gRPC."""

    metavar = "ADDRESS"
    allowed = f"unix:PATH (at most {MAX_SOCKET_PATH_BYTES} bytes of path) or HOST:PORT, such as 127.0.0.1:4390"

    def parse(self, text: str) -> Address:
        """The address."""
        return UnixAddress.parse(text) if text.startswith("unix:") else TcpAddress.parse(text)


class TcpListenAddress:
    """Where to listen for HTTP."""

    metavar = "HOST:PORT"
    allowed = "HOST:PORT, such as 127.0.0.1:9390"

    def parse(self, text: str) -> TcpAddress:
        """The address."""
        return TcpAddress.parse(text)


class Database:
    """Which PostgreSQL database."""

    metavar = "URL"
    allowed = (
        "a PostgreSQL URL such as postgresql://user@host:5432/database, with special characters percent-encoded, "
        "or libpq's keyword=value form"
    )

    def parse(self, text: str) -> DatabaseUrl:
        """The database."""
        return DatabaseUrl.parse(text)


class HttpAddress:
    """Who is told something over HTTP."""

    metavar = "URL"
    allowed = "a URL such as https://host.example.com/activity, without user and password"

    def parse(self, text: str) -> HttpUrl:
        """The URL."""
        return HttpUrl.parse(text)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table of settings."""

    name: str
    """As in the TOML file; the flag and the environment variable are made from it."""
    kind: Kind[Any]
    default: str | None
    """As one would write it; None where there is none, or where it depends on the host."""
    help: str
    default_is: str = ""
    """For people, where `default` does not say it."""
    repeatable: bool = False
    reloads: bool = False
    """Whether a reload (SIGHUP) puts a new value in force; all others need a restart."""
    heading: str = ""
    """What stands above it where all settings are listed; empty: it is under that of the setting before."""

    @property
    def flag(self) -> str:
        """On the command line."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """In the environment."""
        return f"APPSTATSD_{self.name.upper().replace('-', '_')}"

    @property
    def default_shown(self) -> str:
        """The default for people."""
        return self.default_is or self.default or "none"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value came from."""

    where: str
    """`flag --x`, `environment variable APPSTATSD_X`, the file and key, or `default`."""
    text: str
    """The value as it was written there, without a password."""
