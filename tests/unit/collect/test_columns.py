"""A table grows without losing what is in it, and takes the memory of what it holds."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from appstatsd.collect import columns
from appstatsd.collect.columns import enlarged
from appstatsd.collect.sessions import Sessions

MEASURED = """
import threading
from appstatsd.collect.columns import Columns
from appstatsd.collect.sessions import Sessions

class Table(Columns):
    DTYPES = Sessions.DTYPES

def resident():
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024

def fill():  # in a thread, as in the daemon: malloc is another there
    for _ in range(0, 312_000, 8_000):
        rows = table.allot(8_000)
        for name in table.DTYPES:
            getattr(table, name).view("u1").reshape(table._capacity, -1)[rows] = 1

table = Table()
before = resident()
thread = threading.Thread(target=fill)
thread.start()
thread.join()
print((resident() - before) / table.held / table.row_bytes)
"""


@pytest.mark.parametrize("dtype", sorted(set(Sessions.DTYPES.values())))
@pytest.mark.parametrize("size", [columns._MAPPED_BYTES - 16, columns._MAPPED_BYTES, columns._HUGE_BYTES])
def test_a_column_that_grows_keeps_what_it_holds_and_has_zeros_to_spare(dtype: str, size: int) -> None:
    capacity = size // np.dtype(dtype).itemsize
    column = np.frombuffer(b"\1" * (capacity // 3 * np.dtype(dtype).itemsize), dtype)
    larger = enlarged(column, capacity)
    assert len(larger) == capacity
    assert np.array_equal(larger[: len(column)], column)
    assert not any(larger[len(column) :].tobytes())
    larger[:] = larger[0]  # and can be written to


def test_what_a_table_has_to_spare_and_what_it_left_when_it_grew_take_no_memory() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.3


@pytest.mark.parametrize("somebody_has_a_view", [False, True])
def test_a_large_table_grows_without_a_copy_unless_somebody_has_a_view_of_it(somebody_has_a_view: bool) -> None:
    table = Sessions()
    table.allot(columns._MAPPED_BYTES // 8)
    table.order[:] = np.arange(len(table.order))
    before, view = table.order.tolist(), table.order[:10] if somebody_has_a_view else None
    mapping = columns._mapping_of(table.order)
    assert mapping is not None
    table.allot(2 * len(before))
    assert table.order[: len(before)].tolist() == before
    assert len(table.order) == table._capacity > 2 * len(before)
    assert not table.order[len(before) :].any()
    assert (columns._mapping_of(table.order) is mapping) is not somebody_has_a_view
    table.order[:] = 7
    assert view is None or view.tolist() == before[:10]
