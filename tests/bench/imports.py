"""What does it cost to import an access log, beside reading, parsing and COPY of the same lines?

Makes a log of each format, as browsers make it: bursts of requests. Then, in turns: `appstatsd import` of it into an empty
table; and a loop that reads it, takes each line apart and copies all lines into a table of one column. Prints both times
and their ratio.

    python -m tests.bench.imports [LINES]
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median

import psycopg
from appstatsd.store.migrate import migrate

from tests.support.postgres import PostgresServer, make_template

LINES = 1_000_000
ROUNDS = 3
USERS = 200
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
COPY = r"COPY plain_lines FROM STDIN (FORMAT csv, DELIMITER e'\x01', QUOTE e'\x02')"
_COMBINED = re.compile(rb'(\S+) (\S+) (\S+) \[([^\]]+)\] "([^"]*)" (\d{3}) (\d+|-) "([^"]*)" "([^"]*)"')
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def parse_combined(line: bytes) -> object:
    """All fields."""
    match = _COMBINED.match(line)
    assert match is not None
    return match.groups()


NAMES = [
    "--als-user=tag:remote_user",
    "--als-workspace=tag:remote_host",
    "--als-agent=constant:main",
    "--als-access-method=constant:subdomain",
    "--als-slug-or-port=constant:code",
    "--als-namespace=6ba7b811-9dad-11d1-80b4-00c04fd430c8",
]


def requests(lines: int) -> Iterator[tuple[int, datetime, int]]:
    """Number, time and user of each request: about 12 a second."""
    chance = random.Random(1)
    moment = BEGIN
    written = 0
    while written < lines:
        user = chance.randrange(USERS)
        for _ in range(min(chance.randrange(1, 40), lines - written)):
            moment += timedelta(milliseconds=80)
            yield written, moment, user
            written += 1


def combined_line(number: int, moment: datetime, user: int) -> str:
    """As Apache and nginx write it."""
    return (
        f"203.0.113.{user % 50} - user{user} [{moment:%d/%b/%Y:%H:%M:%S} +0000] "
        f'"GET /static/{number}/main.js?v={number * 7} HTTP/1.1" 200 {number % 90_000} '
        f'"https://code--desk.apps.example.com/" "{AGENT}"\n'
    )


def caddy_line(number: int, moment: datetime, user: int) -> str:
    """As Caddy writes it."""
    request = {
        "remote_ip": f"203.0.113.{user % 50}",
        "remote_port": "41234",
        "proto": "HTTP/2.0",
        "method": "GET",
        "host": "code--desk.apps.example.com",
        "uri": f"/static/{number}/main.js?v={number * 7}",
        "headers": {"User-Agent": [AGENT], "Accept": ["*/*"], "Referer": ["https://code--desk.apps.example.com/"]},
    }
    record = {"level": "info", "ts": moment.timestamp(), "logger": "http.log.access", "msg": "handled request"}
    rest = {"user_id": f"user{user}", "duration": 0.004, "size": number % 90_000, "status": 200}
    return json.dumps(record | {"request": request} | rest) + "\n"


def read_parse_copy(parse: Callable[[bytes], object], url: str, log: Path) -> None:
    """What nobody can do without."""
    with psycopg.connect(url) as connection, log.open("rb") as file:
        connection.execute("CREATE TABLE plain_lines (line text)")
        for line in file:
            parse(line)
        file.seek(0)
        with connection.cursor().copy(COPY) as copy:
            while block := file.read(1 << 20):
                copy.write(block)


def import_log(url: str, log: Path) -> None:
    """As an operator would, whose modules are compiled."""
    command = [sys.executable, "-m", "appstatsd", "import", str(log), f"--database-url={url}", *NAMES]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(log.parent / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def timed(server: PostgresServer, log: Path, what: Callable[[str, Path], None]) -> tuple[float, float]:
    """Seconds that passed, and of the client's CPU, in a database of its own."""
    name = server.create_database()
    migrate(server.url(name))
    began, cpu = time.perf_counter(), _cpu_seconds()
    what(server.url(name), log)
    spent = time.perf_counter() - began, _cpu_seconds() - cpu
    server.drop_database(name)
    return spent


def _cpu_seconds() -> float:
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


FORMATS: dict[str, tuple[Callable[[int, datetime, int], str], Callable[[bytes], object]]] = {
    "combined": (combined_line, parse_combined),
    "caddy": (caddy_line, json.loads),
}


def measure(lines: int = LINES, rounds: int = ROUNDS) -> dict[str, float]:
    """Print both times for each format; how many times as long the import takes."""
    ratios = {}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        server = PostgresServer(Path(folder) / "data", make_template(Path(folder)))
        try:
            server.start("-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB")
            for name, (line_of, parse) in FORMATS.items():
                log = Path(folder) / f"{name}.log"
                with log.open("w") as file:
                    file.writelines(line_of(*each) for each in requests(lines))
                ratios[name] = _compare(server, log, partial(read_parse_copy, parse), rounds)
        finally:
            server.remove()
    return ratios


def _compare(server: PostgresServer, log: Path, plain_way: Callable[[str, Path], None], rounds: int) -> float:
    few = log.with_name(f"few-{log.name}")
    with log.open("rb") as file:
        few.write_bytes(file.readline())
    timed(server, few, import_log)  # which compiles the modules
    plain, whole = zip(
        *((timed(server, log, plain_way), timed(server, log, import_log)) for _ in range(rounds)), strict=True
    )
    print(f"{log.name}: {log.stat().st_size / 1e6:.0f} MB, medians of {rounds} rounds")
    for name, spent in (("read, parse, COPY", plain), ("appstatsd import", whole)):
        seconds, cpu_seconds = (median(column) for column in zip(*spent, strict=True))
        print(f"  {name:18} {seconds:6.1f} s, {cpu_seconds:6.1f} s of the client's CPU")
    ratio = median(s for s, _ in whole) / median(s for s, _ in plain)
    print(f"  ratio {ratio:.2f}")
    return ratio


if __name__ == "__main__":
    measure(*map(int, sys.argv[1:2]))
