"""Who reports, who is away, and which batches of whom have been applied?

Invariant: a client's number is its place in `here` and in `table`, and is not used again while a session names it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from appstatsd.collect.columns import Mask
from appstatsd.packed import pack, unpack

DIGESTS_KEPT = 1024
"""How many of a client's last batches can be recognized when they are sent again."""

LOG_PREFIX: Final = "als/"
"""How the client_ids of proxies begin that do not report but tell their access log. The daemon makes them, so they are of
no random bits: streams of one are open side by side, and its batches have no numbers."""

_FLAGS = ("here", "expired", "reported", "lost_batches")
_NUMBERS = ("number", "away_wall_us", "away_since_us", "last_sign_mono_us", *_FLAGS)


def tells_log(client_id: str) -> bool:
    """Whether this is a proxy that tells its access log."""
    return client_id.startswith(LOG_PREFIX)


class Client:
    """One sending process incarnation."""

    __slots__ = (
        "applied_sequence",
        "away_since_us",
        "away_wall_us",
        "client_id",
        "digests",
        "dropped_reports",
        "expired",
        "first_sequence",
        "here",
        "last_sign_mono_us",
        "lost_batches",
        "number",
        "reported",
        "software",
    )

    def __init__(self, client_id: str, number: int, wall_us: int, mono_us: int, patience_us: int) -> None:
        self.client_id = client_id
        self.number = number
        self.here = False
        """Whether it has an open stream."""
        self.away_wall_us = wall_us
        """Since when it has none: what an inferred end is."""
        self.away_since_us = patience_us
        """The same on the clock of `State.patience_us`: what its grace is measured from."""
        self.last_sign_mono_us = mono_us
        """The same on the monotonic clock: what retention is measured from."""
        self.expired = False
        """Whether its grace has passed since it went away."""
        self.reported = False
        """Whether it ever sent a batch."""
        self.applied_sequence = 0
        """The number of its last batch that was applied; 0: none yet."""
        self.lost_batches = False
        """Whether batches that were applied may be missing after a damage, so that the next number may leave a gap."""
        self.first_sequence = 0
        self.digests = array("Q")
        self.dropped_reports = 0
        self.software = ""
        """Name and version of its library, as it says."""

    def applied(self, sequence: int, digest: int) -> None:
        """This batch has been applied; its number follows the last one, or is this client's first."""
        if not self.applied_sequence or sequence != self.applied_sequence + 1:
            self.first_sequence = sequence
            self.digests = array("Q")
        self.lost_batches = False
        place = (sequence - self.first_sequence) % DIGESTS_KEPT
        if place == len(self.digests):
            self.digests.append(digest)
        else:
            self.digests[place] = digest
        self.applied_sequence = sequence

    def is_same(self, sequence: int, digest: int) -> bool:
        """Whether the batch that was applied under this number had this content; False too where that is forgotten."""
        if sequence < self.first_sequence or sequence <= self.applied_sequence - DIGESTS_KEPT:
            return False
        return self.digests[(sequence - self.first_sequence) % DIGESTS_KEPT] == digest


class Clients:
    """All clients that are remembered."""

    def __init__(self) -> None:
        self._by_id: dict[str, Client] = {}
        self.table: list[Client | None] = []
        """By number."""
        self.here: Mask = np.zeros(64, np.bool_)
        """By number, whether the client has an open stream."""
        self.tells_log: Mask = np.zeros(64, np.bool_)
        """By number, whether the client tells its access log."""
        self._free: list[int] = []

    def __iter__(self) -> Iterator[Client]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, client_id: str) -> Client | None:
        """The client, if it is remembered."""
        return self._by_id.get(client_id)

    def get_or_add(self, client_id: str, wall_us: int, mono_us: int, patience_us: int) -> Client:
        """The client; a new one is away since now."""
        client = self._by_id.get(client_id)
        if client is None:
            if self._free:
                number = self._free.pop()
            else:
                number = len(self.table)
                self.table.append(None)
                if number == len(self.here):
                    self.here = np.concatenate([self.here, np.zeros(number, np.bool_)])
                    self.tells_log = np.concatenate([self.tells_log, np.zeros(number, np.bool_)])
            client = Client(client_id, number, wall_us, mono_us, patience_us)
            self._by_id[client_id] = client
            self.table[number] = client
            self.here[number] = False
            self.tells_log[number] = tells_log(client_id)
        return client

    def set_here(self, client: Client, here: bool) -> None:
        """The client has an open stream, or none."""
        client.here = here
        self.here[client.number] = here

    def forget(self, client: Client) -> None:
        """The client is not known any more, and its number is free; no session names it."""
        del self._by_id[client.client_id]
        self.table[client.number] = None
        self.here[client.number] = False
        self._free.append(client.number)

    def to_arrays(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """All clients, for a snapshot; keys begin with `prefix`."""
        clients = list(self._by_id.values())
        names, name_ends = pack([client.client_id.encode() for client in clients])
        software, software_ends = pack([client.software.encode() for client in clients])
        digests, digest_ends = pack([client.digests.tobytes() for client in clients])
        numbers = np.array([[getattr(client, name) for name in _NUMBERS] for client in clients], np.int64)
        return {
            f"{prefix}.names": names,
            f"{prefix}.name_ends": name_ends,
            f"{prefix}.software": software,
            f"{prefix}.software_ends": software_ends,
            f"{prefix}.digests": digests,
            f"{prefix}.digest_ends": digest_ends,
            f"{prefix}.numbers": numbers.reshape(-1, len(_NUMBERS)),
            f"{prefix}.sequences": np.array(
                [[client.applied_sequence, client.first_sequence, client.dropped_reports] for client in clients],
                np.uint64,
            ).reshape(-1, 3),
            f"{prefix}.free": np.array(self._free, np.int64),
        }

    def from_arrays(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `to_arrays` gave; nothing may be here yet."""
        self._free = arrays[f"{prefix}.free"].tolist()
        numbers = arrays[f"{prefix}.numbers"]
        self.table = [None] * (len(numbers) + len(self._free))
        self.here = np.zeros(max(64, len(self.table)), np.bool_)
        self.tells_log = np.zeros(len(self.here), np.bool_)
        for name, software, digests, row, sequences in zip(
            unpack(arrays[f"{prefix}.names"], arrays[f"{prefix}.name_ends"]),
            unpack(arrays[f"{prefix}.software"], arrays[f"{prefix}.software_ends"]),
            unpack(arrays[f"{prefix}.digests"], arrays[f"{prefix}.digest_ends"]),
            numbers.tolist(),
            arrays[f"{prefix}.sequences"].tolist(),
            strict=True,
        ):
            client = Client(name.decode(), 0, 0, 0, 0)
            for attribute, value in zip(_NUMBERS, row, strict=True):
                setattr(client, attribute, value)
            for attribute in _FLAGS:
                setattr(client, attribute, bool(getattr(client, attribute)))
            client.applied_sequence, client.first_sequence, client.dropped_reports = sequences
            client.software = software.decode()
            client.digests.frombytes(digests)
            self._by_id[client.client_id] = client
            self.table[client.number] = client
            self.here[client.number] = client.here
            self.tells_log[client.number] = tells_log(client.client_id)

    def mask(self, clients: list[Client]) -> npt.NDArray[np.bool_]:
        """By number, whether the client is one of these; the last place, for number -1, is never one."""
        chosen = np.zeros(len(self.table) + 1, np.bool_)
        chosen[[client.number for client in clients]] = True
        return chosen
