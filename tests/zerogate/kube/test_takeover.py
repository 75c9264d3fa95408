"""A Service that is taken over has somebody who answers, whatever comes late, dies or comes in another order."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.fuzz import examples
from zerogate.kube.fronts import Front, FrontPort
from zerogate.kube.objects import EndpointSlice
from zerogate.kube.takeover import (
    ASK_S,
    GIVE_BACK_S,
    MANAGED_BY,
    MANAGER,
    SERVICE_NAME,
    SETTLE_S,
    WAIT_S,
    WORKLOAD,
    WRITE_AGAIN_S,
    WRITE_S,
    Act,
    Ask,
    DeleteSlice,
    Stand,
    WriteSlice,
    slice_of,
)

PORT = FrontPort(name="http", port=80, index=0, target="http", number=None)
FRONT = Front(key=("ns", "llm"), uid="u", service="ns/llm", families=("IPv4",), ports=(PORT,))
ONE, TWO = "10.0.0.1", "10.0.0.2"


def seen(stand: Stand, *addresses: str, version: int, **changes: Any) -> EndpointSlice:
    """The slice as the API server would send it."""
    body = slice_of(stand, tuple((address, "node") for address in addresses))
    body["metadata"]["resourceVersion"] = str(version)
    body.update(changes)
    return msgspec.json.decode(msgspec.json.encode(body), type=EndpointSlice)


def stood(*addresses: str, at_s: float = 0.0) -> Stand:
    """One that leads and is settled by `at_s`, with a slice of these addresses, and pods that answer."""
    stand = Stand(FRONT, "IPv4", (20000,))
    stand.lead(True, at_s - SETTLE_S)
    stand.pods_answer = True
    stand.on_activators({ONE: "node", TWO: "node"}, at_s)
    stand.on_slice(seen(stand, *addresses, version=1), at_s)
    return stand


def written(acts: list[Act]) -> list[tuple[str, ...]]:
    return [tuple(address for address, _ in act.addresses) for act in acts if isinstance(act, WriteSlice)]


def test_a_slice_without_addresses_is_there_before_it_is_needed() -> None:
    stand = Stand(FRONT, "IPv4", (20000,))
    stand.lead(True, -SETTLE_S)
    stand.pods_answer = True
    assert stand.step(0.0) == [WriteSlice(())]
    assert slice_of(stand, ())["ports"] == [{"name": "http", "port": 20000, "protocol": "TCP"}]
    stand.on_slice(seen(stand, version=1), 0.1)
    stand.on_written(0.1)
    assert stand.step(0.2) == []


def test_an_activator_is_written_only_once_it_listens() -> None:
    stand = stood()
    stand.head_for_zero(True, 1.0)
    assert stand.step(1.0) == [Ask(ONE, (20000,)), Ask(TWO, (20000,))]
    assert stand.step(1.01) == []
    stand.on_listening(TWO)
    assert written(stand.step(1.02)) == [(TWO,)]


def test_who_does_not_listen_yet_is_asked_again_after_a_while() -> None:
    stand = stood()
    stand.head_for_zero(True, 1.0)
    stand.step(1.0)
    assert stand.revisit_at_s(1.0) == 1.0 + ASK_S
    assert len(stand.step(1.0 + ASK_S)) == 2


def test_leave_for_zero_is_given_when_nodes_have_had_the_slice_for_a_while() -> None:
    stand = stood()
    stand.head_for_zero(True, 1.0)
    stand.on_listening(ONE)
    stand.step(1.0)
    assert not stand.may_zero(1.0)
    stand.on_slice(seen(stand, ONE, version=2), 2.0)
    stand.on_written(2.0)
    assert not stand.may_zero(2.0 + WAIT_S - 0.01)
    assert stand.revisit_at_s(3.0) == 2.0 + WAIT_S
    assert stand.may_zero(2.0 + WAIT_S)


def test_without_a_ready_activator_there_is_no_leave() -> None:
    stand = stood(ONE)
    stand.head_for_zero(True, 1.0)
    assert stand.may_zero(1.0 + WAIT_S)
    stand.on_activators({}, 5.0)
    assert not stand.may_zero(60.0)


def test_an_activator_that_comes_back_is_asked_again_whether_it_listens() -> None:
    stand = stood()
    stand.on_listening(ONE)
    stand.on_activators({TWO: "node"}, 1.0)
    stand.on_activators({ONE: "node", TWO: "node"}, 2.0)
    stand.head_for_zero(True, 3.0)
    assert stand.step(3.0) == [Ask(ONE, (20000,)), Ask(TWO, (20000,))]


def test_who_listens_on_the_ports_of_before_is_asked_about_those_of_now() -> None:
    stand = stood()
    stand.on_listening(ONE)
    stand.configure(FRONT, (20001,), 1.0)
    stand.on_slice(seen(stand, version=2), 1.1)
    stand.head_for_zero(True, 2.0)
    assert stand.step(2.0) == [Ask(ONE, (20001,)), Ask(TWO, (20001,))]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"ownerReferences": [{"kind": "Service", "name": "llm", "uid": "before"}]}, id="owner"),
        pytest.param({"annotations": {WORKLOAD: "another"}}, id="workload"),
        pytest.param({"labels": {SERVICE_NAME: "llm"}}, id="manager"),
        pytest.param({"labels": {SERVICE_NAME: "another", MANAGED_BY: MANAGER}}, id="service"),
    ],
)
def test_a_slice_that_somebody_has_changed_is_written_anew(changes: dict[str, Any]) -> None:
    stand = stood(ONE)
    stand.head_for_zero(True, 1.0)
    assert written(stand.step(1.0)) == []
    meta = {**slice_of(stand, ())["metadata"], "resourceVersion": "2", **changes}
    stand.on_slice(seen(stand, ONE, version=2, metadata=meta), 1.0)
    assert written(stand.step(1.0)) == [(ONE,)]


def test_a_slice_that_has_a_port_more_is_written_anew() -> None:
    stand = stood(ONE)
    more = [*slice_of(stand, ())["ports"], {"name": "more", "port": 20001}]
    stand.head_for_zero(True, 1.0)
    stand.on_slice(seen(stand, ONE, version=2, ports=more), 1.0)
    assert written(stand.step(1.0)) == [(ONE,)]


def test_the_last_addresses_stay_when_no_activator_is_ready() -> None:
    stand = stood(ONE)
    stand.pods_answer = False
    stand.on_activators({}, 1.0)
    assert written(stand.step(1.0)) == []


def test_the_addresses_go_when_a_pod_answers() -> None:
    stand = stood(ONE)
    stand.head_for_zero(True, 1.0)
    stand.pods_answer = False
    stand.head_for_zero(False, 20.0)
    stand.on_listening(ONE)
    stand.on_listening(TWO)
    assert written(stand.step(30.0)) == [(ONE, TWO)]
    stand.on_slice(seen(stand, ONE, TWO, version=3), 30.1)
    stand.on_written(30.1)
    assert written(stand.step(40.0)) == []
    stand.pods_answer = True
    assert written(stand.step(41.0)) == [()]


def test_a_pod_that_looks_ready_just_after_zero_is_not_believed() -> None:
    stand = stood(ONE, TWO)
    stand.head_for_zero(True, 1.0)
    stand.head_for_zero(False, 5.0)
    assert written(stand.step(5.0 + SETTLE_S - 0.1)) == []
    assert written(stand.step(5.0 + SETTLE_S)) == [()]


def test_a_new_leader_takes_no_address_out_before_it_knows_better() -> None:
    stand = Stand(FRONT, "IPv4", (20000,))
    stand.pods_answer = True
    stand.on_activators({ONE: "node"}, 0.0)
    stand.on_slice(seen(stand, ONE, version=1), 0.0)
    stand.lead(True, 0.0)
    assert written(stand.step(SETTLE_S - 0.1)) == []
    assert written(stand.step(SETTLE_S)) == [()]


def test_nothing_is_written_by_who_does_not_lead() -> None:
    stand = stood()
    stand.lead(False, 1.0)
    stand.pods_answer = False
    assert stand.step(2.0) == []
    assert not stand.may_zero(100.0)


def test_one_write_at_a_time_and_after_a_failure_a_pause() -> None:
    stand = stood(ONE)
    assert written(stand.step(1.0)) == [()]
    assert stand.step(1.1) == []
    stand.on_failed(1.2 + WRITE_AGAIN_S)
    assert stand.step(1.3) == []
    assert written(stand.step(1.2 + WRITE_AGAIN_S)) == [()]


def test_no_zero_while_a_write_takes_the_addresses_out() -> None:
    stand = stood(ONE)
    assert written(stand.step(5.0)) == [()]
    stand.head_for_zero(True, 5.1)
    assert not stand.may_zero(5.1)
    stand.on_slice(seen(stand, version=2), 5.2)
    stand.on_written(5.2)
    assert not stand.may_zero(5.2 + WAIT_S)


def test_after_a_write_without_an_answer_zero_waits_for_one_that_has_an_answer() -> None:
    stand = stood(ONE)
    assert written(stand.step(5.0)) == [()]
    stand.on_failed(5.1 + WRITE_AGAIN_S)
    stand.head_for_zero(True, 5.2)
    assert not stand.may_zero(5.2 + WAIT_S)
    assert written(stand.step(8.0)) == [(ONE,)]
    stand.on_slice(seen(stand, ONE, version=3), 8.1)
    stand.on_written(8.1)
    assert not stand.may_zero(8.0 + WAIT_S)
    assert stand.may_zero(8.1 + WAIT_S)


def test_older_news_of_the_slice_are_not_heard() -> None:
    stand = stood()
    stand.on_slice(seen(stand, ONE, version=7), 1.0)
    stand.on_slice(seen(stand, version=3), 2.0)
    stand.head_for_zero(True, 2.0)
    assert stand.may_zero(1.0 + WAIT_S)


def test_what_somebody_else_changed_in_the_slice_is_put_right() -> None:
    stand = stood()
    for change in ({"ports": [{"name": "http", "port": 1}]}, {"endpoints": [{"addresses": ["10.9.9.9"]}]}):
        stand.on_slice(seen(stand, version=5, **change), 1.0)
        assert written(stand.step(1.0)) == [()]
        stand.on_written(1.0)


def test_a_port_more_keeps_the_addresses_that_are_there() -> None:
    stand = stood(ONE)
    stand.pods_answer = False
    more = msgspec.structs.replace(FRONT, ports=(PORT, msgspec.structs.replace(PORT, name="b", port=81, index=1)))
    stand.configure(more, (20000, 20001), 1.0)
    assert written(stand.step(1.0)) == [(ONE,)]


def test_at_the_end_of_a_takeover_the_slice_goes_when_pods_answer() -> None:
    stand = stood(ONE)
    stand.pods_answer = False
    stand.retire(1.0)
    assert not [act for act in stand.step(100.0) if isinstance(act, DeleteSlice)]
    stand.pods_answer = True
    assert stand.step(200.0) == [DeleteSlice()]
    stand.on_slice(None, 200.1)
    stand.on_written(200.1)
    assert stand.step(200.2) == []
    assert stand.is_gone


def test_at_the_end_of_a_takeover_at_zero_the_slice_goes_when_nothing_comes_up() -> None:
    stand = stood(ONE)
    stand.pods_answer = False
    stand.on_activators({ONE: "node"}, 0.5)
    stand.retire(1.0)
    assert written(stand.step(1.0 + GIVE_BACK_S - 1)) == []
    assert [act for act in stand.step(1.0 + GIVE_BACK_S) if isinstance(act, DeleteSlice)]


LAG_S = 2.5
"""Of watches and controllers each, at most."""


DRAIN_WAIT_S = 5.0
"""What the chart gives an activator that leaves: until then slices may still name it."""


class Cluster(RuleBasedStateMachine):
    """A leader that may die, a watch that is late, writes that fail or whose answers are lost, activators that come and
    go, and a scaler that changes its mind. Nodes follow the API server's log in order, as late as they like: so at no
    place of the log may there be neither a ready pod nor an activator that lives."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.version = 0
        self.ours: tuple[str, ...] | None = None
        self.pods: frozenset[str] = frozenset({"pod0"})
        self.number = 1
        self.wanted = 1
        self.writing_zero = False
        self.alive = {ONE: True}
        """Ready or, with False, leaving."""
        self.left_s: dict[str, float] = {}
        """When those that leave were told to."""
        self.open = {ONE}
        self.made = 1
        self.news: list[tuple[float, Callable[[], None]]] = []
        """What the leader will see, in order."""
        self.due: list[tuple[float, Callable[[], None]]] = []
        """What controllers will do."""
        self.write: WriteSlice | DeleteSlice | None = None
        self.write_ends_s = 0.0
        """When it is given up."""
        self.stand = self.new_leader()

    # The API server and those who act on it

    def log(self) -> None:
        """Something in the slices has changed: the leader sees it within a while."""
        self.version += 1
        answers = any(address in self.alive and address in self.open for address in self.ours or ())
        assert self.pods or answers, f"nobody answers at {self.now_s}"

    def tell_pods(self) -> None:
        answer = bool(self.pods)
        self.news.append((self.now_s + LAG_S, lambda: setattr(self.stand, "pods_answer", answer)))

    def tell_activators(self) -> None:
        ready = {address: "node" for address, is_ready in self.alive.items() if is_ready}
        self.news.append((self.now_s + LAG_S, lambda: self.stand.on_activators(ready, self.now_s)))

    def tell_slice(self) -> None:
        ours, version = self.ours, self.version
        self.news.append((self.now_s + LAG_S, lambda: self.see(ours, version)))

    def see(self, ours: tuple[str, ...] | None, version: int) -> None:
        found = None if ours is None else seen(self.stand, *ours, version=version)
        self.stand.on_slice(found, self.now_s)

    def remove_pods(self, gone: frozenset[str]) -> None:
        self.pods = self.pods - gone
        self.log()
        self.tell_pods()

    def new_leader(self) -> Stand:
        self.news.clear()
        stand = self.stand = Stand(FRONT, "IPv4", (20000,))
        stand.pods_answer = bool(self.pods)
        stand.on_activators({address: "node" for address, is_ready in self.alive.items() if is_ready}, self.now_s)
        self.see(self.ours, self.version)
        stand.lead(True, self.now_s)
        return stand

    # The leader

    def turn(self) -> None:
        """What the shells do whenever something happened."""
        self.stand.head_for_zero(self.wanted == 0 or self.writing_zero, self.now_s)
        for act in self.stand.step(self.now_s):
            if isinstance(act, Ask):
                if act.address in self.open and act.address in self.alive:
                    self.stand.on_listening(act.address)
            else:
                assert self.write is None
                self.write, self.write_ends_s = act, self.now_s + WRITE_S
        if self.wanted == 0 and self.number == 1 and not self.writing_zero and self.stand.may_zero(self.now_s):
            self.writing_zero = True
        if self.wanted == 1 and self.number == 0 and not self.writing_zero:
            self.number = 1

    def land(self) -> None:
        """The slice's write is done at the API server."""
        act, self.write = self.write, None
        assert act is not None
        self.ours = None if isinstance(act, DeleteSlice) else tuple(address for address, _ in act.addresses)
        self.log()
        self.tell_slice()

    def let_go(self) -> None:
        """Activators that leave end once no slice names them, and not before their drain wait is over."""
        for address, left_s in list(self.left_s.items()):
            if address not in (self.ours or ()) and self.now_s >= left_s + DRAIN_WAIT_S:
                del self.alive[address], self.left_s[address]

    def land_zero(self) -> None:
        self.writing_zero = False
        self.number = 0
        gone = self.pods
        self.due.append((self.now_s + LAG_S, lambda: self.remove_pods(gone)))

    # Rules

    @rule(seconds=strategies.sampled_from([0.1, 0.5, 2.0, 5.0, 12.0]))
    def wait(self, seconds: float) -> None:
        """Nobody is later than it may be."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s = min(end_s, self.now_s + 0.5)
            if self.write is not None and self.now_s >= self.write_ends_s:
                self.write = None
                self.stand.on_failed(self.now_s + WRITE_AGAIN_S)
            self.let_go()
            while self.due and self.due[0][0] <= self.now_s:
                self.due.pop(0)[1]()
            while self.news and self.news[0][0] <= self.now_s:
                self.news.pop(0)[1]()
            self.turn()

    @precondition(lambda self: self.news)
    @rule()
    def news_come(self) -> None:
        self.news.pop(0)[1]()
        self.turn()

    @precondition(lambda self: self.due)
    @rule()
    def controllers_act(self) -> None:
        self.due.pop(0)[1]()
        self.turn()

    @precondition(lambda self: self.write is not None)
    @rule(is_answered=strategies.booleans())
    def write_lands(self, is_answered: bool) -> None:
        self.land()
        if is_answered:
            self.see(self.ours, self.version)
            self.stand.on_written(self.now_s)
        else:
            self.stand.on_failed(self.now_s + WRITE_AGAIN_S)
        self.turn()

    @precondition(lambda self: self.write is not None)
    @rule()
    def write_fails(self) -> None:
        self.write = None
        self.stand.on_failed(self.now_s + WRITE_AGAIN_S)
        self.turn()

    @precondition(lambda self: self.writing_zero)
    @rule()
    def zero_is_written(self) -> None:
        self.land_zero()
        self.turn()

    @rule(wanted=strategies.sampled_from([0, 1]))
    def want(self, wanted: int) -> None:
        self.wanted = wanted
        self.turn()

    @rule()
    def it_goes_to_zero(self) -> None:
        """Without disturbance, as far as the write; what comes of that is for the others."""
        self.want(0)
        self.open |= set(self.alive)
        for _ in range(60):
            if self.write is not None:
                self.write_lands(True)
            if self.writing_zero:
                self.zero_is_written()
                return
            self.wait(0.5)

    @precondition(lambda self: self.number == 1 and len(self.pods) < 2)
    @rule()
    def pod_becomes_ready(self) -> None:
        self.pods = self.pods | {f"pod{self.made}"}
        self.made += 1
        self.log()
        self.tell_pods()

    @rule(lands=strategies.booleans())
    def leader_dies(self, lands: bool) -> None:
        """What it was writing comes about, or not; its successor does not know what it had wished."""
        if self.write is not None and lands:
            self.land()
        self.write = None
        if self.writing_zero and lands:
            self.land_zero()
        self.writing_zero = False
        self.new_leader()
        self.turn()

    @rule()
    def activator_comes(self) -> None:
        if len(self.alive) < 3:
            self.alive[f"10.0.1.{self.made}"] = True
            self.made += 1
            self.tell_activators()

    @precondition(lambda self: any(address not in self.open for address in self.alive))
    @rule()
    def activator_opens_its_ports(self) -> None:
        self.open |= set(self.alive)
        self.turn()

    @precondition(lambda self: sum(self.alive.values()) > 1)
    @rule()
    def activator_leaves(self) -> None:
        """It goes on serving until no slice names it."""
        address = next(address for address, is_ready in self.alive.items() if is_ready)
        self.alive[address] = False
        self.left_s[address] = self.now_s
        self.tell_activators()

    @rule()
    def all_is_well_in_the_end(self) -> None:
        """When nothing disturbs, what is wanted comes about, and activators answer only where they have to."""
        self.open |= set(self.alive)
        for _ in range(36):
            self.wait(1.0)
            while self.write is not None:
                self.write_lands(True)
            if self.writing_zero:
                self.zero_is_written()
            if self.number == 1 and not self.pods:
                self.pod_becomes_ready()
        assert self.number == self.wanted
        assert bool(self.ours) == (self.wanted == 0)


class TestAnyInterleaving(Cluster.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)
