"""(b) How many rows a second go from the roll-up to the commit, as a part of what PostgreSQL can take?

The daemon holds long live sessions, so that each flush writes all of them: first into an empty table, then again as
updates. Each time psql does the same with the very same rows: \\copy into a temporary table, then the daemon's own
INSERT … ON CONFLICT, all in one transaction; that is the limit. Beside it psql in transactions of 1,024 rows, as the daemon
writes, the daemon when it is told to write 4,096, and the plain Go server. PostgreSQL runs with fsync off, so that the ways
are compared and not the disk.
"""

from __future__ import annotations

import subprocess
import time
from collections import defaultdict
from pathlib import Path

import psycopg
from appstatsd.store.statements import statement

from tests.bench.figures import ratio
from tests.bench.servers import Bench, Server, cpu_seconds
from tests.support.postgres import PROGRAMS

PART = "b"
STREAMS = 8
ROWS_AN_APP = 10
BATCH = 1_024
LARGER = "daemon, 4,096 rows a transaction"
DAEMONS: dict[str, tuple[str, ...]] = {"daemon": (), LARGER: ("--batch-size=4096",)}
"""With which settings."""
COLUMNS = (
    "user_id, workspace_id, agent_id, access_method, slug_or_port, session_id, session_started_at, session_ended_at, "
    "requests, sessions, 0::smallint, updated_at"
)
_BEGIN = statement("begin", statement_timeout_ms=0, lock_timeout_ms=0, idle_timeout_ms=0)
_UPSERT = statement(
    "upsert", {"sessions", "end_source", "updated_at"}, stale=statement("stale", skew_us=600_000_000).strip()
)

Taken = dict[tuple[str, str], list[float]]
"""By who wrote and into what table, rows a second, or microseconds of CPU a row."""


def measure(bench: Bench) -> None:
    taken: Taken = defaultdict(list)
    cpu: Taken = defaultdict(list)
    rows = bench.sizes.rows
    shape = {"streams": STREAMS, "batch": 100, "reports": rows, "apps": max(1, rows // STREAMS // ROWS_AN_APP)}
    for who, flags in DAEMONS.items():
        with (
            bench.database() as url,
            bench.daemon(*flags, url=url, core=None) as daemon,
            bench.loading(daemon, live=True, age="2m", **shape),
        ):
            for _ in range(bench.sizes.runs):
                _flushes(daemon, url, who, taken, cpu)
                if who == "daemon":
                    with bench.folder() as folder:
                        _psql(url, folder, taken)
    with (
        bench.database() as url,
        bench.go(url, core=None) as go,
        bench.loading(go, live=True, age="2m", **shape),
    ):
        for _ in range(bench.sizes.runs):
            _flushes(go, url, "Go", taken, cpu)
    for table in ("fresh", "updating"):
        mine, limit = taken["daemon", table], taken["psql", table]
        others = {"psql": limit, "psql_in_batches": taken["psql in batches", table], "Go": taken["Go", table]}
        bench.results.add(PART, f"roll-up to commit, {table} rows", "rows/s", mine, **others)
        bench.results.add(PART, f"the server's CPU, {table} rows", "µs/row", cpu["daemon", table], Go=cpu["Go", table])
        larger = taken[LARGER, table]
        bench.results.add(PART, f"the same, 4,096 rows a transaction, {table} rows", "rows/s", larger, psql=limit)
        says = f"{table} rows a second, of psql's \\copy and INSERT … ON CONFLICT"
        bench.results.at_least(PART, says, ratio(mine, limit), 0.9)
        bench.results.at_least(PART, f"{says}, --batch-size=4096", ratio(larger, limit), 0.9)


def _flushes(server: Server, url: str, who: str, taken: Taken, cpu: Taken) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE workspace_app_stats, workspaces")
    for table in ("fresh", "updating"):
        began, began_cpu = time.perf_counter(), cpu_seconds(server.pid)
        written = server.flush()
        taken[who, table].append(written / (time.perf_counter() - began))
        cpu[who, table].append((cpu_seconds(server.pid) - began_cpu) / written * 1e6)


def _psql(url: str, folder: Path, taken: Taken) -> None:
    """Write the rows that the daemon has just written, in both ways, fresh and again thirty seconds later."""
    folder.chmod(0o755)
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT count(*) FROM workspace_app_stats").fetchone()
        assert row is not None
        count = row[0]
        connection.execute("DROP TABLE IF EXISTS bench_rows")
        connection.execute("CREATE TABLE bench_rows AS SELECT * FROM workspace_app_stats")
        for who, size in (("psql", count), ("psql in batches", BATCH)):
            connection.execute("TRUNCATE workspace_app_stats, workspaces")
            for number, table in enumerate(("fresh", "updating")):
                files = []
                for begin in range(0, count, size):
                    files.append(folder / f"{number}-{begin}")
                    _write(connection, files[-1], number, begin, size)
                script = folder / "script"
                script.write_text(_script(files), encoding="utf-8")
                taken[who, table].append(count / _seconds(url, script))
                for file in files:
                    file.unlink()


def _write(connection: psycopg.Connection, file: Path, later: int, begin: int, size: int) -> None:
    """Some of the rows, in the form and in the order in which the daemon sends them."""
    shifted = COLUMNS
    for column in ("session_ended_at", "updated_at"):
        shifted = shifted.replace(column, f"{column} + interval '{30 * later} seconds'")
    chosen = f"SELECT {shifted} FROM bench_rows ORDER BY id OFFSET {begin} LIMIT {size}"
    with (
        file.open("wb") as out,
        connection.cursor().copy(f"COPY ({chosen}) TO STDOUT (FORMAT binary)".encode()) as copy,
    ):
        for data in copy:
            out.write(data)


def _script(files: list[Path]) -> str:
    """For psql; it prints a clock before and after."""
    clock = "SELECT extract(epoch FROM clock_timestamp());"
    lines = ["SET client_min_messages = warning;", clock]
    for file in files:
        copy = rf"\copy appstatsd_incoming FROM '{file}' (FORMAT binary)"
        lines += ["BEGIN;", _BEGIN, copy, _UPSERT, "COMMIT;"]
    return "\n".join([*lines, clock]) + "\n"


def _seconds(url: str, script: Path) -> float:
    done = subprocess.run(
        [str(PROGRAMS / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-f", str(script), url],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"psql failed: {done.stderr}")
    first, last = done.stdout.split()
    return float(last) - float(first)
