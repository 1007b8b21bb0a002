"""What becomes of two rows of one key: the upsert's rule, for rows that wait instead of standing in the table.

Invariant: `merged(older, newer)` followed by an upsert leaves the table as upserts of `older` and then of `newer` would
in an otherwise empty table. `store/sql/upsert.sql` says the same in SQL; one test drives both.
"""

from __future__ import annotations

import numpy as np

from appstatsd.collect.rows import Cells


def merged(older: Cells, newer: Cells, max_clock_skew_us: int) -> Cells:
    """Pair by pair, the row that `newer` makes of `older`, which was made to be written before it.

    The newer row's end, end source and `made_us` count, unless `older` was made later, yet not more than the clock skew
    later. Counts never fall; id and start stay as they were first. Both arrays are of dtype `CELLS`, of one length, and
    hold one key at each place; neither is changed. The skew is in microseconds.
    """
    ahead_us = older["made_us"] - newer["made_us"]
    follows = (ahead_us <= 0) | (ahead_us > max_clock_skew_us)
    result = older.copy()
    for name in ("ended_us", "end_source", "made_us"):
        result[name] = np.where(follows, newer[name], older[name])
    for name in ("requests", "sessions"):
        result[name] = np.maximum(older[name], newer[name])
    return result
