"""How do byte strings of any length become arrays, as a snapshot wants them, and byte strings again?

One array holds all bytes, one after another; the other says where each string ends.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Packed = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def pack(strings: Sequence[bytes]) -> Packed:
    """All bytes, and the end of each string in them."""
    ends = np.cumsum(np.fromiter(map(len, strings), np.int64, len(strings)), dtype=np.int64)
    return np.frombuffer(b"".join(strings), np.uint8), ends


def unpack(body: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> list[bytes]:
    """The strings that `pack` was given."""
    whole = body.tobytes()
    places = ends.tolist()
    return [whole[begin:end] for begin, end in zip([0, *places], places, strict=False)]
