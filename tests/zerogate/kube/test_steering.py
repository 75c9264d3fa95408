"""When a number is written, and who has to be out of the way before."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.fuzz import examples
from zerogate.kube.acts import Act, CloseGate, Member, Order, ReopenGate, SetCost, SetFloor, TellForeign, WriteScale
from zerogate.kube.foreign import SILENT_S
from zerogate.kube.steering import UNSEEN_S, Steering
from zerogate.kube.victims import PIN_S, VICTIM_COST
from zerogate.runtime.interface import ReplicaState, Scale

READY, STARTING = ReplicaState.READY, ReplicaState.STARTING


def scale(replicas: int, generation: int = 1, *victims: str) -> Scale:
    return Scale(service="chat", replicas=replicas, generation=generation, victims=victims)


def leading(number: int, *members: Member, order: Order = Order.BY_COST) -> Steering:
    steering = Steering(order)
    steering.lead(True)
    steering.on_number(number, 1, 0.0)
    steering.on_members(members)
    return steering


def member(
    name: str, state: ReplicaState = READY, *, cost: int = 0, ordinal: int = 0, is_bare: bool = False
) -> Member:  # fmt: skip
    return Member(id=name, state=state, cost=cost, ordinal=ordinal, is_bare=is_bare)


def pinned(replicas: int, generation: int = 1, *victims: str) -> Scale:
    return Scale(service="chat", replicas=replicas, generation=generation, victims=victims, cause="pin")


def taken_by_a_write(*, is_bare: bool = False) -> Steering:
    """Two pods, of which "a" was the victim of a write that has been made; the watch has not shown its end yet."""
    steering = leading(2, member("a", cost=VICTIM_COST, is_bare=is_bare), member("b", is_bare=is_bare))
    steering.want(scale(1, 1, "a"))
    steering.step(1.0)
    steering.on_idle("a")
    assert steering.step(1.0) == [WriteScale(2, 1, ("a",))]
    steering.on_written(2, 1.0)
    return steering


def test_up_is_one_write_to_the_number_wanted_on_condition_of_the_old_one() -> None:
    steering = leading(0)
    steering.want(scale(48))
    assert steering.step(1.0) == [WriteScale(0, 48)]
    assert steering.step(1.0) == []
    steering.on_written(7, 1.0)
    assert (steering.number, steering.step(2.0)) == (48, [])


@pytest.mark.parametrize("is_shown_first", [False, True], ids=["the answer is first", "the watch is first"])
def test_it_is_behind_until_the_watch_has_shown_its_write_and_a_pod_had_time_to_appear(is_shown_first: bool) -> None:
    steering = leading(0)
    assert not steering.is_behind(0.0)
    steering.want(scale(1))
    assert steering.step(1.0) == [WriteScale(0, 1)]
    if is_shown_first:
        steering.on_number(1, 7, 2.0)
        steering.on_written(7, 2.0)
    else:
        steering.on_written(7, 1.0)
        steering.on_number(0, 6, 100.0)
        assert steering.is_behind(1000.0), "a watch that tells old things, or nothing"
        steering.on_number(1, 7, 2.0)
    assert steering.is_behind(2.0 + UNSEEN_S - 0.1)
    assert not steering.is_behind(2.0 + UNSEEN_S), "it will not come"
    steering.on_members([member("a", STARTING)])
    assert not steering.is_behind(2.0)


def test_who_does_not_lead_writes_nothing() -> None:
    steering = leading(0)
    steering.lead(False)
    steering.want(scale(1))
    assert steering.step(1.0) == []
    steering.lead(True)
    assert steering.step(1.0) == [WriteScale(0, 1)]


def test_going_down_closes_marks_sees_the_mark_and_then_writes() -> None:
    steering = leading(2, member("old"), member("young"))
    steering.want(scale(1, 1, "old"))
    assert steering.step(1.0) == [CloseGate("old")]
    assert steering.step(1.0) == []
    steering.on_idle("old")
    assert steering.step(2.0) == [SetCost("old", VICTIM_COST)]
    assert steering.step(2.0) == []
    steering.on_members([member("old", cost=VICTIM_COST), member("young")])
    assert steering.step(3.0) == [WriteScale(2, 1, ("old",))]


def test_a_victim_with_somebody_inside_is_waited_for() -> None:
    steering = leading(2, member("a"), member("b", cost=VICTIM_COST))
    steering.want(scale(1, 1, "b"))
    assert steering.step(1.0) == [CloseGate("b")]
    assert steering.step(500.0) == []


def test_each_victim_goes_as_soon_as_it_is_empty() -> None:
    steering = leading(3, member("a"), member("b"), member("c"))
    steering.want(scale(1, 1, "a", "b"))
    steering.step(1.0)
    steering.on_idle("b")
    assert steering.step(1.0) == [SetCost("b", VICTIM_COST)]
    steering.on_members([member("a"), member("b", cost=VICTIM_COST), member("c")])
    assert steering.step(1.0) == [WriteScale(3, 2, ("b",))]
    steering.on_written(2, 1.0)
    steering.on_members([member("a"), member("c")])
    steering.on_idle("a")
    assert steering.step(1.0) == [SetCost("a", VICTIM_COST)]


def test_nothing_goes_while_another_one_starts_because_the_controller_would_take_that_one() -> None:
    steering = leading(3, member("a"), member("b"), member("new", STARTING))
    steering.want(scale(2, 1, "a"))
    assert steering.step(1.0) == [CloseGate("a")]
    steering.on_idle("a")
    assert steering.step(1.0) == []
    steering.on_members([member("a"), member("b"), member("new")])
    assert steering.step(1.0) == [SetCost("a", VICTIM_COST)]


def test_nothing_goes_in_a_rollout_because_it_is_not_said_which_replica_set_gets_smaller() -> None:
    steering = leading(2, member("a"), member("b"))
    steering.on_members([member("a"), member("b")], is_rolling=True)
    steering.want(scale(1, 1, "a"))
    steering.step(1.0)
    steering.on_idle("a")
    assert steering.step(1.0) == []


def test_one_that_starts_and_is_named_needs_no_cost() -> None:
    steering = leading(2, member("a"), member("new", STARTING))
    steering.want(scale(1, 1, "new"))
    assert steering.step(1.0) == [CloseGate("new")]
    steering.on_idle("new")
    assert steering.step(1.0) == [WriteScale(2, 1, ("new",))]


def test_zero_is_one_write_once_everybody_is_empty_and_needs_no_cost() -> None:
    steering = leading(2, member("a"), member("b"))
    steering.want(scale(0))
    assert steering.step(1.0) == [CloseGate("a"), CloseGate("b")]
    steering.on_idle("a")
    assert steering.step(1.0) == []
    steering.on_idle("b")
    assert steering.step(1.0) == [WriteScale(2, 0, ("a", "b"))]


def test_without_leave_no_gate_is_closed_for_zero_and_one_less_needs_none() -> None:
    steering = leading(2, member("a"), member("b"))
    steering.may_zero = False
    steering.want(scale(0))
    assert steering.step(1.0) == []
    steering.want(scale(1, 2, "a"))
    assert steering.step(1.0) == [CloseGate("a")]
    steering.want(scale(0, 3))
    steering.may_zero = True
    assert steering.step(2.0) == [CloseGate("b")]


def test_it_heads_for_zero_until_a_write_of_zero_has_ended_whatever_is_wanted_by_then() -> None:
    steering = leading(1, member("a"))
    steering.want(scale(0))
    steering.step(1.0)
    steering.on_idle("a")
    assert steering.step(1.0) == [WriteScale(1, 0, ("a",))]
    steering.want(scale(1, 2))
    before = steering.heads_for_zero
    steering.on_written(2, 1.5)
    assert (before, steering.heads_for_zero) == (True, False)


def test_zero_without_any_pod_is_written_at_once() -> None:
    steering = leading(2)
    steering.want(scale(0))
    assert steering.step(1.0) == [WriteScale(2, 0)]


def test_zero_waits_for_a_pod_that_was_asked_for_and_is_not_seen_yet_but_not_for_ever() -> None:
    steering = leading(0)
    steering.want(scale(1))
    steering.step(1.0)
    steering.on_written(2, 1.0)
    steering.want(scale(0, 2))
    assert steering.step(1.0) == []
    assert steering.revisit_at_s(1.0) == 1.0 + UNSEEN_S
    assert steering.step(1.0 + UNSEEN_S) == [WriteScale(1, 0)]


def test_a_stateful_set_loses_its_highest_ordinal_whoever_was_named() -> None:
    pods = [member("db-0", ordinal=0), member("db-1", ordinal=1), member("db-10", ordinal=10)]
    steering = leading(3, *pods, order=Order.BY_ORDINAL)
    steering.want(scale(1, 1, "db-0"))
    assert steering.step(1.0) == [CloseGate("db-10"), CloseGate("db-1")]
    steering.on_idle("db-1")
    assert steering.step(1.0) == [], "db-10 is taken first, and is busy"
    steering.on_idle("db-10")
    assert steering.step(1.0) == [WriteScale(3, 1, ("db-10", "db-1"))]


def test_called_back_while_it_drains_a_replica_gets_its_gate_and_its_cost_back() -> None:
    steering = leading(2, member("a"), member("b"))
    steering.want(scale(1, 1, "a"))
    steering.step(1.0)
    steering.on_idle("a")
    steering.step(1.0)
    steering.want(scale(2, 2))
    assert steering.step(2.0) == [ReopenGate("a"), SetCost("a", 0)]
    steering.on_idle("a")
    assert steering.step(2.0) == []


def test_one_that_was_taken_by_a_write_but_spared_by_the_controller_opens_again() -> None:
    steering = taken_by_a_write()
    steering.on_members([member("a", cost=VICTIM_COST)])
    assert steering.step(1.0) == [ReopenGate("a"), SetCost("a", 0)], "b died by itself, and one of one is there"


def test_one_that_is_busy_after_all_is_not_taken_until_it_is_idle_again() -> None:
    steering = leading(2, member("a"), member("b"))
    steering.want(scale(1, 1, "a"))
    steering.step(1.0)
    steering.on_idle("a")
    assert steering.step(1.0) == [SetCost("a", VICTIM_COST)]
    steering.on_busy("a")
    steering.on_members([member("a", cost=VICTIM_COST), member("b")])
    assert steering.step(2.0) == []
    steering.on_idle("a")
    assert steering.step(3.0) == [WriteScale(2, 1, ("a",))]


def test_one_that_is_busy_after_all_and_stays_gets_its_cost_back_though_the_watch_does_not_show_it_yet() -> None:
    steering = leading(2, member("a"), member("b"))
    steering.want(scale(1, 1, "a"))
    steering.step(1.0)
    steering.on_idle("a")
    steering.step(1.0)
    steering.on_busy("a")
    steering.want(scale(2, 2))
    assert steering.step(2.0) == [ReopenGate("a"), SetCost("a", 0)]


def test_one_that_the_last_leader_marked_goes_first_because_the_controller_would_take_it() -> None:
    steering = leading(2, member("marked", cost=VICTIM_COST), member("idle"))
    steering.want(scale(1, 1, "idle"))
    assert steering.step(1.0) == [CloseGate("marked")]
    steering.on_idle("idle")
    assert steering.step(1.0) == []
    steering.on_idle("marked")
    assert steering.step(1.0) == [WriteScale(2, 1, ("marked",))]


def test_a_cost_that_is_being_taken_back_is_no_mark() -> None:
    steering = leading(2, member("a", cost=VICTIM_COST), member("b"))
    steering.want(scale(1, 1, "a"))
    steering.step(1.0)
    steering.want(scale(2, 2))
    assert steering.step(2.0) == [ReopenGate("a"), SetCost("a", 0)]
    steering.want(scale(1, 3, "a"))
    steering.step(3.0)
    steering.on_idle("a")
    assert steering.step(3.0) == [], "the watch still shows what is about to be another"
    steering.on_members([member("a"), member("b")])
    assert steering.step(4.0) == [SetCost("a", VICTIM_COST)]
    steering.on_members([member("a", cost=VICTIM_COST), member("b")])
    assert steering.step(5.0) == [WriteScale(2, 1, ("a",))]


def test_zero_waits_for_one_that_is_busy_after_all() -> None:
    steering = leading(1, member("a"))
    steering.want(scale(0))
    assert steering.step(9.0) == [CloseGate("a")]
    steering.on_idle("a")
    steering.on_busy("a")
    assert steering.step(9.0) == []
    steering.on_idle("a")
    assert steering.step(9.0) == [WriteScale(1, 0, ("a",))]


def test_one_that_a_write_took_and_the_controller_spared_is_not_taken_by_the_next_while_somebody_is_inside() -> None:
    steering = taken_by_a_write()
    steering.on_busy("a")
    steering.on_members([member("a", cost=VICTIM_COST)])
    steering.want(scale(0, 2))
    assert steering.step(9.0) == [CloseGate("a")]
    steering.on_idle("a")
    assert steering.step(9.0) == [WriteScale(1, 0, ("a",))]


def test_a_pin_does_not_wait_for_what_is_inside_a_pod_without_a_sidecar() -> None:
    steering = leading(1, member("one", is_bare=True))
    steering.want(pinned(0))
    assert steering.step(10.0) == [CloseGate("one")]
    assert steering.revisit_at_s(10.0) == 10.0 + PIN_S
    assert steering.step(10.0 + PIN_S - 0.1) == []
    assert steering.step(10.0 + PIN_S) == [WriteScale(1, 0, ("one",))]


def test_a_pin_waits_for_who_has_a_sidecar_and_demand_for_everybody() -> None:
    for steering, wanted in (
        (leading(1, member("one")), pinned(0)),
        (leading(1, member("one", is_bare=True)), scale(0)),
    ):
        steering.want(wanted)
        assert steering.step(10.0) == [CloseGate("one")]
        assert steering.step(1000.0) == []
        steering.on_idle("one")
        assert steering.step(1000.0) == [WriteScale(1, 0, ("one",))]


def test_a_pinned_victim_without_a_sidecar_is_marked_before_the_number_falls() -> None:
    steering = leading(2, member("one", is_bare=True), member("two", is_bare=True))
    steering.want(pinned(1, 1, "one"))
    assert steering.step(10.0) == [CloseGate("one")]
    assert steering.step(10.0 + PIN_S) == [SetCost("one", VICTIM_COST)]
    assert steering.step(11.0 + PIN_S) == []
    steering.on_members([member("one", is_bare=True, cost=VICTIM_COST), member("two", is_bare=True)])
    assert steering.step(11.0 + PIN_S) == [WriteScale(2, 1, ("one",))]


def test_a_pin_that_was_taken_back_leaves_no_right_to_stop_what_is_busy() -> None:
    steering = leading(2, member("one", is_bare=True), member("two", is_bare=True))
    steering.want(pinned(1, 1, "one"))
    assert steering.step(10.0) == [CloseGate("one")]
    assert steering.step(10.0 + PIN_S) == [SetCost("one", VICTIM_COST)]
    steering.on_members([member("one", is_bare=True, cost=VICTIM_COST), member("two", is_bare=True)])
    steering.want(scale(1, 2, "one"))
    assert steering.step(11.0 + PIN_S) == []
    steering.want(scale(2, 3))
    assert steering.step(12.0 + PIN_S) == [ReopenGate("one"), SetCost("one", 0)]
    steering.want(pinned(1, 4, "one"))
    assert steering.step(100.0) == [CloseGate("one")], "the time begins anew"


def test_one_that_a_write_takes_that_is_on_its_way_is_not_opened_by_who_wants_more() -> None:
    steering = leading(2, member("a", cost=VICTIM_COST), member("b"))
    steering.want(scale(1, 1, "a"))
    steering.step(1.0)
    steering.on_idle("a")
    (write,) = steering.step(1.0)
    assert isinstance(write, WriteScale)
    steering.want(scale(2, 2))
    assert steering.step(1.1) == []
    assert not steering.stands_by(write, 1.1)
    steering.on_failed(1.1)
    assert steering.step(1.1) == [ReopenGate("a"), SetCost("a", 0)]


def test_zero_that_is_on_its_way_is_not_sent_when_leave_for_it_was_withdrawn() -> None:
    steering = leading(1, member("a"))
    steering.want(scale(0))
    steering.step(9.0)
    steering.on_idle("a")
    (write,) = steering.step(9.0)
    assert isinstance(write, WriteScale)
    assert steering.stands_by(write, 9.0)
    steering.may_zero = False
    assert not steering.stands_by(write, 9.0)


def test_who_leads_again_asks_again_about_one_that_a_write_took_and_the_controller_spared() -> None:
    steering = taken_by_a_write()
    steering.lead(False)
    steering.lead(True)
    steering.on_members([member("a", cost=VICTIM_COST)])
    steering.want(scale(0, 2))
    assert steering.step(9.0) == [CloseGate("a")], "what it said was said to the leader before"


def test_a_pin_gives_one_that_the_controller_spared_its_time_anew() -> None:
    steering = taken_by_a_write(is_bare=True)
    steering.on_busy("a")
    steering.on_members([member("a", cost=VICTIM_COST, is_bare=True)])
    steering.want(pinned(0, 2))
    assert steering.step(9.0) == [CloseGate("a")]
    assert steering.revisit_at_s(9.0) == 9.0 + PIN_S
    assert steering.step(9.0 + PIN_S) == [WriteScale(1, 0, ("a",))]


def test_one_that_the_controller_spared_and_that_is_busy_then_has_its_time_from_when_it_was_spared() -> None:
    steering = taken_by_a_write(is_bare=True)
    steering.on_members([member("a", cost=VICTIM_COST, is_bare=True)])
    steering.want(pinned(0, 2))
    assert steering.step(9.0) == [WriteScale(1, 0, ("a",))]
    steering.on_failed(9.0)
    steering.on_busy("a")
    assert steering.revisit_at_s(9.0) == 9.0 + PIN_S
    assert steering.step(9.0) == []
    assert steering.step(9.0 + PIN_S) == [WriteScale(1, 0, ("a",))]


def test_a_cost_that_was_to_be_taken_back_is_a_mark_again_when_that_was_given_up_with_the_lead() -> None:
    steering = leading(2, member("a", cost=VICTIM_COST), member("b"))
    steering.want(scale(1, 1, "a"))
    steering.step(1.0)
    steering.want(scale(2, 2))
    assert steering.step(2.0) == [ReopenGate("a"), SetCost("a", 0)]
    steering.lead(False)
    steering.lead(True)
    steering.want(scale(1, 3, "a"))
    assert steering.step(3.0) == [CloseGate("a")]
    steering.on_idle("a")
    assert steering.step(3.0) == [WriteScale(2, 1, ("a",))]


def test_a_conflict_that_is_older_than_what_the_watch_shows_is_no_foreign_write() -> None:
    steering = leading(1)
    steering.want(scale(3))
    assert steering.step(1.0) == [WriteScale(1, 3)]
    steering.on_number(1, 10, 1.0)
    steering.on_conflict(2, 9, 1.0)
    assert steering.number == 1
    assert steering.step(1.0) == [WriteScale(1, 3)]


def test_a_foreign_write_is_told_and_left_alone_for_a_minute() -> None:
    steering = leading(1, member("a"))
    steering.want(scale(1))
    steering.step(0.0)
    steering.on_number(4, 2, 10.0)
    (told,) = steering.step(10.0)
    assert isinstance(told, TellForeign)
    assert (told.write.before, told.write.found, told.is_hands_off) == (1, 4, False)
    assert steering.step(10.0 + SILENT_S - 0.1) == []
    assert steering.revisit_at_s(20.0) == 10.0 + SILENT_S
    steering.on_members([member(x) for x in "abcd"])
    assert steering.step(10.0 + SILENT_S) == [CloseGate(x) for x in "dcb"]


def test_within_the_minute_who_waits_at_zero_is_woken_all_the_same() -> None:
    steering = leading(1, member("a"))
    steering.want(scale(1))
    steering.on_number(0, 2, 10.0)
    assert steering.step(10.0)[1:] == [WriteScale(0, 1)]


def test_after_three_foreign_writes_in_ten_minutes_hands_are_off_until_the_policy_changes() -> None:
    steering = leading(1)
    for at_s, number in ((100.0, 0), (200.0, 2), (300.0, 0)):
        steering.on_number(number, int(at_s), at_s)
    steering.want(scale(1))
    told = [act.is_hands_off for act in steering.step(300.0) if isinstance(act, TellForeign)]
    assert told == [False, False, True]
    assert steering.step(9_999.0) == []
    steering.on_policy_changed()
    assert steering.step(9_999.0) == [WriteScale(0, 1)]


def test_gateways_that_wake_it_themselves_are_told_of_and_no_quarrel() -> None:
    steering = leading(0)
    for version, number in enumerate((1, 0) * 3, start=2):
        steering.on_number(number, version, 100.0 * version)
    told = [act for act in steering.step(700.0) if isinstance(act, TellForeign)]
    assert [(act.write.is_wake, act.is_hands_off) for act in told] == [
        (True, False), (False, False), (True, False), (False, False), (True, False), (False, True)
    ]  # fmt: skip


def test_three_foreign_writes_in_an_hour_are_three_people_at_work() -> None:
    steering = leading(1)
    for at_s, number in ((100.0, 0), (1_000.0, 1), (1_900.0, 0)):
        steering.on_number(number, int(at_s), at_s)
    assert [act.is_hands_off for act in steering.step(2_000.0) if isinstance(act, TellForeign)] == [False] * 3


@pytest.mark.parametrize("is_watch_first", [True, False], ids=["watch before answer", "answer before watch"])
def test_our_own_write_is_no_foreign_one_whichever_way_we_hear_of_it_first(is_watch_first: bool) -> None:
    steering = leading(0)
    steering.want(scale(1))
    steering.step(1.0)
    if is_watch_first:
        steering.on_number(1, 5, 1.0)
        steering.on_written(5, 1.0)
    else:
        steering.on_written(5, 1.0)
        steering.on_number(0, 4, 1.0)
        steering.on_number(1, 5, 1.0)
    assert steering.step(1.0) == []
    assert steering.foreign.last is None


def test_a_conflict_is_a_foreign_write() -> None:
    steering = leading(1)
    steering.want(scale(3))
    assert steering.step(1.0) == [WriteScale(1, 3)]
    steering.on_conflict(2, 9, 1.0)
    (told,) = steering.step(1.0)
    assert isinstance(told, TellForeign)
    assert steering.step(1.0 + SILENT_S) == [WriteScale(2, 3)]


def test_a_conflict_with_a_number_we_know_already_is_only_a_second_try() -> None:
    steering = leading(0)
    steering.want(scale(1))
    steering.step(1.0)
    steering.on_conflict(0, 9, 1.0)
    assert steering.step(1.0) == [WriteScale(0, 1)]


def test_a_write_that_failed_is_tried_again_when_it_may() -> None:
    steering = leading(0)
    steering.want(scale(1))
    steering.step(1.0)
    steering.on_failed(5.0)
    assert (steering.step(4.9), steering.revisit_at_s(4.9)) == ([], 5.0)
    assert steering.step(5.0) == [WriteScale(0, 1)]


def test_an_older_generation_changes_nothing() -> None:
    steering = leading(0)
    steering.want(scale(2, 5))
    steering.want(scale(9, 4))
    assert steering.step(1.0) == [WriteScale(0, 2)]


class Cluster(RuleBasedStateMachine):
    """A Deployment with the ReplicaSet controller's own choice of victims, and news in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.steering = Steering(Order.BY_COST)
        self.steering.lead(True)
        self.now_s = 0.0
        self.version = 1
        self.number = 0
        self.pods: dict[str, Member] = {}
        self.closed: set[str] = set()
        self.inside: dict[str, int] = {}
        self.generation = 0
        self.born = 0
        self.write: WriteScale | None = None
        self.costs: list[SetCost] = []
        self.wanted = 0
        self.seen: set[str] = set()
        self.is_inherited = False
        self.steering.on_number(0, 1, 0.0)

    def carry_out(self) -> None:
        for act in self.steering.step(self.now_s):
            self.act(act)

    def act(self, act: Act) -> None:
        match act:
            case WriteScale():
                assert self.write is None, "two writes at a time"
                self.write = act
            case CloseGate(id_):
                if id_ in self.pods:
                    self.closed.add(id_)
            case ReopenGate(id_):
                self.closed.discard(id_)
            case SetCost():
                self.costs.append(act)
            case TellForeign():
                raise AssertionError("nobody else writes here")

    def control(self) -> None:
        """The ReplicaSet controller's turn."""
        while len(self.pods) < self.number:
            self.born += 1
            self.pods[f"p{self.born}"] = member(f"p{self.born}", STARTING)
        rank = sorted(self.pods.values(), key=lambda pod: (pod.state is READY, pod.cost))
        for pod in rank[: len(self.pods) - self.number]:
            assert not self.inside.get(pod.id), f"{pod.id} was taken with somebody inside"
            assert pod.id in self.closed or pod.state is STARTING, f"{pod.id} was taken with its gate open"
            del self.pods[pod.id]
            self.closed.discard(pod.id)

    @rule(count=st.integers(0, 5))
    def want(self, count: int) -> None:
        # as the deciding side does: fewer only while none starts
        starting = any(pod.state is STARTING for pod in self.pods.values()) or len(self.pods) < self.number
        if count < self.number and starting:
            return
        self.wanted = count
        self.generation += 1
        self.steering.want(scale(count, self.generation, *list(self.pods)[: max(0, self.number - count)]))
        self.carry_out()

    @precondition(lambda self: self.write is not None)
    @rule()
    def the_api_server_answers(self) -> None:
        write = self.write
        assert write is not None
        assert write.old == self.number
        self.write = None
        self.number = write.new
        self.version += 1
        self.steering.on_written(self.version, self.now_s)
        self.control()
        self.carry_out()

    @precondition(lambda self: self.costs)
    @rule()
    def a_cost_is_written(self) -> None:
        act = self.costs.pop(0)
        if act.id in self.pods:
            self.pods[act.id] = member(act.id, self.pods[act.id].state, cost=act.cost)

    @rule()
    def the_watch_tells(self) -> None:
        self.steering.on_members(list(self.pods.values()))
        self.seen = set(self.pods)
        self.carry_out()

    @rule()
    def one_becomes_ready(self) -> None:
        # a model takes longer to load than the watch or an answer of the API server takes
        for pod in self.pods.values():
            if pod.state is STARTING and pod.id in self.seen and self.write is None:
                self.pods[pod.id] = member(pod.id, READY, cost=pod.cost)
                return

    @rule()
    def one_dies(self) -> None:
        if self.pods:
            gone = next(iter(self.pods))
            del self.pods[gone]
            self.inside.pop(gone, None)
            self.closed.discard(gone)
            self.control()

    @rule(data=st.data())
    def a_request_comes(self, data: st.DataObject) -> None:
        open_ones = [pod.id for pod in self.pods.values() if pod.state is READY and pod.id not in self.closed]
        if open_ones:
            chosen = data.draw(st.sampled_from(open_ones))
            self.inside[chosen] = self.inside.get(chosen, 0) + 1

    @rule()
    def all_requests_end(self) -> None:
        self.inside.clear()

    @rule(data=st.data())
    def one_comes_without_a_gateway(self, data: st.DataObject) -> None:
        # no write is under way: what it takes drains, and is not what this is about
        shut = [id_ for id_ in self.closed if id_ in self.pods and self.write is None]
        if shut:
            chosen = data.draw(st.sampled_from(sorted(shut)))
            self.inside[chosen] = self.inside.get(chosen, 0) + 1
            self.steering.on_busy(chosen)
            self.carry_out()

    @rule()
    def another_one_leads(self) -> None:
        self.steering = Steering(Order.BY_COST)
        self.steering.lead(True)
        self.closed.clear()
        self.costs.clear()
        self.write = None
        self.is_inherited = True
        self.steering.on_number(self.number, self.version, self.now_s)
        self.steering.want(scale(self.wanted, self.generation))
        self.the_watch_tells()

    @rule()
    def gates_report(self) -> None:
        for id_ in list(self.closed):
            if not self.inside.get(id_):
                self.steering.on_idle(id_)
        self.carry_out()

    @invariant()
    def closed_gates_are_known(self) -> None:
        assert self.closed <= self.steering.draining | set(self.pods)

    def teardown(self) -> None:
        for _ in range(40):
            self.now_s += 10.0
            self.all_requests_end()
            if self.write is not None:
                self.the_api_server_answers()
            while self.costs:
                self.a_cost_is_written()
            for _ in self.pods:
                self.one_becomes_ready()
            self.the_watch_tells()
            self.gates_report()
        assert self.number == self.wanted, "what was wanted is never written"
        assert not self.closed, "a replica that stays has its gate shut"
        assert self.is_inherited or all(pod.cost == 0 for pod in self.pods.values())


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=examples(400), stateful_step_count=50, deadline=None)


def test_a_follower_takes_every_number_for_the_leaders() -> None:
    steering = leading(0)
    steering.lead(False)
    for version, number in enumerate((1, 2, 0, 3), start=2):
        steering.on_number(number, version, float(version))
    assert (steering.number, steering.foreign.last, steering.step(9.0)) == (3, None, [])


def test_the_last_leaders_last_write_is_nobody_elses() -> None:
    steering = leading(1)
    steering.lead(False)
    steering.lead(True, inherits_until_s=12.0)
    steering.on_number(2, 2, 11.0)
    assert steering.foreign.last is None
    steering.on_number(4, 3, 13.0)
    assert steering.foreign.last is not None


def floored(number: int) -> Steering:
    steering = leading(number)
    steering.is_floored = True
    return steering


@pytest.mark.parametrize(("number", "wanted"), [(22, 24), (88, 89), (3, 2)], ids=["V10", "V11", "down"])
def test_under_an_hpa_only_its_floor_moves_and_exactly(number: int, wanted: int) -> None:
    steering = floored(number)
    steering.want(scale(wanted))
    assert steering.step(1.0) == [SetFloor(wanted)]
    assert steering.step(1.0) == []
    steering.on_floor(wanted)
    assert steering.step(2.0) == []
    assert steering.revisit_at_s(2.0) is None


def test_from_zero_the_floor_goes_first_and_the_number_after_it() -> None:
    steering = floored(0)
    steering.want(scale(21))
    assert steering.step(1.0) == [SetFloor(21)]
    steering.on_floor(21)
    assert steering.step(1.0) == [WriteScale(0, 21)]


def test_to_zero_it_goes_as_everything_does() -> None:
    steering = floored(1)
    steering.on_members([member("a")])
    steering.want(scale(0))
    assert steering.step(1.0) == [CloseGate("a")]
    steering.on_idle("a")
    assert steering.step(1.0) == [WriteScale(1, 0, ("a",))]


def test_what_the_hpa_writes_is_no_quarrel_and_what_others_write_to_zero_is_told() -> None:
    steering = floored(2)
    steering.want(scale(2))
    steering.on_floor(2)
    for version, number in enumerate((5, 9, 4, 3), start=2):
        steering.on_number(number, version, float(version))
    assert (steering.step(9.0), steering.foreign.last) == ([], None)
    steering.on_number(0, 9, 9.0)
    assert [type(act) for act in steering.step(9.0)] == [TellForeign, WriteScale]


def test_a_floor_that_was_not_written_is_tried_again_and_by_the_next_leader_too() -> None:
    steering = floored(2)
    steering.want(scale(3))
    assert steering.step(1.0) == [SetFloor(3)]
    steering.on_floor_failed(5.0, "it is away")
    assert (steering.step(4.0), steering.revisit_at_s(4.0)) == ([], 5.0)
    assert steering.step(5.0) == [SetFloor(3)]
    steering.on_floor(3)
    steering.lead(False)
    steering.lead(True)
    assert steering.step(6.0) == [SetFloor(3)]
