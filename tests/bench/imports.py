"""What does it cost to import an access log, beside reading, parsing and COPY of the same lines?

Makes a log in the combined format, as browsers make it: bursts of requests. Then, in turns: `appstatsd import` of it into
an empty table; and a loop that reads it, takes each line apart and copies all lines into a table of one column. Prints
both times and their ratio.

    python -m tests.bench.imports [LINES]
"""

from __future__ import annotations

import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
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
COMBINED = re.compile(rb'(\S+) (\S+) (\S+) \[([^\]]+)\] "([^"]*)" (\d{3}) (\d+|-) "([^"]*)" "([^"]*)"')
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
NAMES = [
    "--als-user=tag:remote_user",
    "--als-workspace=tag:remote_host",
    "--als-agent=constant:main",
    "--als-access-method=constant:subdomain",
    "--als-slug-or-port=constant:code",
    "--als-namespace=6ba7b811-9dad-11d1-80b4-00c04fd430c8",
]


def write_log(path: Path, lines: int) -> None:
    """A log of about 12 requests a second."""
    chance = random.Random(1)
    moment = BEGIN
    written = 0
    with path.open("w") as log:
        while written < lines:
            user = chance.randrange(USERS)
            for _ in range(min(chance.randrange(1, 40), lines - written)):
                moment += timedelta(milliseconds=80)
                log.write(
                    f"203.0.113.{user % 50} - user{user} [{moment:%d/%b/%Y:%H:%M:%S} +0000] "
                    f'"GET /static/{written}/main.js?v={written * 7} HTTP/1.1" 200 {written % 90_000} '
                    f'"https://code--desk.apps.example.com/" "{AGENT}"\n'
                )
                written += 1


def read_parse_copy(url: str, log: Path) -> None:
    """What nobody can do without."""
    with psycopg.connect(url) as connection, log.open("rb") as file:
        connection.execute("CREATE TABLE plain_lines (line text)")
        matched = [match.groups() for match in map(COMBINED.match, file) if match is not None]
        assert matched
        file.seek(0)
        with connection.cursor().copy(
            "COPY plain_lines FROM STDIN (FORMAT csv, DELIMITER e'\\x01', QUOTE e'\\x02')"
        ) as copy:
            while block := file.read(1 << 20):
                copy.write(block)


def import_log(url: str, log: Path) -> None:
    """As an operator would."""
    command = [sys.executable, "-m", "appstatsd", "import", str(log), f"--database-url={url}", *NAMES]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


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


def measure(lines: int = LINES, rounds: int = ROUNDS) -> float:
    """Print both times; how many times as long the import takes."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        log = Path(folder) / "access.log"
        write_log(log, lines)
        server = PostgresServer(Path(folder) / "data", make_template(Path(folder)))
        try:
            server.start("-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB")
            plain, whole = zip(
                *((timed(server, log, read_parse_copy), timed(server, log, import_log)) for _ in range(rounds)),
                strict=True,
            )
        finally:
            server.remove()
    print(f"{lines:,} lines of the combined format, medians of {rounds} rounds")
    for name, spent in (("read, parse, COPY", plain), ("appstatsd import", whole)):
        print(
            f"  {name:18} {median(s for s, _ in spent):6.1f} s, {median(c for _, c in spent):6.1f} s of the client's CPU"
        )
    ratio = median(s for s, _ in whole) / median(s for s, _ in plain)
    print(f"  ratio {ratio:.2f}")
    return ratio


if __name__ == "__main__":
    measure(*map(int, sys.argv[1:2]))
