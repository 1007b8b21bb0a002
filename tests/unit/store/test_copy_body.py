"""The body of a binary COPY, read back field by field."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest
from appstatsd.collect.apps import AppKey, app_key
from appstatsd.collect.rows import CELLS, MAX_REQUESTS, EndSource, Rows
from appstatsd.store.copy_body import BodyEncoder

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
EPOCH_2000_US = 946_684_800_000_000


def app(number: int, slug: str = "code", method: int = 1) -> AppKey:
    return app_key(number.to_bytes(16, "big"), b"w" * 16, b"a" * 16, method, slug)


def fields(body: bytes) -> Iterator[list[bytes]]:
    assert body.startswith(SIGNATURE)
    at = len(SIGNATURE)
    while (count := struct.unpack_from(">h", body, at)[0]) != -1:
        at += 2
        row = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", body, at)
            row.append(body[at + 4 : at + 4 + length])
            at += 4 + length
        yield row
    assert at + 2 == len(body)


def rows_of(*apps: AppKey) -> Rows:
    cells = np.zeros(len(apps), CELLS)
    cells["session_id"] = [place.to_bytes(16, "big") for place in range(1, len(apps) + 1)]
    return Rows(list(apps), cells)


def test_each_field_is_where_the_incoming_table_expects_it() -> None:
    rows = rows_of(app(7, "sl\u00fcg", method=2))
    rows.cells[0] = (b"s" * 16, EPOCH_2000_US + 1, EPOCH_2000_US - 2, MAX_REQUESTS, 3, EndSource.INFERRED, 5)
    (row,) = fields(BodyEncoder().body(rows))
    assert row[:6] == [(7).to_bytes(16, "big"), b"w" * 16, b"a" * 16, b"subdomain", "sl\u00fcg".encode(), b"s" * 16]
    assert [int.from_bytes(field, "big", signed=True) for field in row[6:]] == [
        1,
        -2,
        MAX_REQUESTS,
        3,
        EndSource.INFERRED,
        5 - EPOCH_2000_US,
    ]


@pytest.mark.parametrize("remembered", [1, 2, 1000])
def test_rows_keep_their_apps_however_few_are_remembered(remembered: int) -> None:
    encoder = BodyEncoder(remembered_apps=remembered)
    for _ in range(3):
        rows = rows_of(*(app(number % 5, f"slug-{number % 5}") for number in range(20)))
        read = list(fields(encoder.body(rows)))
        assert [int.from_bytes(row[0], "big") for row in read] == [number % 5 for number in range(20)]
        assert [row[4] for row in read] == [f"slug-{number % 5}".encode() for number in range(20)]
        assert [int.from_bytes(row[5], "big") for row in read] == list(range(1, 21))


def test_no_more_apps_are_remembered_than_the_limit_says() -> None:
    encoder = BodyEncoder(remembered_apps=10)
    for begin in range(0, 100, 7):
        encoder.body(rows_of(*(app(number) for number in range(begin, begin + 7))))
        assert len(encoder._prefixes) <= 10


def test_no_rows_make_an_empty_body() -> None:
    assert list(fields(BodyEncoder().body(Rows.empty()))) == []
