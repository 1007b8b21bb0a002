"""In which order does a flush look at sessions?"""

from __future__ import annotations

import numpy as np
from appstatsd.collect import rollup
from hypothesis import given
from hypothesis import strategies as st


@given(st.data(), st.lists(st.integers(1, 40), min_size=1, max_size=30, unique=True), st.booleans())
def test_each_session_once_in_the_order_of_acceptance_however_old_some_are(
    data: st.DataObject, accepted: list[int], one_is_ancient: bool
) -> None:
    order = np.array(accepted, np.int64)  # by row
    if one_is_ancient:
        order[order != order.min()] += 1 << 50
    rows = data.draw(st.lists(st.integers(0, len(accepted) - 1), max_size=60))
    expected = sorted(set(rows), key=lambda row: int(order[row]))
    assert rollup._in_order(order, np.array(rows, np.int64)).tolist() == expected
