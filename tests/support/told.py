"""How does a test tell a collector a history, and the rows that should come of it?

Times are seconds after `T0`, the edge of a window; windows are 60 s, graces 120 s.
"""

from __future__ import annotations

from appstatsd.collect.batch import Reason
from appstatsd.collect.collector import Collector
from appstatsd.collect.rows import EndSource
from appstatsd.collect.rules import Rules

from tests.support.model import Model
from tests.support.reports import SECOND, T0, Report, Row, arrival, plain, report, row, verdicts

LIVE, REPORTED, INFERRED = EndSource.LIVE, EndSource.REPORTED, EndSource.INFERRED
WINDOW = 60 * SECOND


def at(seconds: float) -> int:
    """Microseconds since the Unix epoch."""
    return T0 + round(seconds * SECOND)


class Told:
    """A collector under one clock, which both the wall and the monotonic clock follow.

    The model is told the same, and must answer the same: so what is written here by hand holds for both.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.collector = Collector(self.rules)
        self.model = Model(self.rules)
        self.came(0)

    def hear(self, when: float, *reports: Report, client: str = "proxy") -> list[tuple[int, Reason]]:
        """What is rejected of these reports."""
        said = [arrival(client, reports, at(when), self.mono(when))]
        [answer] = self.collector.accept(said)
        assert self.model.accept(said) == [verdicts(answer)]
        return verdicts(answer)

    def flush(self, when: float, mono: int | None = None) -> list[Row]:
        """The rows, by session_id."""
        mono = self.mono(when) if mono is None else mono
        rows = plain(self.collector.flush(at(when), mono).rows)
        assert self.model.flush(at(when), mono).rows == rows
        return sorted(rows.values(), key=lambda one: (one.session_id, one.user_id))

    def came(self, when: float, client: str = "proxy") -> None:
        self.collector.came(client, at(when), self.mono(when))
        self.model.came(client, at(when), self.mono(when))

    def went(self, when: float, client: str = "proxy") -> None:
        self.collector.went(client, at(when), self.mono(when))
        self.model.went(client, at(when), self.mono(when))

    def close(self, when: float, client: str = "proxy") -> None:
        self.collector.close_client(client, at(when), self.mono(when))
        self.model.close_client(client, at(when), self.mono(when))

    def restart(self, when: float, last: float, rules: Rules | None = None) -> None:
        self.rules = rules or self.rules
        self.collector.restart(self.rules, at(when), self.mono(when), at(last))
        self.model.restart(self.rules, at(when), self.mono(when), at(last))

    def hold(self, when: float) -> None:
        self.collector.hold_graces(self.mono(when))
        self.model.hold_graces(self.mono(when))

    def release(self, when: float) -> None:
        self.collector.release_graces(self.mono(when))
        self.model.release_graces(self.mono(when))

    @staticmethod
    def mono(when: float) -> int:
        return at(when) - T0 + 77_000 * SECOND


def lasting(start: float, seconds: float, number: int = 1, requests: int = 1) -> Report:
    return report(number, at(start), at(start + seconds), requests)


def live(start: float, number: int = 1, requests: int = 1) -> Report:
    return report(number, at(start), None, requests)


def rolled(number: int, window: int, made: float, requests: int = 1, sessions: int = 1) -> Row:
    """The rolled-up row of a window, counted from `T0`."""
    start = at(60 * window)
    return row(number, start, start + WINDOW, at(made), requests, sessions)


def own(number: int, start: float, end: float, made: float, source: EndSource = REPORTED, requests: int = 1) -> Row:
    return row(number, at(start), at(end), at(made), requests, 1, source)
