"""Rows for tests of the way to the database: made from small numbers, and read back as plain tuples."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from appstatsd.collect.apps import AGENT, USER, AppKey, app_key
from appstatsd.collect.rows import CELLS, EndSource, Rows

T0 = 1_760_000_000_000_000


def ident(number: int) -> bytes:
    """An id of 16 bytes; numbers a multiple of 2**64 apart share their second half."""
    return (number + 1).to_bytes(16, "big")


def app(number: int = 1, *, user: int | None = None, slug: str = "code") -> AppKey:
    """The app of a workspace and agent of this number, and of a user of this number unless another is given."""
    return app_key(ident(number if user is None else user), ident(number), ident(number), 1, slug)


def block(
    sessions: Iterable[int], *, made_us: int = T0, requests: int = 1, ended_us: int = T0, of: AppKey | None = None
) -> Rows:
    """A live row for each of these sessions."""
    ids = [ident(number) for number in sessions]
    cells = np.array([(each, T0, ended_us, requests, 1, EndSource.LIVE, made_us) for each in ids], CELLS)
    return Rows([of or app()] * len(ids), cells)


@dataclass(frozen=True, slots=True)
class PlainRow:
    """A row as a test likes to read it."""

    user: int
    agent: int
    session: int
    slug: str
    ended_us: int
    requests: int
    made_us: int


def plain(rows: Rows) -> list[PlainRow]:
    """All rows, in their order."""

    def number(raw: bytes) -> int:
        return uuid.UUID(bytes=raw).int - 1

    return [
        PlainRow(
            number(key[USER]),
            number(key[AGENT]),
            number(cell["session_id"].tobytes()),
            key[49:].decode(),
            int(cell["ended_us"]),
            int(cell["requests"]),
            int(cell["made_us"]),
        )
        for key, cell in zip(rows.apps, rows.cells, strict=True)
    ]


def sessions(rows: Rows) -> list[int]:
    """The sessions of all rows, in their order."""
    return [row.session for row in plain(rows)]
