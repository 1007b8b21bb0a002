"""What does one durable commit cost in the journal, in SQLite (WAL, synchronous=FULL) and in LMDB?

Each store takes the same batches, 1 or 16 to a commit, and every commit is on the disk when the call returns. Beside the
journal as it is stand plain files, to show what each way to prepare their space gives. The stores take turns within a
round, so that a disk that gets slower or faster does so for all of them. LMDB is measured where the `lmdb` package is
installed; it is no dependency of the project.

    PYTHONPATH=daemon python tests/bench/journal_store.py [--folder FOLDER] [--rounds 7] [--commits 300]

The folder must lie on the disk in question: a tmpfs makes every fsync free.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import resource
import secrets
import shutil
import sqlite3
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import xxhash
from appstatsd.journal.damage import OnDamage
from appstatsd.journal.files import DiskFiles
from appstatsd.journal.recover import recover

FILE_BYTES = 64 * 2**20
HEADER = struct.Struct("<4sIQQ")


class Store(Protocol):
    """One way to keep batches."""

    def commit(self, batches: Sequence[bytes]) -> None:
        """All batches are on the disk when this returns."""

    def close(self) -> None:
        """Give everything back."""


class TheJournal:
    """The project's own."""

    def __init__(self, folder: Path) -> None:
        recovery = recover(DiskFiles(folder / "state"), OnDamage.STOP, time.time(), lambda _read, _total: None)
        list(recovery.units())
        self._journal = recovery.start(lambda: secrets.randbits(64), 2**40)

    def commit(self, batches: Sequence[bytes]) -> None:
        self._journal.append([(batch,) for batch in batches])

    def close(self) -> None:
        self._journal.close()


class File:
    """Append to a file: header with checksum, one write, one fdatasync. `begin` prepares its space."""

    def __init__(self, folder: Path, begin: Callable[[int], None], sync: Callable[[int], None] = os.fdatasync) -> None:
        self._sync = sync
        self._at = 0
        self._fd = os.open(folder / "file", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        begin(self._fd)
        os.fsync(self._fd)

    def commit(self, batches: Sequence[bytes]) -> None:
        payload = b"".join(batches)
        header = HEADER.pack(b"unit", len(batches), len(payload), xxhash.xxh3_64_intdigest(payload))
        self._at += os.pwritev(self._fd, [header, payload], self._at)
        self._sync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def as_it_grows(_: int) -> None:
    """Nothing is prepared; each append makes the file longer."""


def allocated(fd: int) -> None:
    """Blocks are taken, but marked as never written."""
    os.posix_fallocate(fd, 0, FILE_BYTES)


def zeroed(fd: int) -> None:
    """Every block has been written once, so that an append changes no metadata."""
    zeros = bytes(2**20)
    for at in range(0, FILE_BYTES, 2**20):
        os.pwrite(fd, zeros, at)


class Sqlite:
    """A table of blobs; WAL, synchronous=FULL: one fsync of the WAL for each commit."""

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / "journal.db", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE journal (id INTEGER PRIMARY KEY, batch BLOB NOT NULL)")

    def commit(self, batches: Sequence[bytes]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO journal (batch) VALUES (?)", [(batch,) for batch in batches])
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()


class Lmdb:
    """Keys in order, append mode; a commit syncs data and then the meta page."""

    def __init__(self, folder: Path) -> None:
        lmdb: Any = importlib.import_module("lmdb")
        self._env = lmdb.open(str(folder), map_size=4 * 2**30, metasync=True, sync=True)
        self._next = 0

    def commit(self, batches: Sequence[bytes]) -> None:
        with self._env.begin(write=True) as transaction:
            for batch in batches:
                transaction.put(self._next.to_bytes(8, "big"), batch, append=True)
                self._next += 1

    def close(self) -> None:
        self._env.close()


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk to measure (default: here)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--commits", type=int, default=300, help="commits of one batch a round; a fourth of it of 16")
    arguments = parser.parse_args()

    stores: dict[str, Callable[[Path], Store]] = {
        "the journal": TheJournal,
        "file, growing": lambda folder: File(folder, as_it_grows),
        "file, growing, fsync": lambda folder: File(folder, as_it_grows, os.fsync),
        "file, fallocate": lambda folder: File(folder, allocated),
        "file, zeroed": lambda folder: File(folder, zeroed),
        "SQLite WAL FULL": Sqlite,
    }
    if importlib.util.find_spec("lmdb"):
        stores["LMDB"] = Lmdb

    scratch = Path(tempfile.mkdtemp(prefix="journal_store.", dir=arguments.folder))
    try:
        print(f"median (least-most) of {arguments.rounds} rounds, a commit; wall ms and CPU ms")
        for batch_bytes in (12_000, 48_000):
            for per_commit in (1, 16):
                commits = arguments.commits if per_commit == 1 else max(arguments.commits // 4, 1)
                print(f"\n{batch_bytes // 1000} kB a batch, {per_commit} to a commit, {commits} commits a round")
                measure(stores, scratch, arguments.rounds, commits, [os.urandom(batch_bytes)] * per_commit)
    finally:
        shutil.rmtree(scratch)


def measure(
    stores: dict[str, Callable[[Path], Store]], scratch: Path, rounds: int, commits: int, batches: list[bytes]
) -> None:
    """One line of the table for each store."""
    wall: dict[str, list[float]] = {name: [] for name in stores}
    cpu: dict[str, list[float]] = {name: [] for name in stores}
    for turn in range(rounds):
        names = list(stores)
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            folder = Path(tempfile.mkdtemp(dir=scratch))
            store = stores[name](folder)
            store.commit(batches)
            cpu_before, wall_before = cpu_seconds(), time.perf_counter()
            for _ in range(commits):
                store.commit(batches)
            wall[name].append((time.perf_counter() - wall_before) / commits * 1e3)
            cpu[name].append((cpu_seconds() - cpu_before) / commits * 1e3)
            store.close()
            shutil.rmtree(folder)
            # Else the next one waits for the disk to free what this one wrote.
            os.sync()
    for name in stores:
        print(f"  {name:22} wall {figures(wall[name])}   CPU {figures(cpu[name])}")


def figures(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):6.3f} ({min(values):.3f}-{max(values):.3f})"


if __name__ == "__main__":
    main()
