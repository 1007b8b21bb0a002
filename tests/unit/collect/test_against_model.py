"""Does the collector do what SPEC section 2 says, whatever comes in whatever order?

Two machines throw events at it. One holds it against the slow model of `tests.support.model`, after every event; the
other counts what was accepted and holds the table against that, with no model at all.

`HYPOTHESIS_PROFILE=thorough` runs for as long as a coffee takes, with new events each time; otherwise the same events
come every time, so that a red test is the doing of whoever changed something. (`mutate` is for `make mutate`: what it
looks for is sure to be there, so it looks for longer, and does not make a failure small.)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import astuple, replace

import pytest
from appstatsd.collect.batch import ReportedApp
from appstatsd.collect.collector import Collector
from appstatsd.collect.rollup import ALL, Flushed
from appstatsd.collect.rows import Rows
from appstatsd.collect.rules import Rules
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.histories import (
    APPS,
    BATCHES,
    CLIENTS,
    EDGE,
    NEAR,
    NONE,
    ODDITIES,
    RULES,
    SAID,
    SPAN,
    ClientBatch,
    Flush,
    Forget,
    Hold,
    Oddity,
    Restart,
    Said,
    Snapshot,
    Span,
    Step,
    World,
)
from tests.support.model import Model
from tests.support.reports import HOUR, MINUTE, SECOND, T0, Table, arrival, plain, upsert, verdicts

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "fast")
THOROUGH = PROFILE == "thorough"
EFFORT = settings(
    max_examples={"fast": 250, "mutate": 2_000, "thorough": 5_000}[PROFILE],
    stateful_step_count=80 if THOROUGH else 50,
    derandomize=not THOROUGH,
    database=None,
    deadline=None,
    phases=(Phase.generate,) if PROFILE == "mutate" else (Phase.generate, Phase.shrink),
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),  # the choices have long names
    pytest.mark.timeout(900 if PROFILE == "fast" else 0),  # making a failure small takes its time
]


class AgainstModel(RuleBasedStateMachine):
    """Two collectors and the model see the same events and clocks, and agree after each.

    One collector takes many batches at once and is saved and loaded now and then, the other takes them one by one and
    is never saved: their rows are the same in the same order, as after a recovery. Some flush in parts, and the first is
    saved and loaded between these too: what is written last is the same.
    """

    @initialize(rules=RULES, most=st.sampled_from([None, None, 1, 3]))
    def start(self, rules: Rules, most: int | None) -> None:
        self.most = most
        self.world = World(rules)
        self.collector, self.twin = Collector(rules), Collector(rules)
        self.model = Model(rules)
        self.table: Table = {}
        self.expected_table: Table = {}
        self.given: list[tuple[Rows, Table]] = []
        self.come(CLIENTS[0])

    @property
    def all(self) -> tuple[Collector, Collector, Model]:
        return self.collector, self.twin, self.model

    def come(self, client: str) -> None:
        for one in self.all:
            one.came(client, self.world.wall, self.world.mono)

    def go(self, client: str) -> None:
        for one in self.all:
            one.went(client, self.world.wall, self.world.mono)

    def one_who_is_there(self, client: str) -> str:
        """This client, or another if it is away and another is not."""
        there = [name for name in CLIENTS if self.model.is_here(name)]
        if not there:
            self.come(client)
            return client
        return client if client in there else there[0]

    def deliver(self, batches: Sequence[ClientBatch]) -> None:
        world, drain, expected = self.world, [], []
        for client, pause, said in batches:
            client = self.one_who_is_there(client)
            reports = world.reports(said)
            singly = arrival(client, reports, world.wall, world.mono)
            drain.append(arrival(client, reports, world.wall, world.mono, seen_before=True))
            expected += self.model.accept([singly])
            assert [verdicts(answer) for answer in self.twin.accept([singly])] == expected[-1:]
            world.learn(reports, [index for index, _ in expected[-1]])
            world.tick(pause)
        assert [verdicts(answer) for answer in self.collector.accept(drain)] == expected

    @rule(batches=BATCHES)
    def report(self, batches: Sequence[ClientBatch]) -> None:
        self.deliver(batches)

    @rule(batches=BATCHES, pause=NEAR)
    def report_and_flush(self, batches: Sequence[ClientBatch], pause: Span) -> None:
        self.deliver(batches)
        self.world.tick(pause)
        self.flush(NONE)

    @rule(pause=SPAN)
    def wait_and_flush(self, pause: Span) -> None:
        self.world.tick(pause)
        self.flush(NONE)

    @rule(client=st.sampled_from(CLIENTS), pause=SPAN)
    def come_or_go(self, client: str, pause: Span) -> None:
        if self.model.is_here(client):
            self.go(client)
            self.world.tick(pause)
        else:
            self.come(client)

    @rule(batches=BATCHES, client=st.sampled_from(CLIENTS), goes=st.booleans())
    def report_and_close(self, batches: Sequence[ClientBatch], client: str, goes: bool) -> None:
        self.deliver(batches)
        client = self.one_who_is_there(client)
        for one in self.all:
            one.close_client(client, self.world.wall, self.world.mono)
        if goes:
            self.go(client)

    @rule(
        client=st.sampled_from(CLIENTS),
        first=NEAR,
        meanwhile=st.none() | ODDITIES,
        pauses=st.lists(EDGE, min_size=1, max_size=2),
        comes=st.booleans(),
    )
    def be_away(self, client: str, first: Span, meanwhile: Oddity | None, pauses: Sequence[Span], comes: bool) -> None:
        client = self.one_who_is_there(client)
        self.go(client)
        self.world.tick(first)
        if meanwhile is not None:
            self.something_odd(meanwhile)
        for pause in pauses:
            self.world.tick(pause)
            if comes:
                self.come(client)
            self.flush(NONE)

    @rule(event=ODDITIES)
    def something_odd(self, event: Oddity) -> None:
        world = self.world
        match event:
            case Step(span, sign):
                world.wall += sign * span.us(world.rules)
            case Flush(ahead):
                self.flush(ahead)
            case Hold(holds=True):
                for one in self.all:
                    one.hold_graces(world.mono)
            case Hold():
                for one in self.all:
                    one.release_graces(world.mono)
            case Restart(down_for, rules, rebooted):
                last_wall = world.wall
                world.restart(down_for, rules, rebooted)
                for one in self.all:
                    one.restart(world.rules, world.wall, world.mono, last_wall)
            case Forget(app):
                self.forget(app.user_id)
            case Snapshot():
                self.collector = Collector.from_arrays(self.collector.to_arrays())

    @rule(of=st.sampled_from(APPS), pause=NEAR)
    def forget_and_flush(self, of: ReportedApp, pause: Span) -> None:
        self.forget(of.user_id)
        self.world.tick(pause)
        self.flush(NONE)

    def forget(self, user_id: bytes) -> None:
        expected = self.model.forget_person(user_id)
        for one in (self.collector, self.twin):
            before = one.person(user_id)
            assert astuple(one.forget_person(user_id)) == astuple(before) == expected
            assert astuple(one.person(user_id)) == (0, 0, 0)
            assert not any(user_id in array.tobytes() for array in one.to_arrays().values())

    def flush(self, ahead: Span) -> None:
        now = self.world.wall + ahead.us(self.world.rules)
        expected = self.model.flush(now, self.world.mono)
        until = ALL if self.most is None else 0
        parts = [self.collector.flush(now, self.world.mono, until)]
        twins = [self.twin.flush(now, self.world.mono, until)]
        while until != ALL:
            until = self.twin.part_end(self.most or 0)
            self.collector = Collector.from_arrays(self.collector.to_arrays())
            parts.append(self.collector.go_on(until))
            twins.append(self.twin.go_on(until))
        rows: Table = {}
        for part, twin in zip(parts, twins, strict=True):
            made = plain(part.rows)
            assert list(plain(twin.rows)) == list(made)
            assert part.now_us == expected.now
            self.given.append((part.rows, made))
            rows |= made
        assert rows == expected.rows
        upsert(self.table, rows.values(), self.world.rules.max_clock_skew_us)
        upsert(self.expected_table, expected.rows.values(), self.world.rules.max_clock_skew_us)

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
        self.world.tick(Span("remembered", 1, 1))
        self.flush(NONE)
        self.counters_agree()
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
    def report(self, client: str, said: list[Said]) -> None:
        reports = [replace(one, requests=one.requests % 100) for one in self.world.reports(said)]
        [answer] = self.collector.accept([arrival(client, reports, self.world.wall, self.world.mono)])
        rejected = {one.index for one in answer}
        self.world.learn(reports, rejected)
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

    @rule(span=NEAR, back=st.booleans(), until=st.sampled_from([ALL, 0, 5]))
    def flush(self, span: Span, back: bool = False, until: int = ALL) -> None:
        length = min(span.us(self.world.rules), MINUTE)
        self.world.wall += -length if back else length
        self.write(self.collector.flush(self.world.wall, self.world.mono, until))

    @rule(saved=st.booleans())
    def go_on(self, saved: bool) -> None:
        if saved:
            self.collector = Collector.from_arrays(self.collector.to_arrays())
        self.write(self.collector.go_on(self.collector.part_end(2)))

    def write(self, made: Flushed) -> None:
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
NothingIsLostOrCountedTwice.TestCase.settings = settings(EFFORT, max_examples=EFFORT.max_examples // 3)

TestTheCollectorAgreesWithTheModel = AgainstModel.TestCase
TestTheTableHoldsWhatWasAccepted = NothingIsLostOrCountedTwice.TestCase
