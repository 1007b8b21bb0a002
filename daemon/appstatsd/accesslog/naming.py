"""Which app, and whose, does an entry of an access log tell of?

Invariant: nothing is guessed. An entry in which one of the names is missing, or is not what it must be, names no app, and
the first thing that is wrong with it is the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final
from uuid import UUID, uuid5

from appstatsd.accesslog.entry import Entry
from appstatsd.accesslog.origins import HostPattern, Origin

METHODS: Final[Mapping[str, int]] = {"path": 1, "subdomain": 2, "terminal": 3}
"""Access methods with their numbers on the wire."""
MAX_SLUG_CHARACTERS: Final = 256
_APPS_REMEMBERED: Final = 1 << 14
_MAX_REMEMBERED_CHARACTERS: Final = 1024
"""Of all names of an app together: callers may send longer ones, and must not fill the memory with them."""


@dataclass(frozen=True, slots=True)
class NamedApp:
    """The five fields that say which app a session is of; what a report may hold."""

    user_id: bytes
    workspace_id: bytes
    agent_id: bytes
    access_method: int
    slug_or_port: str


class Unnamed(Enum):
    """Why an entry names no app."""

    NO_USER = "no name of a user"
    NO_WORKSPACE = "no name of a workspace"
    NO_AGENT = "no name of an agent"
    NO_ACCESS_METHOD = "no access method, or none of path, subdomain and terminal"
    NO_SLUG_OR_PORT = "no slug or port, one over 256 characters, or one with a NUL"
    NO_UUID = "a name that is the nil UUID, or that is no UUID while no --als-namespace is set"


@dataclass(frozen=True, slots=True)
class Naming:
    """Where the names of an app come from: for each its origins, of which the first that has a name counts."""

    user: tuple[Origin, ...]
    workspace: tuple[Origin, ...]
    agent: tuple[Origin, ...]
    access_method: tuple[Origin, ...]
    slug_or_port: tuple[Origin, ...]
    host_pattern: HostPattern | None
    """What `InHost` origins refer to."""
    namespace: UUID | None
    """Names that are no UUIDs become UUIDs of version 5 in this namespace; None: they name nothing."""

    @property
    def origins(self) -> tuple[Origin, ...]:
        """All of them."""
        return (*self.user, *self.workspace, *self.agent, *self.access_method, *self.slug_or_port)

    def app_of(self, entry: Entry) -> NamedApp | Unnamed:
        """The app that the entry tells of, or why it tells of none."""
        in_host = {} if self.host_pattern is None else self.host_pattern.names_in(entry.host)
        names = (
            _first(self.user, entry, in_host),
            _first(self.workspace, entry, in_host),
            _first(self.agent, entry, in_host),
            _first(self.access_method, entry, in_host),
            _first(self.slug_or_port, entry, in_host),
        )
        if sum(map(len, names)) > _MAX_REMEMBERED_CHARACTERS:
            return _app(*names, self.namespace)
        return _remembered_app(*names, self.namespace)


def _app(user: str, workspace: str, agent: str, method: str, slug: str, namespace: UUID | None) -> NamedApp | Unnamed:
    ids = []
    for name, missing in ((user, Unnamed.NO_USER), (workspace, Unnamed.NO_WORKSPACE), (agent, Unnamed.NO_AGENT)):
        if not name:
            return missing
        made = id_of(name, namespace)
        if made is None:
            return Unnamed.NO_UUID
        ids.append(made)
    number = METHODS.get(method.lower(), 0)
    if not number:
        return Unnamed.NO_ACCESS_METHOD
    if len(slug) > MAX_SLUG_CHARACTERS or "\0" in slug or (not slug and number != METHODS["terminal"]):
        return Unnamed.NO_SLUG_OR_PORT
    return NamedApp(ids[0], ids[1], ids[2], number, slug)


_remembered_app: Final = lru_cache(_APPS_REMEMBERED)(_app)


def id_of(name: str, namespace: UUID | None) -> bytes | None:
    """The 16 bytes of a name: its own where it is a UUID, else those of version 5 in the namespace.

    None where the name is no UUID and there is no namespace. The nil UUID is no name.
    """
    try:
        known = UUID(name)
    except ValueError:
        known = None
    if known is not None and str(known) == name.lower():
        return known.bytes if known.int else None
    if namespace is None:
        return None
    return uuid5(namespace, name).bytes


def _first(origins: tuple[Origin, ...], entry: Entry, host_names: Mapping[str, str]) -> str:
    for origin in origins:
        name = origin.find(entry, host_names)
        if name:
            return name
    return ""
