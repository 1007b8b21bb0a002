"""What do the settings of access logs take? Their kinds, beside those of values.py."""

from __future__ import annotations

from uuid import UUID

from appstatsd.accesslog.origins import ALLOWED, HostPattern, Origin, parse_origin


class NameOrigin:
    """Where in an entry a name stands."""

    metavar = "ORIGIN"
    allowed = ALLOWED

    def parse(self, text: str) -> Origin:
        """The origin."""
        return parse_origin(text)


class NamesInHost:
    """How host names are made of names."""

    metavar = "PATTERN"
    allowed = "a host name with {names} in it, such as {slug}--{agent}--{workspace}--{user}.apps.example.com"

    def parse(self, text: str) -> HostPattern:
        """The pattern."""
        return HostPattern(text)


class Namespace:
    """A namespace for UUIDs that are made of names."""

    metavar = "UUID"
    allowed = "a UUID that is not nil, such as 6ba7b811-9dad-11d1-80b4-00c04fd430c8"

    def parse(self, text: str) -> UUID:
        """The namespace."""
        namespace = UUID(text)
        if not namespace.int:
            raise ValueError
        return namespace
