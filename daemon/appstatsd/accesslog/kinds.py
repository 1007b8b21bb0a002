"""What do the settings of access logs take? Their kinds, beside those of values.py."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from appstatsd.accesslog.origins import ALLOWED, HostPattern, Origin, parse_origin


@dataclass(frozen=True, slots=True)
class NameOrigin:
    """Where in an entry a name stands."""

    metavar: str = "ORIGIN"
    allowed: str = ALLOWED

    def parse(self, text: str) -> Origin:
        """The origin."""
        return parse_origin(text)


@dataclass(frozen=True, slots=True)
class NamesInHost:
    """How host names are made of names."""

    metavar: str = "PATTERN"
    allowed: str = "a host name with {names} in it, such as {slug}--{agent}--{workspace}--{user}.apps.example.com"

    def parse(self, text: str) -> HostPattern:
        """The pattern."""
        return HostPattern(text)


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace for UUIDs that are made of names."""

    metavar: str = "UUID"
    allowed: str = "a UUID that is not nil, such as 6ba7b811-9dad-11d1-80b4-00c04fd430c8"

    def parse(self, text: str) -> UUID:
        """The namespace."""
        namespace = UUID(text)
        if not namespace.int:
            raise ValueError
        return namespace
