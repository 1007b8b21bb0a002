"""How is loaded what stays for as long as the process does?

Without looking for garbage in it, neither meanwhile nor ever after: that was an eighth of the daemon's start, and 30 ms of
each full collection, in which nothing else happens. Invariant: the collector runs again afterwards if it ran before. For
starts alone: of what is alive later, and kept for good, some may become garbage.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_for_good() -> Iterator[None]:
    """What is alive at the end, modules above all, is never again looked through for garbage."""
    if not gc.isenabled():  # somebody further out sees to it
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
