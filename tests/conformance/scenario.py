"""What may a scenario say? The form of `scenarios/*.toml`.

A file holds:

- `title`: what happens, as the table shows it.
- `daemon`: flags of the daemon beside those that all scenarios have (the test clock, so that rows are written when the
  scenario ends; durability in memory unless the flags say otherwise).
- `limits`: limits of the clients, over `QUICK`; `defaults = true` takes a client's own instead.
- `away = true`: the daemon does not run at first.
- `front = true`: the clients reach the daemon through `front.py`, which refuses, holds and delays as the steps say.
- `tls = true`: over TCP with mutual TLS instead of a unix socket.
- `together = true`: the languages run it at the same time, since most of it is waiting.
- `steps`: tables, each with `do` and what it needs; the methods of `world.World` are the list of them.
- `rows`: what the table holds in the end, and nothing else: for each `slug` (default `code`; `*` is all that no other
  entry names), `method` (`path`) and `end` (`reported`) how many `sessions` and `requests` its rows add up to. Optional:
  the number of `rows`, and how long each of them lasts (`least_seconds`, `most_seconds`).

Invariant: a scenario says nothing about a language; it is the same for all of them.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

SCENARIOS: Final = Path(__file__).parent / "scenarios"
LANGUAGES: Final = Path(__file__).parent / "languages.toml"
ROOT: Final = Path(__file__).parents[2]

QUICK: Final[dict[str, float]] = {
    "linger_seconds": 0.01,
    "backoff_base_seconds": 0.02,
    "backoff_max_seconds": 0.2,
    "channel_backoff_max_seconds": 0.1,
    "retry_slowest_seconds": 0.5,
    "refused_retry_seconds": 0.3,
}
"""Limits that make a scenario short. What they bound is the same behavior."""


@dataclass(frozen=True)
class Total:
    """What the rows of one app, access method and kind of end add up to."""

    sessions: int
    requests: int
    slug: str = "code"
    method: str = "path"
    end: str = "reported"
    rows: int | None = None
    least_seconds: float | None = None
    most_seconds: float | None = None


@dataclass(frozen=True)
class Scenario:
    """One file."""

    name: str
    title: str
    steps: list[dict[str, Any]]
    rows: list[Total]
    daemon: list[str] = field(default_factory=list)
    limits: dict[str, float] = field(default_factory=dict)
    defaults: bool = False
    away: bool = False
    front: bool = False
    tls: bool = False
    together: bool = False

    @property
    def client_limits(self) -> dict[str, float]:
        return self.limits if self.defaults else QUICK | self.limits


@dataclass(frozen=True)
class Language:
    """One entry of `languages.toml`."""

    name: str
    folder: str
    needs: list[str]
    build: list[list[str]]
    command: list[str]
    bench_build: list[list[str]] = field(default_factory=list)
    bench_command: list[str] = field(default_factory=list)

    def as_timed(self) -> Language:
        """The same, built as it is used where it is not tested."""
        return replace(self, build=self.bench_build or self.build, command=self.bench_command or self.command)


def scenarios() -> list[Scenario]:
    """All of them, in the order of the files' names."""
    found = []
    for path in sorted(SCENARIOS.glob("*.toml")):
        content = tomllib.loads(path.read_text())
        rows = [Total(**total) for total in content.pop("rows")]
        name = path.stem.partition("-")[2].replace("-", "_")
        found.append(Scenario(name=name, rows=rows, **content))
    return found


def languages() -> list[Language]:
    """All of them, whether this machine has what they need or not."""
    return [Language(**entry) for entry in tomllib.loads(LANGUAGES.read_text())["language"]]
