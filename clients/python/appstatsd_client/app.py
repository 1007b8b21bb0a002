"""Which app is a session of? The five fields that many sessions share, checked once.

Invariant: what an `App` holds the daemon accepts, so a mistake shows where it is made and never on the way of a report.
Two apps of the same five fields are equal.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final
from uuid import UUID

UuidLike = UUID | bytes | str
"""A UUID as an object, as its 16 bytes in network order, or as text."""

MAX_SLUG_CHARACTERS: Final = 256
NIL: Final = bytes(16)


class AccessMethod(IntEnum):
    """How a user reached an app; the numbers of the wire."""

    PATH = 1
    """By a path on the proxy's own host name."""
    SUBDOMAIN = 2
    """By a host name of the app's own."""
    TERMINAL = 3
    """By a terminal."""


def id_bytes(name: str, value: UuidLike) -> bytes:
    """The 16 bytes of an id.

    Raises `ValueError` where `value` is no UUID, or is the nil one; the message calls it `name`.
    """
    if isinstance(value, UUID):
        raw = value.bytes
    elif isinstance(value, str):
        # Not UUID(value), which costs several microseconds; a proxy may come with three of these for each request.
        try:
            raw = bytes.fromhex(value.replace("-", ""))
        except ValueError:
            raw = b""
    else:
        raw = value
    if len(raw) != 16 or raw == NIL:
        raise ValueError(f"{name} is {value!r}; it has to be a UUID (uuid.UUID, 16 bytes or text) and not nil")
    return raw


class App:
    """One app of one workspace as one user reaches it. It does not change, and can be used for any number of sessions."""

    __slots__ = ("access_method", "agent_id", "key", "slug_or_port", "user_id", "wire_bytes", "workspace_id")

    user_id: bytes
    """Who uses the app: 16 bytes."""
    workspace_id: bytes
    """The workspace that it runs in: 16 bytes."""
    agent_id: bytes
    """The agent in the workspace that serves it: 16 bytes."""
    access_method: AccessMethod
    slug_or_port: str
    """The app's slug, or the forwarded port."""
    key: bytes
    """All five fields, one after another: equal keys are equal apps."""
    wire_bytes: int
    """At most how much it adds to a batch, in bytes."""

    def __init__(
        self,
        user_id: UuidLike,
        workspace_id: UuidLike,
        agent_id: UuidLike,
        access_method: AccessMethod,
        slug_or_port: str,
    ) -> None:
        """Raises `ValueError` where an id is no UUID or nil, or where `slug_or_port` is longer than 256 characters, holds
        a NUL or cannot be encoded, or is empty though the access method is not the terminal.
        """
        self.user_id = id_bytes("user_id", user_id)
        self.workspace_id = id_bytes("workspace_id", workspace_id)
        self.agent_id = id_bytes("agent_id", agent_id)
        self.access_method = AccessMethod(access_method)
        self.slug_or_port = slug_or_port
        if len(slug_or_port) > MAX_SLUG_CHARACTERS or "\0" in slug_or_port:
            raise ValueError(f"slug_or_port is {slug_or_port!r}; it has at most 256 characters, and no NUL")
        if not slug_or_port and self.access_method is not AccessMethod.TERMINAL:
            raise ValueError("slug_or_port is empty; only a terminal's may be")
        slug = slug_or_port.encode()
        self.key = b"".join((self.user_id, self.workspace_id, self.agent_id, bytes((self.access_method,)), slug))
        self.wire_bytes = len(self.key) + 18  # tags and lengths of five fields and of the message itself

    def __eq__(self, other: object) -> bool:
        return isinstance(other, App) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        ids = (UUID(bytes=value) for value in (self.user_id, self.workspace_id, self.agent_id))
        user, workspace, agent = map(str, ids)
        return f"App({user!r}, {workspace!r}, {agent!r}, {self.access_method!r}, {self.slug_or_port!r})"
