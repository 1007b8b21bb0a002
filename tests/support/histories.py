"""What may happen to a collector? Events that mean something under the rules in force, for Hypothesis to choose from.

Few users, apps and sessions, so that they meet; times on the edges that the rules speak of, and one microsecond to
either side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from appstatsd.collect.batch import ReportedApp
from appstatsd.collect.rows import MAX_REQUESTS
from appstatsd.collect.rules import Rules
from hypothesis import strategies as st

from tests.support.reports import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    SUBDOMAIN,
    T0,
    TERMINAL,
    Report,
    app,
    later,
    report,
    session,
)

FIRST_START: Final = 1_577_836_800_000_000
"""2020-01-01T00:00:00Z, before which nothing starts."""

APPS = (
    app(1),
    app(1, slug="8080"),
    app(1, method=SUBDOMAIN),
    app(1, method=TERMINAL, slug=""),
    app(2),
    replace(app(1), workspace_id=app(2).workspace_id),
)
NOT_APPS = (
    replace(app(1), user_id=bytes(16)),
    replace(app(1), workspace_id=b"short"),
    replace(app(1), agent_id=app(1).agent_id + b"x"),
    app(1, method=0),
    app(1, method=4),
    app(1, slug=""),
    app(1, slug="nul\0"),
    app(1, method=TERMINAL, slug="x" * 257),
    app(0, method=0, slug=""),
)


@dataclass(frozen=True)
class Span:
    """A length of time that means something under the rules in force: so many of one setting, and a little."""

    setting: str
    times: int = 1
    more: int = 0

    def us(self, rules: Rules) -> int:
        """In microseconds."""
        unit = {
            "": 0,
            "second": SECOND,
            "window": rules.window_us,
            "grace": rules.client_grace_us,
            "remembered": rules.client_grace_us + 2 * rules.window_us,
            "retention": rules.client_retention_us,
            "timeout": rules.session_timeout_us,
            "log timeout": rules.log_timeout_us,
            "age": rules.max_session_age_us,
            "skew": rules.max_clock_skew_us,
        }[self.setting]
        return self.times * unit + self.more


NONE = Span("")
JITTER = (0, 1, -1)
NEARBY = [Span(unit, times) for unit in ("", "second", "window") for times in range(3)]
EDGES = [Span(edge, 1, more) for edge in ("window", "grace", "remembered") for more in JITTER]
AFAR = [Span(edge, 1, more) for edge in ("timeout", "log timeout", "age", "retention") for more in JITTER]
# Weights are given by repetition: a union of strategies would drop what it has already.
NEAR = st.sampled_from(NEARBY)
SPAN = st.sampled_from([*NEARBY * 3, *EDGES * 3, *AFAR])
EDGE = st.sampled_from([*EDGES, *AFAR])
SKEW = st.sampled_from([Span("skew", 1, more) for more in JITTER])


@dataclass(frozen=True)
class Start:
    """When a session began: so long before the clock, or at the edge of the window then, and a little."""

    before: Span
    on_edge: bool = False
    more: int = 0


@dataclass(frozen=True)
class End:
    """When it ended, and in which direction and from where that is meant."""

    since: Literal["start", "clock"]
    span: Span
    sign: int = 1


@dataclass(frozen=True)
class Said:
    """One report before it is known what the clock says and which sessions there are."""

    number: int
    of: int
    """Place in `APPS`. If this session was reported before, app and start are what they were, but where `of` is
    negative."""
    start: Start
    end: End | None
    """None while it is live."""
    requests: int
    more_ns: tuple[int, int]
    """Nanoseconds added to start and end."""
    instead: Report | None = None
    """A broken report that is sent instead."""


STARTS = (
    *(Start(NONE, True) for _ in range(9)),  # so that there are groups of more than one
    *(Start(Span("window", times), True, more) for times in range(2) for more in JITTER),
    *(Start(Span(unit, times)) for unit in ("second", "window") for times in range(3)),
    *(Start(Span("age", 1, more)) for more in JITTER),
    *(Start(Span("skew", -1, more)) for more in JITTER),
    Start(Span("remembered")),
    Start(Span("second", -1)),
    Start(Span("window", -1)),
)
ENDS = (
    *(End("start", Span("second", times)) for times in range(3) for _ in range(3)),
    *(End("clock", Span(unit, times), -1) for unit in ("", "second") for times in range(1, 3) for _ in range(2)),
    *(End("start", Span("window", 1, more)) for more in JITTER for _ in range(2)),
    *(End("start", Span("window", times)) for times in (2, 3)),
    *(End("start", Span("age", 1, more)) for more in JITTER),
    *(End("clock", Span("skew", 1, more)) for more in JITTER),
    End("start", Span("", 0, -1)),
)
COUNTS = (0, 1, 1, 2, 3, 10, MAX_REQUESTS - 1, MAX_REQUESTS, MAX_REQUESTS + 1, 2**32 - 1)
BROKEN = (
    *(Report(one, session(1), T0 * 1000, 0, 1) for one in NOT_APPS),
    *(Report(app(1), flawed, T0 * 1000, 0, 1) for flawed in (bytes(16), b"", b"x" * 15, b"x" * 17)),
    *(Report(one, bytes(16), T0 * 1000, 0, 1) for one in NOT_APPS),
    *(report(number, start=0) for number in range(3)),
    *(report(number, start=0, end=T0) for number in range(3)),
    *(Report(app(1), session(number), T0 * 1000, ended, 1) for number in range(3) for ended in (1, 999, 2**64 - 1)),
    report(2, start=FIRST_START - 1, end=FIRST_START),
    report(3, start=FIRST_START, end=FIRST_START),
)
SAID = st.builds(
    Said,
    number=st.integers(0, 11),
    of=st.sampled_from([*[0] * 9, *range(len(APPS)), -1]),
    start=st.sampled_from(STARTS),
    end=st.sampled_from([*[None] * (len(ENDS) // 2), *ENDS]),
    requests=st.sampled_from(COUNTS),
    more_ns=st.sampled_from([(0, 0)] * 5 + [(999, 0), (0, 400), (600, 599)]),
    instead=st.sampled_from([*[None] * (12 * len(BROKEN)), *BROKEN]),
)
CLIENTS = ("left", "middle", "als/right")
ClientBatch = tuple[str, Span, list[Said]]
"""Who sends, how long nothing comes after it, and what."""
BATCHES: st.SearchStrategy[list[ClientBatch]] = st.lists(
    st.tuples(st.sampled_from(CLIENTS), NEAR, st.lists(SAID, min_size=1, max_size=8)),
    min_size=1,
    max_size=3,
)
RULES = st.builds(
    Rules,
    window_us=st.sampled_from([MINUTE, MINUTE, 10 * SECOND]),
    client_grace_us=st.sampled_from([2 * MINUTE, 30 * SECOND]),
    client_retention_us=st.sampled_from([DAY, 5 * MINUTE]),
    session_timeout_us=st.sampled_from([0, 0, 45 * SECOND, 3 * MINUTE]),
    log_timeout_us=st.sampled_from([0, 45 * SECOND, 3 * MINUTE]),
    max_session_age_us=st.sampled_from([31 * DAY, HOUR, 5 * MINUTE]),
    max_clock_skew_us=st.sampled_from([10 * MINUTE, 20 * SECOND]),
)


@dataclass(frozen=True)
class Step:
    """Somebody sets the clock on the wall."""

    span: Span
    sign: int


@dataclass(frozen=True)
class Flush:
    """A flush that sees a clock of its own."""

    ahead: Span


@dataclass(frozen=True)
class Hold:
    """Streams are refused for lack of room, or taken again."""

    holds: bool


@dataclass(frozen=True)
class Restart:
    """The daemon was down; nobody is there, and the monotonic clock may have begun anew."""

    down_for: Span
    rules: Rules | None
    rebooted: bool


@dataclass(frozen=True)
class Snapshot:
    """The collector is saved and loaded."""


@dataclass(frozen=True)
class Forget:
    """Somebody asks to erase the user of this app."""

    of: ReportedApp


Oddity = Step | Flush | Hold | Restart | Snapshot | Forget
ODDITIES: st.SearchStrategy[Oddity] = st.one_of(
    st.builds(Step, NEAR | SKEW, st.sampled_from([1, -1])),
    st.builds(Flush, NEAR | SKEW),
    st.builds(Hold, st.booleans()),
    st.builds(Restart, SPAN, st.none() | RULES, st.booleans()),
    st.just(Snapshot()),
    st.builds(Forget, st.sampled_from([APPS[0], APPS[4]])),
)


class World:
    """Two clocks, and what each session was reported as, so that most reports make sense."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.wall = T0 + 30 * SECOND
        self.mono = 5_000 * SECOND
        self.known: dict[int, tuple[ReportedApp, int]] = {}

    def tick(self, span: Span) -> None:
        """Time passes."""
        passed = max(0, span.us(self.rules))
        self.wall += passed
        self.mono += passed

    def restart(self, down_for: Span, rules: Rules | None, rebooted: bool) -> None:
        """Time passes, and the rules and the monotonic clock may be others."""
        self.tick(down_for)
        if rebooted:
            self.mono = 10 * SECOND
        self.rules = rules or self.rules

    def reports(self, batch: list[Said]) -> list[Report]:
        """What the client says now. Most reports of one session agree on what it is."""
        known = {number: what for number, what in self.known.items() if self.wall - what[1] < 10 * MINUTE}
        return [said.instead or self._report(said, known) for said in batch]

    def learn(self, reports: list[Report], rejected: Iterable[int]) -> None:
        """All reports but these have been accepted."""
        for place in set(range(len(reports))).difference(rejected):
            number = int.from_bytes(reports[place].session_id[1:], "big")
            self.known[number] = reports[place].app, reports[place].started_ns // 1000

    def _report(self, said: Said, known: dict[int, tuple[ReportedApp, int]]) -> Report:
        what, start = APPS[said.of], self._start(said.start)
        if said.of >= 0:
            what, start = known.setdefault(said.number, (what, start))
        end = None if said.end is None else self._end(said.end, start)
        start_ns, end_ns = said.more_ns
        return later(report(said.number, start, end, said.requests, what), start_ns, 0 if end is None else end_ns)

    def _start(self, start: Start) -> int:
        when = self.wall - start.before.us(self.rules)
        if start.on_edge:
            when -= when % self.rules.window_us
        return when + start.more

    def _end(self, end: End, start: int) -> int:
        since = start if end.since == "start" else self.wall
        return since + end.sign * end.span.us(self.rules)
