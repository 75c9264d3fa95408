"""Who may have which slots, with gateways whose messages come late, in any order between each other, or not at all."""

from collections.abc import Callable
from itertools import groupby, pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from activator.remote_gate import RemoteGate
from queueproxy.grants import KEPT_S, NEVER, PROBATION_SHARE, TURN_S, Grants, Holder
from tests.fuzz import examples
from zerogate.control import Demand, Terms
from zerogate.gate import Gate

STEP_S = 0.001


class World:
    """A replica's gate with its grants, gateways in front, and all that is on its way between them."""

    def __init__(self, limit: int, *, release_limit: int = 1) -> None:
        self.limit = limit
        self.now_s = 0.0
        self.gate = Gate(limit=limit, release_limit=limit or release_limit)
        self.grants = Grants(self.gate)
        self.gateways: list[Gateway] = []

    def join(self) -> "Gateway":
        gateway = Gateway(self)
        self.gateways.append(gateway)
        self.tell()
        return gateway

    def tell(self) -> None:
        """What the sidecar does at the end of each turn of its loop."""
        if self.grants.is_stale:
            self.grants.settle(self.now_s)
        for gateway in self.gateways:
            said = (gateway.holder.allowance, gateway.holder.is_contended)
            if gateway.is_joined and (said != gateway.said or gateway.holder.is_refused):
                gateway.holder.is_refused = False
                gateway.said = said
                most = self.gate.release_limit
                gateway.mail.append(
                    Terms(ready=True, detail="", allowance=said[0], limit=self.limit, most=most, contended=said[1])
                )  # fmt: skip

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.grants.check(self.now_s)
        self.tell()

    def deliver_all(self) -> int:
        """Everything that is on its way arrives, and what that brings about; returns how many rounds it took."""
        rounds = 0
        while any(gateway.is_busy for gateway in self.gateways):
            rounds += 1
            assert rounds < 100, "messages without end"
            for gateway in self.gateways:
                gateway.deliver()
        return rounds

    def finish_all(self) -> None:
        for gateway in self.gateways:
            while gateway.inside:
                gateway.finish()


class Gateway:
    """One gateway as the sidecar and the network see it. `inside`: its requests in the replica."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.gate = RemoteGate(limit=world.limit, release_limit=world.limit or 1)
        self.gate.reopen()
        self.holder = Holder(world.gate, world.grants, stands=True)
        world.grants.join(self.holder, world.now_s)
        self.said: tuple[int, bool] | None = None
        self.waiting = self.served = self.arrived = self.refused = 0
        self.reported = Demand(0, 0)
        self.mail: list[Terms] = []
        self.reports: list[Demand] = []
        self.requests = self.ends = self.refusals = self.inside = 0
        self.is_stopped = False
        self.is_joined = True

    @property
    def is_busy(self) -> bool:
        to_it = not self.is_stopped and bool(self.mail or self.ends or self.refusals)
        return to_it or bool(self.reports or self.requests)

    # What the gateway does

    def arrive(self) -> None:
        self.waiting += 1
        self.arrived += 1
        self.pump()

    def pump(self, *, again: bool = False) -> None:
        while self.waiting and self.gate.try_release():
            self.waiting -= 1
            self.requests += 1
        demand = Demand(min(self.waiting, self.gate.most), self.gate.in_flight)
        is_of_use = demand.waiting or self.reported.waiting or self.gate.is_contended
        if self.is_joined and ((again and self.waiting) or (is_of_use and demand != self.reported)):
            self.reported = demand
            self.reports.append(demand)

    # What arrives

    def take_mail(self) -> None:
        self.gate.tell(self.mail.pop(0))
        self.pump(again=True)

    def take_end(self) -> None:
        self.ends -= 1
        self.served += 1
        self.gate.leave()
        self.pump()

    def take_refusal(self) -> None:
        self.refusals -= 1
        self.refused += 1
        self.gate.leave()
        self.gate.turn_away()
        self.waiting += 1
        self.pump()

    def give_report(self) -> None:
        demand = self.reports.pop(0)
        if self.is_joined:
            self.world.grants.report(self.holder, demand.waiting, demand.in_flight, self.world.now_s)
            self.world.tell()

    def give_request(self) -> None:
        self.requests -= 1
        self.world.grants.now_s = self.world.now_s
        if self.holder.try_enter():
            self.inside += 1
        else:
            self.holder.is_refused = True
            self.refusals += 1
        self.world.tell()

    def finish(self) -> None:
        self.inside -= 1
        self.ends += 1
        self.holder.leave()
        self.world.tell()

    def deliver(self) -> None:
        """One round: what is on its way now arrives."""
        for _ in range(len(self.reports)):
            self.give_report()
        for _ in range(self.requests):
            self.give_request()
        if not self.is_stopped:
            for _ in range(self.ends):
                self.take_end()
            for _ in range(self.refusals):
                self.take_refusal()
            while self.mail:
                self.take_mail()

    def die(self) -> None:
        """Its connections are closed: what it had inside leaves the replica."""
        self.is_joined = False
        self.world.grants.part(self.holder, self.world.now_s)
        self.waiting = self.requests = self.ends = self.refusals = 0
        self.reports.clear()
        self.mail.clear()
        while self.inside:
            self.inside -= 1
            self.holder.leave()
        self.world.gateways.remove(self)
        self.world.tell()


def test_one_gateway_alone_may_use_all_slots_at_once() -> None:
    world = World(4)
    one = world.join()
    assert world.deliver_all() == 1
    for _ in range(6):
        one.arrive()
    world.deliver_all()
    assert (one.inside, one.waiting, one.refused) == (4, 2, 0)


def test_of_three_gateways_one_with_all_the_traffic_gets_every_slot_in_one_exchange() -> None:
    world = World(9)
    busy, *_ = world.join(), world.join(), world.join()
    world.deliver_all()
    for _ in range(9):
        busy.arrive()
    assert world.deliver_all() <= 3
    assert (busy.inside, busy.refused) == (9, 0)
    world.finish_all()
    world.deliver_all()
    for _ in range(9):
        busy.arrive()
    assert not busy.waiting, "the slots stand granted: warm requests ask nobody"


def test_an_idle_gateways_slot_is_taken_back_without_being_asked() -> None:
    world = World(1)
    idle, one = world.join(), world.join()
    world.deliver_all()
    idle.is_stopped = True
    one.arrive()
    world.deliver_all()
    assert one.inside == 1


def test_a_request_on_its_way_to_a_slot_that_has_gone_is_refused_and_waits_again() -> None:
    world = World(1)
    first, second = world.join(), world.join()
    world.deliver_all()
    assert (first.gate.release_limit, second.gate.release_limit) == (1, 0)
    second.arrive()
    second.give_report()
    first.arrive()
    assert first.requests == 1, "it does not know yet that the slot is lent to another"
    second.take_mail()
    second.give_request()
    first.give_request()
    assert (second.inside, first.inside, first.refusals) == (1, 0, 1)
    world.deliver_all()
    second.finish()
    world.deliver_all()
    assert (first.inside, first.waiting) == (1, 0)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_fast_gateway_with_endless_traffic_does_not_starve_a_slow_one(limit: int) -> None:
    world = World(limit)
    fast, slow = world.join(), world.join()
    world.deliver_all()
    for _ in range(50):
        fast.arrive()
    world.deliver_all()
    slow.arrive()
    slow.deliver()
    rounds = 0
    while not slow.inside:
        rounds += 1
        assert rounds <= 2, "at the second end at the latest it is the slow one's turn"
        fast.finish()
        for _ in range(3):
            fast.deliver()
        world.pass_time(STEP_S)
        slow.deliver()
        slow.deliver()


@pytest.mark.parametrize(
    ("length_s", "most_in_a_row"), [(TURN_S, 1), (TURN_S / 2, 2), (TURN_S / 10, 10)], ids=["long", "shorter", "short"]
)
def test_two_gateways_that_both_wait_take_turns_at_a_single_slot(length_s: float, most_in_a_row: int) -> None:
    world = World(1)
    one, two = world.join(), world.join()
    for gateway in (one, two):
        for _ in range(40):
            gateway.arrive()
    world.deliver_all()
    rows = []
    for _ in range(40):
        rows.append("one" if one.inside else "two")
        world.pass_time(length_s)
        world.finish_all()
        world.deliver_all()
    assert max(len(list(row)) for _, row in groupby(rows)) in (most_in_a_row, most_in_a_row + 1)
    assert abs(one.served - two.served) <= most_in_a_row + 1


def test_a_slot_kept_for_a_stopped_gateway_is_dealt_to_another_after_a_moment() -> None:
    world = World(1)
    stopped, other = world.join(), world.join()
    world.deliver_all()
    stopped.arrive()
    stopped.arrive()
    world.deliver_all()
    other.arrive()
    world.deliver_all()
    stopped.is_stopped = True
    stopped.finish()
    world.deliver_all()
    world.finish_all()
    world.deliver_all()
    other.arrive()
    other.arrive()
    world.deliver_all()
    while not other.inside and world.grants.due_s != NEVER:
        assert world.now_s <= KEPT_S
        world.pass_time(KEPT_S)
        world.deliver_all()
    assert other.inside == 1
    stopped.is_stopped = False
    world.deliver_all()
    for _ in range(4):
        world.finish_all()
        world.deliver_all()
    assert not stopped.waiting, "it spoke again, and its turn came"
    assert not other.waiting


def test_a_gateway_that_has_gone_leaves_its_slots_to_the_others() -> None:
    world = World(2)
    dying, other = world.join(), world.join()
    world.deliver_all()
    for gateway in (dying, dying, other, other):
        gateway.arrive()
    world.deliver_all()
    dying.die()
    world.deliver_all()
    assert (other.inside, other.waiting) == (2, 0)


def test_a_gateway_that_comes_again_finds_what_it_has_inside_counted() -> None:
    world = World(3)
    one = world.join()
    world.deliver_all()
    one.arrive()
    world.deliver_all()
    world.grants.part(one.holder, 0.0)
    world.grants.join(one.holder, 0.0)
    assert one.holder.allowance == 3
    assert one.holder.in_flight == 1


def test_what_comes_without_a_gateway_is_dealt_its_part() -> None:
    world = World(1)
    one = world.join()
    world.deliver_all()
    own = world.grants.own
    assert own.try_enter(), "an unused slot that nobody waits for is anybody's"
    own.waiting = 1
    world.grants.is_stale = True
    for _ in range(3):
        one.arrive()
    world.deliver_all()
    world.pass_time(TURN_S)
    own.leave()
    world.tell()
    world.deliver_all()
    assert one.inside == 1
    world.pass_time(TURN_S)
    one.finish()
    world.tell()
    assert own.try_release(), "the turn of those who wait here"


def test_without_a_limit_warm_requests_always_enter_and_held_ones_by_the_release_limit() -> None:
    world = World(0, release_limit=2)
    one, two = world.join(), world.join()
    world.deliver_all()
    for _ in range(4):
        one.arrive()
    world.deliver_all()
    assert (one.inside, one.waiting) == (2, 2)
    assert two.gate.try_enter()
    two.requests += 1
    two.give_request()
    assert two.inside == 1


class Liars:
    """Senders that say that requests wait and send none. `say(number, step)`: what one of them says at a step."""

    def __init__(self, world: World, count: int, say: Callable[[int, int], int]) -> None:
        self.world = world
        self.say = say
        self.holders = [Holder(world.gate, world.grants, stands=True) for _ in range(count)]
        for holder in self.holders:
            world.grants.join(holder, world.now_s)

    def speak(self, step: int) -> None:
        for number, holder in enumerate(self.holders):
            self.world.grants.report(holder, self.say(number, step), 0, self.world.now_s)


@pytest.mark.parametrize(
    "say",
    [
        pytest.param(lambda _, __: 100, id="at-all-times"),
        pytest.param(lambda number, step: 100 * ((number + step) % 5 > 0), id="taken-back-before-it-lapses"),
    ],
)
def test_an_honest_gateway_gets_nearly_all_slots_beside_many_that_claim_requests_and_send_none(
    say: Callable[[int, int], int],
) -> None:
    limit, step_s, length_s, spared_s, span_s = 8, 0.01, 0.04, 3.0, 2.0
    world = World(limit)
    liars = Liars(world, min(250, examples(250)), say)
    honest = world.join()
    busy = 0
    for step in range(int((spared_s + span_s) / step_s)):
        while honest.waiting < limit:
            honest.arrive()
        liars.speak(step)
        world.deliver_all()
        if step % round(length_s / step_s) == 0:
            world.finish_all()
            world.deliver_all()
        if step * step_s >= spared_s:
            busy += honest.inside
        world.pass_time(step_s)
    assert busy * step_s / (limit * span_s) >= 1 - 1 / PROBATION_SHARE


def test_who_lets_one_slot_lapse_is_forgiven_and_who_does_it_again_waits_twice_as_long_each_time() -> None:
    world = World(1)
    liar, honest = Liars(world, 1, lambda _, __: 1), world.join()
    holder = liar.holders[0]
    kept = []
    for step in range(3000):
        while honest.waiting < 1:
            honest.arrive()
        before = holder.kept
        liar.speak(step)
        world.finish_all()
        world.deliver_all()
        if holder.kept > before:
            kept.append(round(world.now_s, 1))
        world.pass_time(STEP_S * 10)
    gaps = [later - sooner for sooner, later in pairwise(kept)]
    assert len(kept) <= 8
    assert [round(gap) for gap in gaps[1:5]] == [1, 2, 4, 8]
    world.grants.now_s = world.now_s
    holder.lapses, holder.penance_until_s = 3, world.now_s + 4
    world.finish_all()
    assert holder.try_enter()
    assert (holder.lapses, holder.penance_until_s) == (0, -NEVER)


class AnyOrder(RuleBasedStateMachine):
    """Messages of several gateways in any order, stops, ends and deaths: never too many, and nobody is forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(3)
        self.world.join()

    def some(self, data: st.DataObject, attribute: str) -> Gateway:
        return data.draw(st.sampled_from([one for one in self.world.gateways if getattr(one, attribute)]))

    def has(self, attribute: str) -> bool:
        return any(getattr(one, attribute) for one in self.world.gateways)

    @precondition(lambda self: len(self.world.gateways) < 4)
    @rule()
    def join(self) -> None:
        self.world.join()

    @precondition(lambda self: self.world.gateways)
    @rule(data=st.data(), count=st.integers(1, 4))
    def arrive(self, data: st.DataObject, count: int) -> None:
        gateway = data.draw(st.sampled_from(self.world.gateways))
        for _ in range(0 if gateway.is_stopped else count):
            gateway.arrive()

    @precondition(lambda self: self.has("reports"))
    @rule(data=st.data())
    def give_report(self, data: st.DataObject) -> None:
        self.some(data, "reports").give_report()

    @precondition(lambda self: self.has("requests"))
    @rule(data=st.data())
    def give_request(self, data: st.DataObject) -> None:
        self.some(data, "requests").give_request()

    @precondition(lambda self: self.has("inside"))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.some(data, "inside").finish()

    @precondition(lambda self: self.has("mail"))
    @rule(data=st.data())
    def take_mail(self, data: st.DataObject) -> None:
        gateway = self.some(data, "mail")
        if not gateway.is_stopped:
            gateway.take_mail()

    @precondition(lambda self: self.has("ends"))
    @rule(data=st.data())
    def take_end(self, data: st.DataObject) -> None:
        gateway = self.some(data, "ends")
        if not gateway.is_stopped:
            gateway.take_end()

    @precondition(lambda self: self.has("refusals"))
    @rule(data=st.data())
    def take_refusal(self, data: st.DataObject) -> None:
        gateway = self.some(data, "refusals")
        if not gateway.is_stopped:
            gateway.take_refusal()

    @rule(seconds=st.sampled_from([STEP_S, KEPT_S]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @precondition(lambda self: self.world.gateways)
    @rule(data=st.data())
    def stop_or_continue(self, data: st.DataObject) -> None:
        gateway = data.draw(st.sampled_from(self.world.gateways))
        gateway.is_stopped = not gateway.is_stopped

    @precondition(lambda self: len(self.world.gateways) > 1)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.world.gateways)).die()

    @rule()
    def all_arrives(self) -> None:
        """After one exchange no slot is free while somebody who can come waits."""
        world = self.world
        world.deliver_all()
        for _ in self.world.gateways:
            world.pass_time(KEPT_S)
            world.deliver_all()
        waiting = sum(one.waiting for one in world.gateways if not one.is_stopped)
        assert not waiting or world.gate.in_flight == world.limit

    @invariant()
    def never_too_many(self) -> None:
        world = self.world
        assert world.gate.in_flight == sum(one.inside for one in world.gateways) <= world.limit
        assert all(one.holder.in_flight == one.inside for one in world.gateways)
        assert sum(one.holder.allowance for one in world.gateways) <= world.limit
        assert world.grants.kept == sum(one.holder.kept for one in world.gateways)

    def teardown(self) -> None:
        """Everybody is served in the end."""
        world = self.world
        for gateway in world.gateways:
            gateway.is_stopped = False
        most = 2 + sum(one.arrived for one in world.gateways)
        for _ in range(most):
            world.deliver_all()
            world.finish_all()
            world.deliver_all()
        for gateway in world.gateways:
            assert gateway.served == gateway.arrived, "one of its requests was forgotten"
            assert not gateway.gate.in_flight


AnyOrder.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=50, deadline=None)
TestAnyOrder = AnyOrder.TestCase
