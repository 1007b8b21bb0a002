"""Which app a session is of: the five fields that many sessions share, as one value.

An `AppKey` is the bytes of user_id, workspace_id and agent_id (16 each), one byte for the access method and the slug or
port in UTF-8, one after another. Equal keys are equal apps, so it serves as a dictionary's key, and the parts that the
database wants are slices of it. Keys are plain `bytes` because there may be one for each row of a large batch.
"""

from __future__ import annotations

from typing import Final, NewType

AppKey = NewType("AppKey", bytes)

METHODS: Final = ("unspecified", "path", "subdomain", "terminal")
"""Access methods by their number on the wire, as the database spells them."""

USER: Final = slice(0, 16)
WORKSPACE: Final = slice(16, 32)
AGENT: Final = slice(32, 48)
METHOD: Final = 48
SLUG: Final = slice(49, None)


def app_key(user_id: bytes, workspace_id: bytes, agent_id: bytes, access_method: int, slug_or_port: str) -> AppKey:
    """The key of one app. The ids are 16 bytes each; nothing is checked here."""
    return AppKey(b"".join((user_id, workspace_id, agent_id, access_method.to_bytes(1, "big"), slug_or_port.encode())))


def access_method(app: AppKey) -> str:
    """`path`, `subdomain` or `terminal`."""
    return METHODS[app[METHOD]]


def slug_or_port(app: AppKey) -> str:
    """The slug or port as text."""
    return app[SLUG].decode()
