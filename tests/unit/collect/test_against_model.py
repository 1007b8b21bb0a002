"""Does the collector do what SPEC section 2 says, whatever comes in whatever order?

Two machines throw events at it. One holds it against the slow model of `tests.support.model`, after every event; the
other counts what was accepted and holds the table against that, with no model at all.

`HYPOTHESIS_PROFILE=thorough` runs for as long as a coffee takes, with new events each time; otherwise the same events
come every time, so that a red test is the doing of whoever changed something.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest
from appstatsd.collect.collector import Collector
from appstatsd.collect.rows import Rows
from appstatsd.collect.rules import Rules
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.histories import BATCH, NEAR, NONE, RULES, SAID, SKEW, SPAN, Said, Span, World
from tests.support.model import Model
from tests.support.reports import HOUR, MINUTE, SECOND, T0, Report, Table, arrival, plain, upsert, verdicts

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
EFFORT = settings(
    max_examples=5_000 if THOROUGH else 400,
    stateful_step_count=80 if THOROUGH else 50,
    derandomize=not THOROUGH,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")  # the choices have long names

CLIENTS = ("left", "middle", "right")


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

    @rule(span=NEAR | SPAN)
    def tick(self, span: Span) -> None:
        """Time passes."""
        passed = max(0, span.us(self.world.rules))
        self.world.wall += passed
        self.world.mono += passed

    @rule(span=NEAR | SKEW, back=st.booleans())
    def step(self, span: Span, back: bool) -> None:
        """Somebody sets the clock on the wall."""
        length = span.us(self.world.rules)
        self.world.wall += -length if back else length

    @rule(ahead=st.just(NONE) | NEAR)
    def flush(self, ahead: Span) -> None:
        now = self.world.wall + ahead.us(self.world.rules)
        got, expected = self.collector.flush(now, self.world.mono), self.model.flush(now, self.world.mono)
        rows = plain(got.rows)
        assert rows == expected.rows
        assert got.now_us == expected.now
        self.given.append((got.rows, rows))
        upsert(self.table, rows.values(), self.world.rules.max_clock_skew_us)
        upsert(self.expected_table, expected.rows.values(), self.world.rules.max_clock_skew_us)

    @rule(span=SPAN)
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

    @rule(rules=st.none() | RULES, down_for=SPAN, rebooted=st.booleans())
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
        if sys.exc_info()[0] is not None or not hasattr(self, "model"):  # do not hide what failed before
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
        if sys.exc_info()[0] is not None or not hasattr(self, "table"):
            return
        self.world.wall = T0 + 6 * HOUR
        self.flush(NONE)
        assert sum(row.sessions for row in self.table.values()) == len(self.requests)
        assert sum(row.requests for row in self.table.values()) == sum(self.requests.values())


AgainstModel.TestCase.settings = EFFORT
NothingIsLostOrCountedTwice.TestCase.settings = settings(EFFORT, max_examples=EFFORT.max_examples // 4)

TestTheCollectorAgreesWithTheModel = AgainstModel.TestCase
TestTheTableHoldsWhatWasAccepted = NothingIsLostOrCountedTwice.TestCase
