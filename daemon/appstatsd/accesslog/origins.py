"""Where in an entry does a name stand?

An origin is written `KIND:WHAT`, as in `header:x-user-id` (docs/envoy.md has them all). Invariant: an origin gives what
stands there and nothing else; where nothing does, it gives the empty text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from appstatsd.accesslog.entry import Entry

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_LITERAL: Final = re.compile(r"[a-z0-9._-]*")


class HostPattern:
    """Names in a host name, as in `{slug}--{agent}--{workspace}--{user}.apps.example.com`.

    A name is a part of one label, does not begin with a hyphen, and contains none of the texts that stand between names
    in the pattern: a host name that could be read in two ways does not match.
    """

    def __init__(self, text: str) -> None:
        """Read a pattern.

        Raises:
            ValueError: it is none; says why.
        """
        self.text = text.lower()
        literals, names = _PLACEHOLDER.split(self.text)[::2], _PLACEHOLDER.findall(self.text)
        if not names:
            raise ValueError("there is no {name} in it")
        for name in names:
            if _NAME.fullmatch(name) is None or names.count(name) > 1:
                raise ValueError(f"{{{name}}} is not a name of letters, digits and _, or stands there twice")
        if not all(map(_LITERAL.fullmatch, literals)):
            raise ValueError("beside the {names} only letters, digits, '.', '-' and '_' may stand there")
        if "" in literals[1:-1]:
            raise ValueError("two {names} stand there with nothing between them")
        self.names = frozenset(names)
        between = "|".join(map(re.escape, literals[1:-1]))
        apart = f"(?!{between})" if between else ""
        parts = [re.escape(literals[0])]
        for name, following in zip(names, literals[1:], strict=True):
            parts.append(f"(?P<{name}>(?!-)(?:{apart}[^.])+){re.escape(following)}")
        self._matches = re.compile("".join(parts)).fullmatch

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HostPattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def names_in(self, host: str) -> Mapping[str, str]:
        """The names in this host name, in lower case; none where it does not match."""
        bare, colon, port = host.rpartition(":")
        match = self._matches((bare if colon and port.isdigit() else host).lower().removesuffix("."))
        return {} if match is None else match.groupdict()


class Origin(Protocol):
    """Where a name stands."""

    def find(self, entry: Entry, host_names: Mapping[str, str]) -> str:
        """The name; empty where there is none. `host_names` is what the host pattern found in the entry's host."""


@dataclass(frozen=True, slots=True)
class Header:
    """A header of the request."""

    name: str

    def find(self, entry: Entry, host_names: Mapping[str, str]) -> str:
        """See `Origin`."""
        return entry.headers.get(self.name, "")


@dataclass(frozen=True, slots=True)
class Tag:
    """A custom tag."""

    name: str

    def find(self, entry: Entry, host_names: Mapping[str, str]) -> str:
        """See `Origin`."""
        return entry.tags.get(self.name, "")


@dataclass(frozen=True, slots=True)
class Metadata:
    """A text or a whole number in the dynamic metadata of a filter."""

    path: tuple[str, ...]
    """The filter, then the keys that lead to it."""

    def find(self, entry: Entry, host_names: Mapping[str, str]) -> str:
        """See `Origin`."""
        return _leaf(entry.metadata, self.path)


@dataclass(frozen=True, slots=True)
class FilterState:
    """A text or a whole number in the filter state."""

    path: tuple[str, ...]
    """The name of the object, then, where it is a tree, the keys that lead to it."""

    def find(self, entry: Entry, host_names: Mapping[str, str]) -> str:
        """See `Origin`."""
        return _leaf(entry.filter_state, self.path)


@dataclass(frozen=True, slots=True)
class InHost:
    """A name in the host name."""

    name: str

    def find(self, entry: Entry, host_names: Mapping[str, str]) -> str:
        """See `Origin`."""
        return host_names.get(self.name, "")


@dataclass(frozen=True, slots=True)
class Constant:
    """The same for all entries."""

    value: str

    def find(self, entry: Entry, host_names: Mapping[str, str]) -> str:
        """See `Origin`."""
        return self.value


_KINDS: Final[Mapping[str, Callable[[str], Origin]]] = {
    "header": lambda what: Header(what.lower()),
    "tag": Tag,
    "metadata": lambda what: Metadata(_path(what, 2)),
    "filter-state": lambda what: FilterState(_path(what, 1)),
    "host": lambda what: InHost(what.lower()),
    "constant": Constant,
}
ALLOWED: Final = (
    "header:NAME, tag:NAME, metadata:FILTER/KEY, filter-state:KEY, host:NAME (in --als-host-pattern) or constant:VALUE"
)
"""The notation of an origin, for people."""


def parse_origin(text: str) -> Origin:
    """The origin that the text stands for.

    Raises:
        ValueError: it stands for none.
    """
    kind, _, what = text.partition(":")
    if kind not in _KINDS or not what:
        raise ValueError
    return _KINDS[kind](what)


def _path(text: str, least: int) -> tuple[str, ...]:
    parts = tuple(text.split("/"))
    if len(parts) < least or "" in parts:
        raise ValueError("names and keys are parted by single slashes, as in metadata:envoy.filters.http.jwt_authn/sub")
    return parts


def _leaf(tree: Any, path: tuple[str, ...]) -> str:
    for key in path:
        try:
            if key not in tree:  # which a tree of protobuf's would make
                return ""
            tree = tree[key]
        except TypeError:
            return ""
    if isinstance(tree, float) and tree.is_integer():  # the only numbers that such trees know
        return str(int(tree))
    return tree if isinstance(tree, str) else ""
