"""How much is measured? Enough for steady medians in under ten minutes, less while something is being worked on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Amounts; counts of reports, sessions and rows, and seconds."""

    runs: int
    reports: dict[int, int]
    """By reports a batch, how many are sent for one figure."""
    streams: tuple[int, ...]
    job_reports: int
    """Reports of the whole job, from the first byte to the committed row."""
    proxy_seconds: float
    """How long sessions begin at a busy proxy."""
    rows: int
    """Rows of one flush that goes to the database."""
    held: tuple[int, ...]
    """Sessions held by a collector that flushes."""
    resident: int
    """Live sessions of which the memory is taken."""
    pace_seconds: float
    """How long a given pace is kept."""
    flushed_while_paced: int
    """Rows of the flush during which acknowledgements are timed."""
    recovered: int
    """Sessions to come back to after a kill."""
    idle_seconds: float


FULL = Sizes(
    runs=5,
    reports={1_000: 512_000, 100: 160_000, 10: 40_000, 1: 6_000},
    streams=(1, 8, 64),
    job_reports=256_000,
    proxy_seconds=2.0,
    rows=50_000,
    held=(1_000, 10_000, 100_000, 1_000_000),
    resident=1_000_000,
    pace_seconds=1.0,
    flushed_while_paced=100_000,
    recovered=1_000_000,
    idle_seconds=30,
)

QUICK = Sizes(
    runs=3,
    reports={1_000: 128_000, 100: 40_000, 10: 10_000, 1: 2_000},
    streams=(8,),
    job_reports=64_000,
    proxy_seconds=1.0,
    rows=10_000,
    held=(1_000, 100_000),
    resident=100_000,
    pace_seconds=0.5,
    flushed_while_paced=10_000,
    recovered=100_000,
    idle_seconds=5,
)

TINY = Sizes(
    runs=1,
    reports={1_000: 8_000, 100: 800, 10: 80, 1: 16},
    streams=(8,),
    job_reports=8_000,
    proxy_seconds=0.2,
    rows=800,
    held=(1_000,),
    resident=8_000,
    pace_seconds=0.2,
    flushed_while_paced=800,
    recovered=8_000,
    idle_seconds=0.2,
)
"""Whether it works at all; the figures mean nothing."""
