"""What becomes due by a certain time? Answered without looking at what is due later.

A calendar of buckets: an entry lies in the bucket of its due time, so taking what is due costs what is taken, and one
bucket more. Entries are numbers of rows or groups; whether they still mean anything is the taker's question.
"""

from __future__ import annotations

import numpy as np

from appstatsd.collect.columns import Ints

_BUCKET_US = 5_000_000


class Due:
    """Numbers by the time at which they are due, in microseconds."""

    def __init__(self) -> None:
        self._buckets: dict[int, list[tuple[Ints, Ints]]] = {}

    def add(self, due_us: Ints, numbers: Ints) -> None:
        """Remember that each of `numbers` is due at its place in `due_us`."""
        buckets = due_us // _BUCKET_US
        order = np.argsort(buckets, kind="stable")
        buckets, due_us, numbers = buckets[order], due_us[order], numbers[order]
        edges = np.flatnonzero(np.diff(buckets)) + 1
        for bucket, times, entries in zip(
            buckets[np.concatenate(([0], edges))].tolist() if len(buckets) else (),
            np.split(due_us, edges),
            np.split(numbers, edges),
            strict=False,
        ):
            self._buckets.setdefault(bucket, []).append((times, entries))

    def most_due(self, now_us: int) -> int:
        """How many are due before `now_us` at most, to a bucket."""
        last = now_us // _BUCKET_US
        return sum(len(times) for bucket, entries in self._buckets.items() if bucket <= last for times, _ in entries)

    def take(self, now_us: int) -> Ints:
        """All numbers that were due before `now_us`, which are forgotten here."""
        last = now_us // _BUCKET_US
        taken: list[Ints] = []
        for bucket in sorted(bucket for bucket in self._buckets if bucket <= last):
            for times, entries in self._buckets.pop(bucket):
                late = times < now_us
                taken.append(entries[late])
                if bucket == last and not late.all():
                    self._buckets.setdefault(bucket, []).append((times[~late], entries[~late]))
        return np.concatenate(taken) if taken else np.empty(0, np.int64)
