"""The outbox and a model of it that is a plain list agree, whatever is done to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from appstatsd.collect.apps import USER
from appstatsd.collect.rows import CELLS, EndSource, Rows
from appstatsd.deliver.outbox import Outbox, Waiting
from appstatsd.packed import unpack
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.support.waiting_rows import T0, PlainRow, app, ident, plain

SKEW_US = 3


@dataclass(slots=True)
class Held:
    row: PlainRow
    serial: int
    stamp: int
    owing: int
    owing_us: int


class Model:
    """Rows in a list, in their order."""

    def __init__(self) -> None:
        self.held: list[Held] = []
        self.serial = 0
        self.stamp = 0

    def add(self, rows: list[PlainRow]) -> None:
        if not rows:
            return
        self.stamp += 1
        for row in rows:
            for there in self.held:
                old = there.row
                if (old.user, old.agent, old.session) == (row.user, row.agent, row.session):
                    there.row = merged(old, row)
                    there.stamp = self.stamp
                    break
            else:
                self.append(row, self.stamp, self.stamp)

    def append(self, row: PlainRow, stamp: int, owing: int) -> None:
        self.serial += 1
        self.held.append(Held(row, self.serial, stamp, owing, row.made_us))

    def remove(self, serials: list[int], as_of_stamp: int) -> tuple[int, list[PlainRow]]:
        gone = [each for each in self.held if each.serial in serials]
        self.held = [each for each in self.held if each.serial not in serials]
        for each in gone:
            if each.stamp > as_of_stamp:
                self.append(each.row, each.stamp, as_of_stamp + 1)
        return len(gone), [each.row for each in gone if each.stamp <= as_of_stamp]


def merged(old: PlainRow, new: PlainRow) -> PlainRow:
    requests = max(old.requests, new.requests)
    if new.made_us < old.made_us <= new.made_us + SKEW_US:
        return replace(old, requests=requests)
    return replace(old, requests=requests, ended_us=new.ended_us, made_us=new.made_us)


OWNERS = [(1, 1), (1, 2), (2, 1)]
SESSIONS = [1, 2, 3, 2**64 + 1]
KEYS = [(user, agent, session) for user, agent in OWNERS for session in SESSIONS]
ROWS = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 63)), unique_by=lambda each: each[0], max_size=5)
"""Keys, and a number for what else a row says."""
Drawn = list[tuple[tuple[int, int, int], int]]


class OutboxAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(SKEW_US)
        self.model = Model()
        self.seen: list[Waiting] = []

    @rule(drawn=ROWS, again=ROWS)
    def add_twice(self, drawn: Drawn, again: Drawn) -> None:
        self.add(drawn)
        self.add(again)

    def add(self, drawn: Drawn) -> None:
        cells = [
            (ident(session), T0, T0 + number % 3, number % 4, 1, EndSource.LIVE, T0 + number % 8)
            for (_, _, session), number in drawn
        ]
        keys = [app(agent, user=user, slug=f"{number % 2}") for (user, agent, _), number in drawn]
        rows = Rows(keys, np.array(cells, CELLS))
        self.model.add(plain(rows))
        assert self.outbox.add(rows) == self.model.stamp

    @rule(limit=st.integers(1, 6), after=st.integers(0, 20), without=st.sets(st.integers(1, 20), max_size=3))
    def peek(self, limit: int, after: int, without: set[int]) -> None:
        seen = self.outbox.peek(limit, after, without)
        self.same(seen, [h for h in self.model.held if h.serial > after and h.serial not in without][:limit])
        self.seen.append(seen)

    @rule(serials=st.sets(st.integers(1, 20), max_size=5), count=st.integers(1, 5), after=st.integers(0, 20))
    def pick_and_sample(self, serials: set[int], count: int, after: int) -> None:
        self.same(self.outbox.pick(serials), [h for h in self.model.held if h.serial in serials])
        known = [h for h in self.model.held if h.serial > after]
        sample = self.outbox.sample(count, after)
        assert len(sample) == min(count, len(known))
        self.same(sample, [h for h in known if h.serial in sample.serials])

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        if self.seen:
            seen = data.draw(st.sampled_from(self.seen))
            begin = data.draw(st.integers(0, len(seen)))
            part = seen[begin:]
            count, _ = self.model.remove(part.serials.tolist(), part.as_of_stamp)
            assert self.outbox.settle(part.serials, part.as_of_stamp) == count

    @rule(data=st.data())
    def take_out(self, data: st.DataObject) -> None:
        if any(map(len, self.seen)):
            seen = data.draw(st.sampled_from([each for each in self.seen if len(each)]))
            serial = data.draw(st.sampled_from(seen.serials.tolist()))
            _, rows = self.model.remove([serial], seen.as_of_stamp)
            assert plain(self.outbox.take_out(serial, seen.as_of_stamp)) == rows

    @rule(user=st.sampled_from([1, 2]))
    def forget_person(self, user: int) -> None:
        gone = [h.serial for h in self.model.held if h.row.user == user]
        user_id = bytes(app(1, user=user)[USER])
        assert self.outbox.count_person(user_id) == len(gone)
        assert self.outbox.forget_person(user_id) == len(gone)
        self.model.held = [h for h in self.model.held if h.serial not in gone]
        keys = unpack(*(self.outbox.to_arrays()[name] for name in ("apps", "app_ends")))
        assert not any(key[USER] == user_id for key in keys)

    @rule()
    def read_back(self) -> None:
        self.outbox = Outbox.from_arrays(self.outbox.to_arrays(), SKEW_US)

    @invariant()
    def agree(self) -> None:
        held = self.model.held
        self.same(self.outbox.peek(1000), held)
        assert len(self.outbox) == len(held)
        assert self.outbox.last_serial == self.model.serial
        assert self.outbox.oldest_owing_us == min((h.owing_us for h in held), default=None)
        for stamp in range(self.model.stamp + 1):
            assert self.outbox.owes(stamp) == any(h.owing <= stamp for h in held)

    @invariant()
    def keys_are_different(self) -> None:
        keys = [(h.row.user, h.row.agent, h.row.session) for h in self.model.held]
        assert len(keys) == len(set(keys))

    def same(self, seen: Waiting, held: list[Held]) -> None:
        assert seen.serials.tolist() == [h.serial for h in held]
        assert plain(seen.rows) == [h.row for h in held]
        assert seen.as_of_stamp == self.model.stamp


def test_the_outbox_does_what_a_plain_list_would() -> None:
    limits = settings(max_examples=120, stateful_step_count=50, deadline=None)
    run_state_machine_as_test(OutboxAgainstModel, settings=limits)
