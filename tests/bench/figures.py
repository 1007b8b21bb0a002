"""What was measured, against what, and is it good enough?

Invariant: a figure keeps every run that it is the median of, and where it says a ratio, the other side was measured in the
same run of the bench, in turn with it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    part: str
    name: str
    unit: str
    runs: list[float]
    references: dict[str, list[float]]
    """By the name of what it is held against, that one's runs, in the same unit."""

    @property
    def value(self) -> float:
        return statistics.median(self.runs)

    def ratio(self, reference: str) -> float:
        return ratio(self.runs, self.references[reference])

    def to_json(self) -> dict[str, Any]:
        return {
            "part": self.part,
            "name": self.name,
            "unit": self.unit,
            "median": self.value,
            "runs": self.runs,
            "against": {
                name: {"median": statistics.median(runs), "runs": runs, "ratio": _finite(self.ratio(name))}
                for name, runs in self.references.items()
            },
        }

    def line(self) -> str:
        against = "  ".join(f"{self.ratio(name):8.3f} x {name}" for name in self.references)
        return f"  {self.name:58} {readable(self.value):>12} {self.unit:13} {against}"


@dataclass(frozen=True)
class Target:
    """What a figure is to reach."""

    part: str
    says: str
    figure: float
    limit: float
    at_most: bool

    @property
    def met(self) -> bool:
        return self.figure <= self.limit if self.at_most else self.figure >= self.limit

    def to_json(self) -> dict[str, Any]:
        return {
            "part": self.part,
            "target": self.says,
            "figure": self.figure,
            "limit": self.limit,
            "bound": "at most" if self.at_most else "at least",
            "met": self.met,
        }

    def line(self) -> str:
        bound = "at most" if self.at_most else "at least"
        verdict = "met" if self.met else "NOT MET"
        return (
            f"  ({self.part}) {self.says:72} {readable(self.figure):>9}  {bound} {readable(self.limit):>6}  {verdict}"
        )


@dataclass
class Results:
    """All figures, all targets, and which parts failed."""

    figures: list[Figure] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, part: str, name: str, unit: str, runs: Sequence[float], **references: Sequence[float]) -> Figure:
        """Keep a figure; an underscore in a reference's name is shown as a space."""
        named = {reference.replace("_", " "): list(its) for reference, its in references.items()}
        figure = Figure(part, name, unit, list(runs), named)
        self.figures.append(figure)
        return figure

    def at_most(self, part: str, says: str, figure: float, limit: float) -> None:
        self.targets.append(Target(part, says, figure, limit, at_most=True))

    def at_least(self, part: str, says: str, figure: float, limit: float) -> None:
        self.targets.append(Target(part, says, figure, limit, at_most=False))

    def to_json(self, about: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "about": dict(about),
            "figures": [figure.to_json() for figure in self.figures],
            "targets": [target.to_json() for target in self.targets],
            "failed": self.failed,
            "seconds": self.seconds,
        }

    def lines(self, part: str) -> Iterator[str]:
        """The table's lines of one part."""
        yield from (figure.line() for figure in self.figures if figure.part == part)

    def verdicts(self) -> Iterator[str]:
        """A line for each target."""
        yield from (target.line() for target in self.targets)


def ratio(mine: Sequence[float], its: Sequence[float]) -> float:
    """The median of the ratios run by run, since what slowed the machine for a while slowed both; to nothing: infinite."""
    if len(mine) != len(its):
        mine, its = [statistics.median(mine)], [statistics.median(its)]
    return statistics.median(one / other if other else math.inf for one, other in zip(mine, its, strict=True))


def _finite(value: float) -> float | None:
    """JSON knows no infinity."""
    return value if math.isfinite(value) else None


def readable(value: float) -> str:
    """With as many digits as say something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
