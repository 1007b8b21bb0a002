"""Which way into the table costs least? Fresh rows, rows that are there, and the share of HOT updates.

Every way writes the same rows by the same upsert, 1,024 to a transaction: first fresh, then twice again as live rows are.
The ways take turns in each round; the figures are medians. The server is one of the bench's own with fsync off, so that
the ways are compared and not the disk. Read the ratios; docs/database.md keeps them.

    python -m tests.bench.store_ways [--rows 100000] [--rounds 3]      (with daemon/ in PYTHONPATH, on a quiet machine)
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg
from appstatsd.collect.apps import AGENT, SLUG, USER, WORKSPACE, access_method, app_key
from appstatsd.collect.rows import CELLS, EndSource, Rows
from appstatsd.store.copy_body import BodyEncoder
from appstatsd.store.migrate import migrate
from appstatsd.store.statements import statement

from tests.support.postgres import PostgresServer, make_template

BATCH = 1_024
START_US = 1_800_000_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COLUMNS = {
    "user_id": "uuid",
    "workspace_id": "uuid",
    "agent_id": "uuid",
    "access_method": "text",
    "slug_or_port": "text",
    "session_id": "uuid",
    "session_started_at": "timestamptz",
    "session_ended_at": "timestamptz",
    "requests": "int4",
    "sessions": "int4",
    "end_source": "int2",
    "updated_at": "timestamptz",
}
BEGIN = statement("begin", statement_timeout_ms=0, lock_timeout_ms=0, idle_timeout_ms=0).encode()
COPY = statement("copy").encode()
UPSERT = statement(
    "upsert", {"sessions", "end_source", "updated_at"}, stale=statement("stale", skew_us=600_000_000).strip()
)
ENCODER = BodyEncoder()

Connection = psycopg.Connection[tuple[object, ...]]
Way = Callable[[Connection, int, Rows], None]


def values(rows: Rows) -> Iterable[tuple[object, ...]]:
    """An object for each field, as the plain ways need them."""
    for app, cell in zip(rows.apps, rows.cells.tolist(), strict=True):
        session, started, ended, requests, sessions, source, made = cell
        yield (
            uuid.UUID(bytes=app[USER]),
            uuid.UUID(bytes=app[WORKSPACE]),
            uuid.UUID(bytes=app[AGENT]),
            access_method(app),
            app[SLUG].decode(),
            uuid.UUID(bytes=session),
            EPOCH + timedelta(microseconds=started),
            EPOCH + timedelta(microseconds=ended),
            requests,
            sessions,
            source,
            EPOCH + timedelta(microseconds=made),
        )


def unnest(connection: Connection, number: int, rows: Rows) -> None:
    arrays = [list(column) for column in zip(*values(rows), strict=True)]
    parts = ", ".join(f"%s::{kind}[]" for kind in COLUMNS.values())
    text = UPSERT.replace("FROM appstatsd_incoming", f"FROM unnest({parts}) AS incoming ({', '.join(COLUMNS)})")
    with connection.transaction():
        connection.execute(text.encode(), arrays)


def write_row(connection: Connection, number: int, rows: Rows) -> None:
    with connection.transaction():
        connection.execute(BEGIN)
        with connection.cursor().copy(COPY) as copy:
            copy.set_types(list(COLUMNS.values()))
            for row in values(rows):
                copy.write_row(row)
        connection.execute(UPSERT.encode())


def copy_body(connection: Connection, number: int, rows: Rows) -> None:
    with connection.transaction():
        connection.execute(BEGIN)
        with connection.cursor().copy(COPY) as copy:
            copy.write(ENCODER.body(rows))
        connection.execute(UPSERT.encode())


def copy_body_kept(connection: Connection, number: int, rows: Rows) -> None:
    kept = BEGIN.replace(b"ON COMMIT DROP", b"ON COMMIT DELETE ROWS").replace(b"appstatsd_incoming", b"kept")
    with connection.transaction():
        connection.execute(
            b"SET LOCAL client_min_messages = warning;"
            + kept.replace(b"TEMPORARY TABLE", b"TEMPORARY TABLE IF NOT EXISTS")
        )
        with connection.cursor().copy(COPY.replace(b"appstatsd_incoming", b"kept")) as copy:
            copy.write(ENCODER.body(rows))
        connection.execute(UPSERT.replace("appstatsd_incoming", "kept").encode())


def in_server(connection: Connection, number: int, rows: Rows) -> None:
    with connection.transaction():
        connection.execute(UPSERT.replace("appstatsd_incoming", "staged WHERE batch = %s").encode(), (number,))


WAYS: dict[str, Way] = {
    "unnest of Python lists": unnest,
    "COPY by write_row": write_row,
    "COPY body from columns": copy_body,
    "the same, temporary table kept": copy_body_kept,
    "from a table in the server": in_server,
}


def flush(count: int, number: int) -> Rows:
    """The same live sessions at each flush, ten of each app."""
    random = np.random.default_rng(1)
    apps = [
        app_key(random.bytes(16), random.bytes(16), random.bytes(16), 1, f"slug-{place}")
        for place in range(count // 10 + 1)
    ]
    cells = np.zeros(count, CELLS)
    cells["session_id"] = np.frombuffer(random.bytes(16 * count), "V16")
    cells["started_us"] = START_US
    cells["ended_us"] = cells["made_us"] = START_US + number * 30_000_000
    cells["sessions"] = 1
    cells["end_source"] = EndSource.LIVE
    return Rows([apps[place] for place in random.integers(0, len(apps), count).tolist()], cells)


def stage(connection: Connection, rows: Rows) -> None:
    """Put all rows into the server beforehand, for the way that measures the upsert alone."""
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    connection.execute(f"DROP TABLE IF EXISTS staged; CREATE UNLOGGED TABLE staged (batch integer, {columns})".encode())
    for number, part in enumerate(rows.batches(BATCH)):
        with connection.transaction():
            connection.execute(BEGIN)
            with connection.cursor().copy(COPY) as copy:
                copy.write(ENCODER.body(part))
            connection.execute(b"INSERT INTO staged SELECT %s, * FROM appstatsd_incoming", (number,))
    connection.execute(b"CREATE INDEX ON staged (batch)")
    connection.execute(b"ANALYZE staged")


def measure(connection: Connection, way: Way, flushes: list[Rows]) -> list[tuple[float, float]]:
    """For each flush, rows a second and microseconds of the client's CPU a row."""
    connection.execute(b"TRUNCATE workspace_app_stats")
    figures = []
    for rows in flushes:
        if way is in_server:
            stage(connection, rows)
        batches = list(rows.batches(BATCH))
        begin, begin_cpu = time.perf_counter(), time.process_time()
        for number, part in enumerate(batches):
            way(connection, number, part)
        seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
        figures.append((len(rows) / seconds, cpu / len(rows) * 1e6))
    return figures


def hot_share(url: str, fillfactor: int, flushes: int, count: int) -> tuple[float, float, float]:
    """Rewriting live rows: share of HOT updates, milliseconds a flush, megabytes of table and indexes."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(b"TRUNCATE workspace_app_stats")
        connection.execute(f"ALTER TABLE workspace_app_stats SET (fillfactor = {fillfactor})".encode())
        connection.execute(b"SELECT pg_stat_reset()")
        seconds = []
        for number in range(flushes):
            batches = list(flush(count, number).batches(BATCH))
            begin = time.perf_counter()
            for part in batches:
                copy_body(connection, 0, part)
            seconds.append(time.perf_counter() - begin)
        connection.execute(b"SELECT pg_stat_force_next_flush()")
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT n_tup_hot_upd::float / n_tup_upd, pg_total_relation_size(relid) / 1e6"
            " FROM pg_stat_user_tables WHERE relname = 'workspace_app_stats'"
        ).fetchone()
        connection.execute(b"ALTER TABLE workspace_app_stats SET (fillfactor = 70)")
    assert row is not None
    return row[0], statistics.median(seconds[1:]) * 1e3, row[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        server = PostgresServer(Path(folder) / "data", make_template(Path(folder)))
        try:
            server.start("-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB")
            migrate(server.url())
            show(server.url(), options.rows, options.rounds)
        finally:
            server.remove()


def show(url: str, count: int, rounds: int) -> None:
    flushes = [flush(count, number) for number in range(3)]
    taken: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in WAYS}
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        for _ in range(rounds):
            for name, way in WAYS.items():
                taken[name].append(measure(connection, way, flushes))
    print("| way | fresh, rows/s | updating, rows/s | client CPU, µs a row |\n| --- | --- | --- | --- |")
    for name, runs in taken.items():
        fresh = statistics.median(run[0][0] for run in runs)
        updating = statistics.median(figure[0] for run in runs for figure in run[1:])
        cpu = statistics.median(figure[1] for run in runs for figure in run)
        print(f"| {name} | {fresh:,.0f} | {updating:,.0f} | {cpu:.2f} |")
    print("\n| fillfactor | HOT updates | ms a flush | MB |\n| --- | --- | --- | --- |")
    for fillfactor in (100, 70):
        share, milliseconds, megabytes = hot_share(url, fillfactor, 20, count // 2)
        print(f"| {fillfactor} | {share:.1%} | {milliseconds:,.0f} | {megabytes:,.0f} |")


if __name__ == "__main__":
    main()
