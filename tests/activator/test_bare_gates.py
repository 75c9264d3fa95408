"""Gates of replicas without a sidecar: several processes share the slots, or another gateway has them."""

from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from activator.bare_gates import PassGate, SharedGate
from zerogate.gate import MOST_INSIDE
from zerogate.meter import Meter


class Table:
    """The slots of a replica, as the kernel keeps them: who has which."""

    def __init__(self) -> None:
        self.owner: dict[int, Seat] = {}


class Seat:
    """One process's side of them."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def take(self, most: int) -> int | None:
        for slot in range(most):
            if slot not in self.table.owner:
                self.table.owner[slot] = self
                return slot
        return None

    def give_back(self) -> None:
        del self.table.owner[max(slot for slot, owner in self.table.owner.items() if owner is self)]


class Turn:
    """The next turn of the loop."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def soon(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def go(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


def shared(table: Table, turn: Turn, *, slots: int | None = 2, release: int = 2) -> SharedGate:
    gate = SharedGate(Meter(), Seat(table), soon=turn.soon)
    gate.share(slots=slots, release=release)
    return gate


def test_a_slot_that_was_looked_at_and_not_used_is_free_in_the_next_turn() -> None:
    table, turn = Table(), Turn()
    one, other = shared(table, turn, slots=1), shared(table, turn, slots=1)
    assert [one.may_release, other.may_release] == [True, False]
    turn.go()
    assert [other.try_release(), one.may_release] == [True, False]
    other.leave()
    assert one.try_release()
    turn.go()
    assert not other.try_enter(), "it was used, so it is not given back"


def test_the_policys_limit_is_not_this_gateways_share() -> None:
    gate = shared(Table(), Turn(), slots=1)
    gate.configure(limit=8, release_limit=8)
    assert [gate.try_enter(), gate.try_enter()] == [True, False]


def test_without_a_limit_only_what_was_held_is_paced() -> None:
    gate = shared(Table(), Turn(), slots=None, release=1)
    assert [gate.try_release(), gate.try_release(), gate.try_enter()] == [True, False, True]


@pytest.mark.parametrize("how", ["shared", "passed on"])
def test_without_a_limit_there_is_one_all_the_same(how: str) -> None:
    gate = shared(Table(), Turn(), slots=None) if how == "shared" else PassGate(Meter())
    gate.reopen()
    assert sum(gate.try_enter() for _ in range(MOST_INSIDE + 1)) == MOST_INSIDE
    assert not gate.try_release()


def test_those_that_last_are_not_what_a_held_one_waits_for() -> None:
    gate = shared(Table(), Turn(), slots=None, release=1)
    assert gate.try_enter()
    assert not gate.may_release
    gate.lasting = 1
    assert gate.may_release


def test_who_came_without_a_limit_counts_when_there_is_one() -> None:
    table = Table()
    gate = shared(table, Turn(), slots=None)
    assert [gate.try_enter(), gate.try_enter()] == [True, True]
    gate.share(slots=2, release=2)
    assert not gate.try_enter()
    gate.leave()
    assert gate.try_enter()
    gate.leave()
    gate.leave()
    assert not table.owner


def test_nothing_enters_a_gate_that_is_shut() -> None:
    gate = shared(Table(), Turn())
    gate.close()
    assert (gate.try_enter(), gate.may_release, gate.try_release()) == (False, False, False)


def test_a_gate_that_is_shut_keeps_no_slot_that_it_only_looked_at() -> None:
    table, turn = Table(), Turn()
    one, other = shared(table, turn, slots=1), shared(table, turn, slots=1)
    assert one.may_release
    one.close()
    assert other.try_enter()
    turn.go()
    assert not one.in_flight
    other.leave()
    assert not table.owner


def test_all_is_passed_to_who_has_slots_unless_the_gate_is_shut() -> None:
    gate = PassGate(Meter())
    gate.configure(limit=1, release_limit=1)
    assert [gate.try_release() for _ in range(5)] == [True] * 5
    gate.close()
    assert not gate.try_release()


class Crowd(RuleBasedStateMachine):
    """Whatever processes do: no more are inside than the share. What was inside when it fell may stay."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.turn = Table(), Turn()
        self.gates = [shared(self.table, self.turn, slots=3, release=3) for _ in range(3)]
        self.share = 3

    @rule(which=st.integers(0, 2), is_held=st.booleans())
    def enter(self, which: int, is_held: bool) -> None:
        gate = self.gates[which]
        entered = gate.try_release() if is_held else gate.try_enter()
        inside = sum(one.in_flight for one in self.gates)
        above = sum(slot >= self.share for slot in self.table.owner)
        assert not entered or inside - above <= self.share

    @rule(which=st.integers(0, 2))
    def look(self, which: int) -> None:
        gate = self.gates[which]
        if gate.may_release and not self.gates[(which + 1) % 3].is_open:
            assert gate.try_release()

    @rule(which=st.integers(0, 2))
    def leave(self, which: int) -> None:
        if self.gates[which].in_flight:
            self.gates[which].leave()

    @rule()
    def end_turn(self) -> None:
        self.turn.go()

    @rule(share=st.integers(1, 4))
    def change(self, share: int) -> None:
        self.share = share
        for gate in self.gates:
            gate.share(slots=share, release=share)

    @rule(which=st.integers(0, 2))
    def toggle(self, which: int) -> None:
        gate = self.gates[which]
        if gate.is_open:
            gate.close()
        else:
            gate.reopen()

    @invariant()
    def slots_are_had_by_who_is_inside(self) -> None:
        if not self.turn.calls:
            assert len(self.table.owner) == sum(gate.in_flight for gate in self.gates)


TestCrowd = Crowd.TestCase
