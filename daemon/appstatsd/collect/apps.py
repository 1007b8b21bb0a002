"""Which app a session is of: the five fields that many sessions share, as one value.

An `AppKey` is the bytes of user_id, workspace_id and agent_id (16 each), one byte for the access method and the slug or
port in UTF-8, one after another. Equal keys are equal apps, so it serves as a dictionary's key, and the parts that the
database wants are slices of it. Keys are plain `bytes` because there may be one for each row of a large batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from typing import Any, Final, NewType

import numpy as np
import numpy.typing as npt

from appstatsd.collect.columns import Ints, distinct, enlarged, tally
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
        self._numbers: dict[AppKey, int] = {}
        self.keys: list[AppKey] = []
        """By number; under a number that is free stands `_NOBODY`, so that nothing keeps what is gone."""
        self._holders = np.zeros(1024, np.int32)
        """By number, and room for more, how many groups hold it."""
        self._free: list[int] = []

    def find(self, keys: Sequence[AppKey]) -> Ints:
        """The number of each app; -1: none is known."""
        return np.fromiter(map(self._numbers.get, keys, repeat(-1)), np.int64, len(keys))

    def find_or_add(self, keys: Sequence[AppKey]) -> list[int]:
        """The number of each app; those that are new get theirs in this order, and are to be held."""
        numbers = self._numbers
        new = list(dict.fromkeys(key for key in keys if key not in numbers))
        reused = self._free[: -len(new) - 1 : -1]
        del self._free[len(self._free) - len(reused) :]
        for number, key in zip(reused, new, strict=False):
            self.keys[number] = key
        begin = len(self.keys)
        self.keys += new[len(reused) :]
        numbers.update(zip(new, chain(reused, range(begin, len(self.keys))), strict=True))
        if len(self.keys) > len(self._holders):
            self._holders = enlarged(self._holders, len(self.keys) * 3 // 2)
        return [numbers[key] for key in keys]

    def hold(self, numbers: Ints) -> None:
        """More groups hold these apps, one for each time that a number is named."""
        tally(self._holders, numbers)

    def release(self, numbers: Ints) -> None:
        """Groups hold these apps no longer, one for each time that a number is named."""
        tally(self._holders, numbers, -1)
        gone = distinct(numbers[self._holders[numbers] == 0]).tolist()
        for number in gone:
            del self._numbers[self.keys[number]]
            self.keys[number] = _NOBODY
        self._free += gone

    def to_arrays(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """Copies of the keys by number, for a snapshot."""
        keys, ends = pack(self.keys)
        return {f"{prefix}.keys": keys, f"{prefix}.ends": ends}

    def from_arrays(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]], held: Ints) -> None:
        """Take over what `to_arrays` gave; `held` has the app's number once for each group that holds it."""
        self.keys = [AppKey(key) for key in unpack(arrays[f"{prefix}.keys"], arrays[f"{prefix}.ends"])]
        self._holders = np.bincount(held, minlength=len(self.keys)).astype(np.int32)
        self._free = np.flatnonzero(self._holders == 0).tolist()
        self._numbers = {key: number for number, key in enumerate(self.keys) if self._holders[number]}
