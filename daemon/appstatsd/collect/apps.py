"""Which app a session is of: the five fields that many sessions share, as one value.

An `AppKey` is the bytes of user_id, workspace_id and agent_id (16 each), one byte for the access method and the slug or
port in UTF-8, one after another. Equal keys are equal apps, so it serves as a dictionary's key, and the parts that the
database wants are slices of it. Keys are plain `bytes` because there may be one for each row of a large batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NewType

import numpy as np
import numpy.typing as npt

from appstatsd.packed import pack, unpack

AppKey = NewType("AppKey", bytes)

METHODS: Final = ("unspecified", "path", "subdomain", "terminal")
"""Access methods by their number on the wire, as the database spells them."""

USER: Final = slice(0, 16)
WORKSPACE: Final = slice(16, 32)
AGENT: Final = slice(32, 48)
METHOD: Final = 48
SLUG: Final = slice(49, None)

_NOBODY: Final = AppKey(bytes(49))
"""The key of no app: its ids are nil."""


def app_key(user_id: bytes, workspace_id: bytes, agent_id: bytes, access_method: int, slug_or_port: str) -> AppKey:
    """The key of one app. The ids are 16 bytes each; nothing is checked here."""
    return AppKey(b"".join((user_id, workspace_id, agent_id, access_method.to_bytes(1, "big"), slug_or_port.encode())))


def access_method(app: AppKey) -> str:
    """`path`, `subdomain` or `terminal`."""
    return METHODS[app[METHOD]]


def slug_or_port(app: AppKey) -> str:
    """The slug or port as text."""
    return app[SLUG].decode()


class Apps:
    """The apps that groups are of, each under a small number for as long as a group holds it."""

    def __init__(self) -> None:
        self.numbers: dict[AppKey, int] = {}
        """The number of each known app."""
        self.keys: list[AppKey] = []
        """By number; under a number that is free stands `_NOBODY`, so that nothing keeps what is gone."""
        self._holders: list[int] = []
        self._free: list[int] = []

    def hold(self, key: AppKey) -> int:
        """The number of the app, which one more group holds now."""
        number = self.numbers.get(key)
        if number is None:
            if self._free:
                number = self._free.pop()
                self.keys[number] = key
            else:
                number = len(self.keys)
                self.keys.append(key)
                self._holders.append(0)
            self.numbers[key] = number
        self._holders[number] += 1
        return number

    def release(self, number: int) -> None:
        """One group holds the app no longer."""
        self._holders[number] -= 1
        if not self._holders[number]:
            del self.numbers[self.keys[number]]
            self.keys[number] = _NOBODY
            self._free.append(number)

    def to_arrays(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """Copies of the keys by number, for a snapshot."""
        keys, ends = pack(self.keys)
        return {f"{prefix}.keys": keys, f"{prefix}.ends": ends}

    def from_arrays(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]], held: npt.NDArray[np.int32]) -> None:
        """Take over what `to_arrays` gave; `held` has the app's number once for each group that holds it."""
        self.keys = [AppKey(key) for key in unpack(arrays[f"{prefix}.keys"], arrays[f"{prefix}.ends"])]
        self._holders = np.bincount(held, minlength=len(self.keys)).tolist()
        self._free = [number for number, holders in enumerate(self._holders) if not holders]
        self.numbers = {key: number for number, key in enumerate(self.keys) if self._holders[number]}
