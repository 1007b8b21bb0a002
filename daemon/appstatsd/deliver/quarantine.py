"""Which rows did the database refuse for their content, and what did it say?

Part of the daemon's durable state, like the outbox: it changes by `put`, `take`, `drop` and `forget_person` alone, called
by the one thread that applies events. Others may look.

Invariant: at most one row of a key. A live session whose row is refused makes a new one at every flush; that takes the
place of the older one under the same id, merged as the upsert would have done it, so the quarantine does not grow. Ids
rise from 1 and are never used again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from appstatsd.collect.apps import AGENT, USER, AppKey
from appstatsd.collect.merge import merged
from appstatsd.collect.rows import CELLS, Cells, Rows
from appstatsd.packed import pack, unpack


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One row and why it is here."""

    id: int
    app: AppKey
    cell: bytes
    """The rest of the row: the bytes of one element of dtype `CELLS`."""
    message: str
    """In the words of the database or of its client library."""
    sqlstate: str | None
    """Five characters, or None where the client library refused."""
    at_us: int
    """When it was refused last: microseconds since the Unix epoch."""

    @property
    def cells(self) -> Cells:
        """The rest of the row: one element of dtype `CELLS`."""
        return np.frombuffer(self.cell, CELLS)


class Quarantine:
    """Refused rows by id."""

    def __init__(self, max_clock_skew_us: int) -> None:
        self.max_clock_skew_us = max_clock_skew_us
        """The rule by which rows of one key are merged; changed with the rules, by the one writer."""
        self._lock = threading.Lock()
        # The lock protects all that follows, from those who look while the one writer changes it.
        self._rows: dict[int, Quarantined] = {}  # in the order of their ids
        self._ids: dict[bytes, int] = {}  # by user, agent and session
        self._last_id = 0

    # What the one writer does.

    def put(self, rows: Rows, message: str, sqlstate: str | None, at_us: int) -> None:
        """Take rows that were refused with this message."""
        with self._lock:
            for place, app in enumerate(rows.apps):
                cells = rows.cells[place : place + 1]
                key = _key(app, cells)
                known = self._rows.get(self._ids.get(key, 0))
                if known is None:
                    self._last_id += 1
                    row = Quarantined(self._last_id, app, cells.tobytes(), message, sqlstate, at_us)
                else:
                    cells = merged(known.cells, cells, self.max_clock_skew_us)
                    row = Quarantined(known.id, known.app, cells.tobytes(), message, sqlstate, at_us)
                self._rows[row.id] = row
                self._ids[key] = row.id

    def take(self, ids: Iterable[int]) -> Rows:
        """Give these rows away, to be tried again; ids that are not there count for nothing."""
        with self._lock:
            gone = self._remove(ids)
            return Rows([row.app for row in gone], np.frombuffer(bytearray().join(row.cell for row in gone), CELLS))

    def drop(self, ids: Iterable[int]) -> int:
        """Forget these rows, and say how many there were."""
        with self._lock:
            return len(self._remove(ids))

    def forget_person(self, user_id: bytes) -> int:
        """Erase the rows of this person, and say how many there were."""
        with self._lock:
            return len(self._remove(self._ids_of(user_id)))

    # What others see.

    def count_person(self, user_id: bytes) -> int:
        """How many rows of this person there are."""
        with self._lock:
            return len(self._ids_of(user_id))

    def page(self, after_id: int, limit: int) -> list[Quarantined]:
        """The first rows with higher ids, in their order."""
        with self._lock:
            return list(islice((row for row in self._rows.values() if row.id > after_id), limit))

    def ids(self) -> list[int]:
        """The ids of all rows, in their order."""
        with self._lock:
            return list(self._rows)

    def __len__(self) -> int:
        with self._lock:
            return len(self._rows)

    # The snapshot.

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it, as arrays that nobody changes."""
        with self._lock:
            rows = list(self._rows.values())
            last_id = self._last_id
        apps, app_ends = pack([row.app for row in rows])
        texts, text_ends = pack(
            [text.encode(errors="backslashreplace") for row in rows for text in (row.message, row.sqlstate or "")]
        )
        return {
            "ids": np.array([row.id for row in rows], np.int64),
            "cells": np.frombuffer(b"".join(row.cell for row in rows), CELLS),
            "at_us": np.array([row.at_us for row in rows], np.int64),
            "apps": apps,
            "app_ends": app_ends,
            "texts": texts,
            "text_ends": text_ends,
            "last": np.array([last_id], np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[Any]], max_clock_skew_us: int) -> Quarantine:
        """The quarantine that `to_arrays` was called on."""
        quarantine = cls(max_clock_skew_us)
        apps = [AppKey(app) for app in unpack(arrays["apps"], arrays["app_ends"])]
        texts = [text.decode() for text in unpack(arrays["texts"], arrays["text_ends"])]
        cells = arrays["cells"]
        for place, (number, at_us) in enumerate(zip(arrays["ids"].tolist(), arrays["at_us"].tolist(), strict=True)):
            message, sqlstate = texts[2 * place : 2 * place + 2]
            cell = cells[place : place + 1]
            row = Quarantined(number, apps[place], cell.tobytes(), message, sqlstate or None, at_us)
            quarantine._rows[number] = row
            quarantine._ids[_key(row.app, cell)] = number
        [quarantine._last_id] = arrays["last"].tolist()
        return quarantine

    # Below, the lock is held.

    def _ids_of(self, user_id: bytes) -> list[int]:
        return [number for number, row in self._rows.items() if row.app[USER] == user_id]

    def _remove(self, ids: Iterable[int]) -> list[Quarantined]:
        gone = [self._rows.pop(number) for number in ids if number in self._rows]
        for row in gone:
            del self._ids[_key(row.app, row.cells)]
        return gone


def _key(app: AppKey, cells: Cells) -> bytes:
    return app[USER] + app[AGENT] + cells["session_id"].tobytes()
