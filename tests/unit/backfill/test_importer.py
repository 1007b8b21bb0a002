"""A file becomes the same rows each time, and they say what a slow count of its lines says."""

from __future__ import annotations

import io
import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import pytest
from appstatsd.accesslog.naming import Naming
from appstatsd.accesslog.origins import parse_origin
from appstatsd.backfill import importer
from appstatsd.backfill.collector import FileCollector
from appstatsd.backfill.importer import NAMESPACE, Totals, rows_of
from appstatsd.backfill.lines import Parsed
from appstatsd.collect.apps import USER, app_key
from appstatsd.collect.batch import Arrival, Batch, Reason
from appstatsd.collect.collector import Collector
from appstatsd.collect.rows import Rows
from appstatsd.collect.rules import Rules
from hypothesis import given
from hypothesis import strategies as st

NAMES = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
NAMING = Naming(
    (parse_origin("tag:remote_user"),),
    *((parse_origin(f"constant:{UUID(int=number)}"),) for number in (2, 3)),
    (parse_origin("constant:path"),),
    (parse_origin("constant:code"),),
    None,
    NAMES,
)
BEGIN = datetime(2026, 11, 24, 10, tzinfo=UTC)
WALL_US = 1_900_000_000_000_000
MINUTE_US = 60_000_000


def us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def combined(user: str, second: int) -> bytes:
    at = BEGIN + timedelta(seconds=second)
    return f'203.0.113.7 - {user} [{at:%d/%b/%Y:%H:%M:%S +0000}] "GET / HTTP/1.1" 200 5 "-" "-"\n'.encode()


def caddy(user: str, end: float, lasted: float) -> bytes:
    record = {"ts": us(BEGIN) / 1e6 + end, "duration": lasted, "user_id": user, "request": {"host": "a"}}
    return json.dumps(record).encode() + b"\n"


def imported(content: bytes, wall_us: int = WALL_US) -> tuple[Rows, Totals]:
    totals = Totals()
    rows = rows_of(io.BytesIO(content), NAMING, Rules(), wall_us, totals, lambda: None)
    return rows, totals


def told(rows: Rows) -> dict[bytes, tuple[Any, ...]]:
    """All that stands in the rows, by session."""
    found = {
        bytes(cells["session_id"]): (app, *(int(cells[name]) for name in cells.dtype.names[1:]))
        for app, cells in zip(rows.apps, rows.cells, strict=True)
    }
    assert len(found) == len(rows)
    return found


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 600)), max_size=60), st.integers(40, 400))
def test_rows_have_the_sums_of_the_lines_however_the_file_is_cut(lines: list[tuple[str, int]], cut: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importer, "_READ_BYTES", cut)
        rows, totals = imported(b"".join(combined(user, second) for user, second in lines))
    expected = Counter((uuid5(NAMES, user).bytes, us(BEGIN) + second // 60 * MINUTE_US) for user, second in lines)
    found = {
        (app[USER], int(cells["started_us"])): int(cells["requests"])
        for app, cells in zip(rows.apps, rows.cells, strict=True)
    }
    assert found == expected
    assert sum(rows.cells["sessions"].tolist()) == len(lines)
    assert (totals.lines, totals.requests) == (len(lines), len(lines))


def test_ids_are_of_version_5_and_made_of_the_first_line_and_the_group_or_the_line() -> None:
    first, long = caddy("a", 10, 1), caddy("a", 7200, 7000)
    rows, _ = imported(first + long)
    assert sorted(rows.cells["sessions"].tolist()) == [1, 1]
    [(rolled_app, rolled)] = [
        (app, bytes(cells["session_id"]))
        for app, cells in zip(rows.apps, rows.cells, strict=True)
        if cells["started_us"] == us(BEGIN)
    ]
    [own] = {bytes(cells["session_id"]) for cells in rows.cells} - {rolled}

    def made(name: bytes) -> bytes:
        return uuid5(NAMESPACE, (first.rstrip() + b"\n" + name).decode("latin-1")).bytes

    assert rolled_app[USER] == uuid5(NAMES, "a").bytes
    assert UUID(bytes=rolled).version == 5
    assert own == made(b"1\n" + long.rstrip())


def test_the_same_content_gives_the_same_rows_whenever_it_is_read() -> None:
    content = b"".join(combined("ab"[place % 2], place * 7) for place in range(200)) + caddy("a", 5000, 4000)
    assert told(imported(content)[0]) == told(imported(content, WALL_US + 5_000_000)[0])


def test_a_file_that_has_grown_keeps_its_rows_and_their_counts_grow() -> None:
    lines = [caddy("a", second * 5, 1) for second in range(40)] + [caddy("a", 3000, 2000)]
    before = told(imported(b"".join(lines))[0])
    after = told(imported(b"".join([*lines, caddy("a", 199, 1), caddy("b", 900, 800)]))[0])
    assert before.keys() < after.keys()
    assert len(after) == len(before) + 1
    requests = 3
    assert sum(row[requests] for row in after.values()) == sum(row[requests] for row in before.values()) + 2


def test_another_file_of_the_same_time_has_rows_of_its_own() -> None:
    one, other = imported(combined("a", 1) + combined("a", 2))[0], imported(combined("a", 3))[0]
    assert told(one).keys().isdisjoint(told(other).keys())


def test_lines_that_are_alike_are_counted_each() -> None:
    [row] = told(imported(combined("a", 1) * 3)[0]).values()
    assert row[3:5] == (3, 3)
    long = told(imported(caddy("a", 900, 800) * 2)[0])
    assert [row[3] for row in long.values()] == [1, 1]


def test_long_requests_that_are_alike_differ_wherever_the_file_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    content = caddy("a", 900, 800) * 5
    whole = told(imported(content)[0])
    assert len(whole) == 5
    monkeypatch.setattr(importer, "_READ_BYTES", len(content) // 5)
    assert told(imported(content)[0]) == whole


def test_a_last_line_without_an_end_counts() -> None:
    assert imported(combined("a", 1) + combined("a", 2).rstrip())[1].requests == 2


def test_lines_out_of_order_over_days_meet_in_their_groups() -> None:
    """Servers log a request when it ends, and nothing is forgotten before the file's end."""
    spread = [second for day in range(3) for second in (day * 86_400, day * 86_400 + 30)]
    rows, _ = imported(b"".join(combined("a", second) for second in [*spread, *spread]))
    by_start: dict[int, list[int]] = defaultdict(list)
    for cells in rows.cells:
        by_start[int(cells["started_us"])].append(int(cells["requests"]))
    assert list(by_start.values()) == [[4], [4], [4]]


def test_what_cannot_be_is_counted_and_skipped() -> None:
    future = caddy("a", (WALL_US - us(BEGIN)) / 1e6 + 3600, 1)
    ancient = caddy("a", -(us(BEGIN) / 1e6) + 5, 1)
    rows, totals = imported(future + ancient + b"{}\n" + caddy("a", 1, 1))
    assert len(rows) == 1
    assert totals.skipped[Reason.INVALID_TIME] == 2
    assert sum(totals.skipped.values()) == 3
    assert (totals.lines, totals.requests) == (4, 1)


def test_rows_are_made_at_the_time_of_the_last_line_so_that_nothing_was_used_later() -> None:
    rows, _ = imported(combined("a", 5) + combined("a", 65) + combined("a", 62))
    assert set(rows.cells["made_us"].tolist()) == {us(BEGIN) + 65_000_000}


def test_an_empty_file_has_no_rows() -> None:
    rows, totals = imported(b"")
    assert (len(rows), totals.lines) == (0, 0)
    assert len(imported(b"\n")[0]) == 0


@st.composite
def requests(draw: st.DrawFn) -> tuple[int, int, int]:
    """App, start and end: in microseconds, about the bounds of windows."""
    start = us(BEGIN) + draw(st.integers(0, 4)) * MINUTE_US + draw(st.sampled_from([0, 1, 30_000_000, MINUTE_US - 1]))
    lasted = draw(
        st.sampled_from([0, 1, MINUTE_US - 1, MINUTE_US, MINUTE_US + 1, 9 * MINUTE_US, -1, 32 * 86_400_000_000])
    )
    return draw(st.integers(0, 2)), start, start + lasted


@given(st.lists(st.lists(requests(), max_size=12), max_size=4))
def test_the_rows_are_those_of_the_daemons_collector(blocks: list[list[tuple[int, int, int]]]) -> None:
    apps = [app_key(bytes([user]) * 16, b"w" * 16, b"a" * 16, 1, "code") for user in (1, 2, 3)]
    file_collector = FileCollector(Rules(), WALL_US)
    collector = Collector(Rules())
    collector.came("a", WALL_US, 0)
    number = 0
    own = 0
    for block in blocks:
        columns = [list(column) for column in zip(*block, strict=True)] or [[], [], []]
        taken = file_collector.take(Parsed(apps, *columns, places=list(range(len(block)))))
        own += len(taken.long)
        for app, start, end in block:
            number += 1
            batch = Batch(
                [apps[app]],
                np.zeros(1, np.int64),
                np.frombuffer(number.to_bytes(16, "big"), "V16"),
                np.array([start * 1000], np.uint64),
                np.array([end * 1000], np.uint64),
                np.ones(1, np.uint32),
                {},
            )
            collector.accept([Arrival("a", batch, WALL_US, 0)])
    expected = collector.flush(WALL_US, 0).rows
    made = Rows.join([file_collector.rolled_up(), file_collector.own(np.zeros(own, "V16"))])

    def said(rows: Rows) -> Counter[tuple[Any, ...]]:
        names = ("started_us", "ended_us", "requests", "sessions", "end_source")
        return Counter(
            (app, *(int(cells[name]) for name in names)) for app, cells in zip(rows.apps, rows.cells, strict=True)
        )

    assert said(made) == said(expected)
