"""Does the collector do what SPEC section 2 says, whatever comes in whatever order?

Two machines throw events at it. One holds it against the slow model of `tests.support.model`, after every event; the
other counts what was accepted and holds the table against that, with no model at all.

`HYPOTHESIS_PROFILE=thorough` runs for as long as a coffee takes, with new events each time; otherwise the same events
come every time, so that a red test is the doing of whoever changed something.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from appstatsd.collect.batch import ReportedApp
from appstatsd.collect.collector import Collector
from appstatsd.collect.rows import MAX_REQUESTS, Rows
from appstatsd.collect.rules import Rules
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.model import Model
from tests.support.reports import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    SUBDOMAIN,
    T0,
    TERMINAL,
    Report,
    Table,
    app,
    arrival,
    later,
    plain,
    report,
    session,
    upsert,
    verdicts,
)

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
EFFORT = settings(
    max_examples=5_000 if THOROUGH else 400,
    stateful_step_count=80 if THOROUGH else 50,
    derandomize=not THOROUGH,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)

CLIENTS = ("left", "middle", "right")
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
            "age": rules.max_session_age_us,
            "skew": rules.max_clock_skew_us,
        }[self.setting]
        return self.times * unit + self.more


NONE = Span("")
JITTER = st.sampled_from([0, 0, 0, 1, -1])
NEAR = st.builds(Span, st.sampled_from(["", "second", "window"]), st.integers(0, 3), JITTER)
FAR = st.builds(
    Span, st.sampled_from(["window", "grace", "remembered", "retention", "timeout", "age", "skew"]), st.just(1), JITTER
)


@dataclass(frozen=True)
class Said:
    """One report before it is known what the clock says and which sessions there are."""

    number: int
    of: int
    """Place in `APPS`."""
    as_before: bool
    """If this session was reported before, app and start are what they were."""
    age: Span
    on_edge: bool
    """The start is moved back to the edge of its window; then `off_edge` is added."""
    off_edge: int
    end: tuple[str, Span] | None
    """After the start, before the clock or after it; None while it is live."""
    requests: int
    more_ns: tuple[int, int]
    """Nanoseconds added to start and end."""


SAID = st.builds(
    Said,
    number=st.integers(0, 7),
    of=st.integers(0, len(APPS) - 1),
    as_before=st.sampled_from([True] * 9 + [False]),
    age=st.one_of(NEAR, NEAR, NEAR, FAR, st.builds(Span, st.just("skew"), st.just(-1), JITTER)),
    on_edge=st.booleans(),
    off_edge=JITTER,
    end=st.one_of(
        st.none(),
        st.none(),
        st.tuples(st.just("after the start"), NEAR),
        st.tuples(st.sampled_from(["after the start", "before the clock", "after the clock"]), st.one_of(NEAR, FAR)),
    ),
    requests=st.sampled_from([0, 1, 1, 2, 3, 10, MAX_REQUESTS - 1, MAX_REQUESTS, MAX_REQUESTS + 1, 2**32 - 1]),
    more_ns=st.sampled_from([(0, 0)] * 5 + [(999, 0), (0, 400), (600, 599)]),
)
BROKEN = st.sampled_from(
    [
        *(Report(one, session(1), T0 * 1000, 0, 1) for one in NOT_APPS),
        *(Report(app(1), flawed, T0 * 1000, 0, 1) for flawed in (bytes(16), b"", b"x" * 15, b"x" * 17)),
        *(report(number, start=0) for number in range(3)),
        *(report(number, start=0, end=T0) for number in range(3)),
        *(Report(app(1), session(number), T0 * 1000, ended, 1) for number in range(3) for ended in (1, 999, 2**64 - 1)),
        report(2, start=1_577_836_800_000_000 - 1, end=1_577_836_800_000_000),
        report(3, start=1_577_836_800_000_000, end=1_577_836_800_000_000),
    ]
)
BATCH = st.lists(st.one_of([SAID] * 9 + [BROKEN]), min_size=1, max_size=5)
RULES = st.builds(
    Rules,
    window_us=st.sampled_from([MINUTE, MINUTE, 10 * SECOND]),
    client_grace_us=st.sampled_from([2 * MINUTE, 30 * SECOND]),
    client_retention_us=st.sampled_from([DAY, 5 * MINUTE]),
    session_timeout_us=st.sampled_from([0, 0, 45 * SECOND, 3 * MINUTE]),
    max_session_age_us=st.sampled_from([31 * DAY, HOUR, 5 * MINUTE]),
    max_clock_skew_us=st.sampled_from([10 * MINUTE, 20 * SECOND]),
)


class World:
    """Two clocks, and what each session was reported as, so that most reports make sense."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.wall = T0 + 30 * SECOND
        self.mono = 5_000 * SECOND
        self.known: dict[int, tuple[ReportedApp, int]] = {}

    def report(self, said: Said | Report) -> Report:
        """What the client says now."""
        if isinstance(said, Report):
            return said
        start = self.wall - said.age.us(self.rules)
        if said.on_edge:
            start = start // self.rules.window_us * self.rules.window_us + said.off_edge
        what = APPS[said.of]
        if said.as_before:
            what, start = self.known.setdefault(said.number, (what, start))
        end = None
        if said.end is not None:
            side, span = said.end
            length = span.us(self.rules)
            end = {
                "after the start": start + length,
                "before the clock": self.wall - length,
                "after the clock": self.wall + length,
            }[side]
        start_ns, end_ns = said.more_ns
        return later(report(said.number, start, end, said.requests, what), start_ns, end_ns if end is not None else 0)


class AgainstModel(RuleBasedStateMachine):
    """The collector and the model see the same events and clocks, and agree after each."""

    @initialize(rules=RULES)
    def start(self, rules: Rules) -> None:
        self.world = World(rules)
        self.collector = Collector(rules)
        self.model = Model(rules)
        self.table: Table = {}
        self.expected_table: Table = {}
        self.given: list[tuple[Rows, Table]] = []
        self.come(CLIENTS[0])

    @property
    def connected(self) -> list[str]:
        return [name for name in CLIENTS if name in self.model.clients and self.model.clients[name].connected]

    @rule(client=st.sampled_from(CLIENTS))
    def come(self, client: str) -> None:
        self.collector.came(client, self.world.wall, self.world.mono)
        self.model.came(client, self.world.wall, self.world.mono)

    @precondition(lambda self: self.connected)
    @rule(place=st.integers(0, 2))
    def go(self, place: int) -> None:
        client = self.connected[place % len(self.connected)]
        self.collector.went(client, self.world.wall, self.world.mono)
        self.model.went(client, self.world.wall, self.world.mono)

    @precondition(lambda self: self.connected)
    @rule(
        batches=st.lists(st.tuples(st.integers(0, 2), NEAR, BATCH), min_size=1, max_size=3),
        together=st.booleans(),
    )
    def report(self, batches: Sequence[tuple[int, Span, Sequence[Said | Report]]], together: bool) -> None:
        arrivals = []
        for place, pause, said in batches:
            client = self.connected[place % len(self.connected)]
            if len(batches) > 1:
                self.tick(pause)
            reports = [self.world.report(one) for one in said]
            arrivals.append(arrival(client, reports, self.world.wall, self.world.mono))
        expected = self.model.accept(arrivals)
        if together:
            got = self.collector.accept(arrivals)
        else:
            got = [answer for one in arrivals for answer in self.collector.accept([one])]
        assert [verdicts(answer) for answer in got] == expected

    @precondition(lambda self: self.connected)
    @rule(place=st.integers(0, 2), goes=st.booleans())
    def close(self, place: int, goes: bool) -> None:
        client = self.connected[place % len(self.connected)]
        self.collector.close_client(client, self.world.wall, self.world.mono)
        self.model.close_client(client, self.world.wall, self.world.mono)
        if goes:
            self.go(place)

    @rule(span=st.one_of(NEAR, NEAR, FAR))
    def tick(self, span: Span) -> None:
        """Time passes."""
        passed = max(0, span.us(self.world.rules))
        self.world.wall += passed
        self.world.mono += passed

    @rule(span=st.one_of(NEAR, FAR.filter(lambda span: span.setting == "skew")), back=st.booleans())
    def step(self, span: Span, back: bool) -> None:
        """Somebody sets the clock on the wall."""
        length = span.us(self.world.rules)
        self.world.wall += -length if back else length

    @rule(ahead=st.one_of(st.just(NONE), NEAR))
    def flush(self, ahead: Span) -> None:
        now = self.world.wall + ahead.us(self.world.rules)
        got, expected = self.collector.flush(now, self.world.mono), self.model.flush(now, self.world.mono)
        rows = plain(got.rows)
        assert rows == expected.rows
        assert got.now_us == expected.now
        self.given.append((got.rows, rows))
        upsert(self.table, rows.values(), self.world.rules.max_clock_skew_us)
        upsert(self.expected_table, expected.rows.values(), self.world.rules.max_clock_skew_us)

    @rule(span=st.one_of(NEAR, FAR))
    def tick_and_flush(self, span: Span) -> None:
        self.tick(span)
        self.flush(NONE)

    @rule()
    def hold(self) -> None:
        self.collector.hold_graces(self.world.mono)
        self.model.hold_graces(self.world.mono)

    @rule()
    def release(self) -> None:
        self.collector.release_graces(self.world.mono)
        self.model.release_graces(self.world.mono)

    @rule(rules=st.one_of(st.none(), RULES), down_for=st.one_of(NEAR, FAR), rebooted=st.booleans())
    def restart(self, rules: Rules | None, down_for: Span, rebooted: bool) -> None:
        """The daemon comes back: its clients are gone, and the monotonic clock may begin anew."""
        last_wall = self.world.wall
        self.tick(down_for)
        if rebooted:
            self.world.mono = 10 * SECOND
        self.world.rules = rules or self.world.rules
        self.collector.restart(self.world.rules, self.world.wall, self.world.mono, last_wall)
        self.model.restart(self.world.rules, self.world.wall, self.world.mono, last_wall)

    @invariant()
    def counters_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        assert self.collector.live_sessions == self.model.live_sessions
        assert self.collector.groups == len(self.model.groups)
        assert self.collector.sessions == len(self.model.sessions)
        assert self.collector.abandoned == self.model.abandoned

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        self.flush(NONE)
        self.tick_and_flush(Span("remembered", 1, 1))
        assert self.table == self.expected_table
        for rows, as_given in self.given:
            assert plain(rows) == as_given, "rows that were handed out have changed since"


class NothingIsLostOrCountedTwice(RuleBasedStateMachine):
    """While nothing is forgotten, the table holds each accepted session once, with the most requests ever reported."""

    RULES = Rules(client_grace_us=3 * HOUR)
    """Graces run out on the monotonic clock; sessions are forgotten on the other, which does not get that far."""

    @initialize(window=st.sampled_from([MINUTE, 10 * SECOND]))
    def start(self, window: int) -> None:
        self.world = World(replace(self.RULES, window_us=window))
        self.collector = Collector(self.world.rules)
        self.requests: dict[bytes, int] = {}
        self.table: Table = {}
        for client in CLIENTS:
            self.collector.came(client, self.world.wall, self.world.mono)

    @rule(client=st.sampled_from(CLIENTS), said=st.lists(SAID, min_size=1, max_size=8))
    def report(self, client: str, said: Sequence[Said]) -> None:
        reports = [replace(self.world.report(one), requests=one.requests % 100) for one in said]
        [answer] = self.collector.accept([arrival(client, reports, self.world.wall, self.world.mono)])
        rejected = {one.index for one in answer}
        for place, one in enumerate(reports):
            if place not in rejected:
                self.requests[one.session_id] = max(self.requests.get(one.session_id, 0), one.requests)

    @rule(
        client=st.sampled_from(CLIENTS),
        passed=st.sampled_from([0, SECOND, 3 * HOUR, 3 * HOUR + 1]),
        flush=st.booleans(),
    )
    def be_away(self, client: str, passed: int, flush: bool) -> None:
        self.collector.went(client, self.world.wall, self.world.mono)
        self.world.mono += passed
        if flush:
            self.flush(NONE)
        self.collector.came(client, self.world.wall, self.world.mono)

    @rule(client=st.sampled_from(CLIENTS))
    def close(self, client: str) -> None:
        self.collector.close_client(client, self.world.wall, self.world.mono)

    @rule(span=NEAR, back=st.booleans())
    def flush(self, span: Span, back: bool = False) -> None:
        length = min(span.us(self.world.rules), MINUTE)
        self.world.wall += -length if back else length
        made = self.collector.flush(self.world.wall, self.world.mono)
        upsert(self.table, plain(made.rows).values(), self.world.rules.max_clock_skew_us)

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        if hasattr(self, "table"):
            assert sum(row.sessions for row in self.table.values()) <= len(self.requests)
            assert sum(row.requests for row in self.table.values()) <= sum(self.requests.values())

    def teardown(self) -> None:
        if not hasattr(self, "table"):
            return
        self.world.wall = T0 + 6 * HOUR
        self.flush(NONE)
        assert sum(row.sessions for row in self.table.values()) == len(self.requests)
        assert sum(row.requests for row in self.table.values()) == sum(self.requests.values())


AgainstModel.TestCase.settings = EFFORT
NothingIsLostOrCountedTwice.TestCase.settings = settings(EFFORT, max_examples=EFFORT.max_examples // 4)

TestTheCollectorAgreesWithTheModel = AgainstModel.TestCase
TestTheTableHoldsWhatWasAccepted = NothingIsLostOrCountedTwice.TestCase
