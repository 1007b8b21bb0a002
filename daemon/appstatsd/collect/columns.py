"""How does a table of arrays grow, and how does a row that is free again find its next use?

Invariant: every array of a table has the same capacity, rows below `used` have been given out at least once, and the
rows in `free` are exactly those of them that nobody holds. Rows are given out in an order that depends on nothing but
the order of the calls, so that a recovery gives out the same.

A large column is a mapping of its own: the room that it has to spare takes no memory before it is used, and what it left
when it grew is the system's again. With malloc half of both stayed with the process.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final, TypeVar

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_FIRST_CAPACITY: Final = 1024
_MAPPED_BYTES: Final = 1 << 20
"""From this size on a column is a mapping of its own."""
_HUGE_BYTES: Final = 4 << 20
"""From this size on it asks for huge pages, as numpy does for its own arrays: rows are looked up all over it."""
_Number = TypeVar("_Number", np.int32, np.int64)


class Columns:
    """A table whose columns are numpy arrays; a subclass names them in `DTYPES` and annotates them."""

    DTYPES: ClassVar[Mapping[str, str]]

    def __init__(self) -> None:
        self.used = 0
        self._capacity = _FIRST_CAPACITY
        self._free: Ints = np.empty(_FIRST_CAPACITY, np.int64)
        self._free_count = 0
        for name, dtype in self.DTYPES.items():
            setattr(self, name, np.zeros(self._capacity, dtype))

    @property
    def held(self) -> int:
        """How many rows are in use."""
        return self.used - self._free_count

    @property
    def row_bytes(self) -> int:
        """What one row takes in all columns."""
        return sum(np.dtype(dtype).itemsize for dtype in self.DTYPES.values())

    def allot(self, count: int) -> Ints:
        """`count` rows to use: free ones first, the last freed first of all, then ones never used.

        A reused row still holds its old values.
        """
        recycled = min(count, self._free_count)
        rows = np.empty(count, np.int64)
        self._free_count -= recycled
        rows[:recycled] = self._free[self._free_count : self._free_count + recycled][::-1]
        fresh = count - recycled
        if fresh:
            if self.used + fresh > self._capacity:
                self._grow(self.used + fresh)
            rows[recycled:] = np.arange(self.used, self.used + fresh)
            self.used += fresh
        return rows

    def give_back(self, rows: Ints) -> None:
        """Rows that nobody holds any more; each was given out by `allot` and is given back once."""
        end = self._free_count + len(rows)
        if end > len(self._free):
            self._free = enlarged(self._free, end + end // 2)
        self._free[self._free_count : end] = rows
        self._free_count = end

    def _grow(self, needed: int) -> None:
        self._capacity = max(needed, self._capacity + self._capacity // 2)
        for name, dtype in self.DTYPES.items():
            memory = _mapping_of(getattr(self, name))
            if memory is not None:
                # Its pages are moved and not copied, so that nobody waits for it. That takes an array of which there is no
                # view, so this one must be gone.
                delattr(self, name)
                with suppress(BufferError):
                    memory.resize(self._capacity * np.dtype(dtype).itemsize)
                setattr(self, name, np.frombuffer(memory, dtype))
            if len(getattr(self, name)) < self._capacity:
                setattr(self, name, enlarged(getattr(self, name), self._capacity))

    def to_arrays(self, prefix: str, rows: Ints) -> dict[str, npt.NDArray[Any]]:
        """Copies of these rows, for a snapshot, where they get new numbers: their places. Keys begin with `prefix`."""
        return {f"{prefix}.{name}": getattr(self, name)[rows] for name in self.DTYPES}

    def from_arrays(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `to_arrays` gave; the table must be new."""
        for name, dtype in self.DTYPES.items():
            column = arrays[f"{prefix}.{name}"].astype(dtype, copy=False)
            self.used = len(column)
            self._capacity = max(self.used, _FIRST_CAPACITY)
            setattr(self, name, enlarged(column, self._capacity))


def distinct(numbers: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
    """Each of these numbers once, rising: what `np.unique` does by way of a hash table, at ten to fifty times the cost."""
    ordered = np.sort(numbers)
    first = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


def tally(column: npt.NDArray[_Number], rows: npt.NDArray[np.integer[Any]], by: int = 1) -> None:
    """Add `by` to the column at each of these rows; where a row stands twice, twice."""
    # Of the column's own type: with any other `add.at` takes its slow way, which costs fifty times as much.
    np.add.at(column, rows, column.dtype.type(by))


def enlarged(column: npt.NDArray[Any], capacity: int) -> npt.NDArray[Any]:
    """A copy with room for so many, zeros at its end."""
    larger = _zeros(capacity, column.dtype)
    larger[: len(column)] = column
    return larger


def _mapping_of(column: npt.NDArray[Any]) -> mmap.mmap | None:
    base = column.base
    return base.obj if isinstance(base, memoryview) and isinstance(base.obj, mmap.mmap) else None


def _zeros(count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    size = count * dtype.itemsize
    if size < _MAPPED_BYTES:
        return np.zeros(count, dtype)
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE_BYTES:
        with suppress(OSError):  # a kernel may be without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype)
