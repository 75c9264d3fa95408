"""One decision: the vectors and behaviours that users notice, then what must hold for any input."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.decide import begin, decide
from autoscaler.decision import Ask, Decision, Memory, Observation, Pin, Replicas, Traffic
from tests.fuzz import examples
from zerogate.policy import Policy

NOW_S = 10_000.0
WALL_S = 1_700_000_000.0


def quiet(**known: Any) -> Traffic:
    """A service with nothing going on, about which everything is known."""
    rest: dict[str, Any] = {
        "mean_running_stable": 0.0,
        "mean_running_panic": 0.0,
        "arrival_rate_stable": 0.0,
        "arrival_rate_panic": 0.0,
    }
    return Traffic(**(rest | known))


def steady(running: float, *, rate: float, run_time_s: float | None, **more: Any) -> Traffic:
    """Traffic that has been the same in both windows."""
    return quiet(
        in_flight=round(running),
        mean_running_stable=running,
        mean_running_panic=running,
        arrival_rate_stable=rate,
        arrival_rate_panic=rate,
        run_time_s=run_time_s,
        since_byte_s=0.0,
        **more,
    )


def seen(traffic: Traffic, *, pin: Pin | None = None, **replicas: Any) -> Observation:
    return Observation(service="chat", wall_s=WALL_S, traffic=traffic, replicas=Replicas(**replicas), pin=pin)


def granted(replicas: int, **more: Any) -> Memory:
    return msgspec.structs.replace(begin(NOW_S - 3600.0, current=replicas), **more)


def once(policy: Policy, observation: Observation, memory: Memory | None = None, now_s: float = NOW_S) -> Decision:
    current = observation.replicas.starting + observation.replicas.ready
    return decide(policy, observation, memory or granted(current), now_s)[0]


@pytest.mark.parametrize("boot_s", [120.0, 300.0])
def test_a_backlog_gathered_while_a_model_loads_is_work_to_do_once(boot_s: float) -> None:
    policy = Policy(max_replicas=300, target_concurrency=8)
    asked = []
    memory = granted(0)
    for second in range(int(boot_s)):
        now_s = NOW_S + second
        traffic = quiet(
            held=5 * (second + 1),
            arrival_rate_stable=5 * min(second + 1, 60) / 60,
            arrival_rate_panic=5 * min(second + 1, 6) / 6,
            run_time_s=2.0,
            since_byte_s=0.0,
        )
        starting_for_s = float(second) if memory.granted else None
        observation = seen(traffic, starting=memory.granted, boot_time_s=boot_s, starting_for_s=starting_for_s)
        decision, memory = decide(policy, observation, memory, now_s)
        asked.append(decision.desired)
    assert max(asked) == asked[-1] == 3


def test_a_boot_under_way_tells_how_long_boots_are_before_one_was_learned() -> None:
    policy = Policy(max_replicas=300, target_concurrency=8)
    traffic = quiet(held=600, arrival_rate_stable=5.0, arrival_rate_panic=5.0, run_time_s=2.0, since_byte_s=0.0)
    assert once(policy, seen(traffic, starting=3, starting_for_s=120.0)).desired == 3


def test_draining_a_backlog_does_not_ask_for_more_than_gathering_it_did() -> None:
    policy = Policy(max_replicas=300, target_concurrency=8)
    traffic = steady(24.0, rate=5.0, run_time_s=2.0, held=576)
    assert once(policy, seen(traffic, ready=3, boot_time_s=120.0)).desired == 3


def test_a_crowd_at_a_service_that_never_ran_gets_its_replicas_in_one_decision() -> None:
    policy = Policy(max_replicas=64, target_concurrency=10)
    decision = once(policy, seen(quiet(held=480, since_byte_s=0.0)))
    assert (decision.desired, decision.winner) == (48, Ask.DEMAND)


def test_those_of_a_crowd_that_already_run_keep_their_places() -> None:
    policy = Policy(max_replicas=64, target_concurrency=10)
    traffic = quiet(held=470, in_flight=10, since_byte_s=0.0)
    assert once(policy, seen(traffic, ready=1, starting=46)).desired == 48


def test_a_burst_in_flight_is_answered_by_what_runs_now() -> None:
    policy = Policy(max_replicas=50, target_concurrency=100)
    traffic = quiet(in_flight=800, mean_running_stable=800 / 60, mean_running_panic=800 / 6, since_byte_s=0.0)
    assert once(policy, seen(traffic, ready=1)).desired == 8


@pytest.mark.parametrize(("mean", "replicas"), [(1.005, 1), (1.05, 2), (3.005, 3), (3.05, 4)])
def test_reports_that_jitter_ask_for_no_replica_more(mean: float, replicas: int) -> None:
    policy = Policy(max_replicas=9, target_concurrency=1)
    traffic = quiet(in_flight=1, mean_running_stable=mean, mean_running_panic=mean, since_byte_s=0.0)
    assert once(policy, seen(traffic, ready=replicas), granted(replicas)).desired == replicas


def test_the_hard_limit_is_the_target_where_it_is_smaller() -> None:
    policy = Policy(max_replicas=50, target_concurrency=8, concurrency_limit=4)
    assert once(policy, seen(steady(12.0, rate=0.0, run_time_s=None), ready=1)).desired == 3


def test_a_burst_of_long_requests_is_not_taken_for_a_rate_without_end() -> None:
    policy = Policy(max_replicas=1000, target_concurrency=10)
    traffic = quiet(held=480, arrival_rate_stable=8.0, arrival_rate_panic=80.0, run_time_s=300.0, since_byte_s=0.0)
    assert once(policy, seen(traffic)).desired <= 2 * 48


@pytest.mark.parametrize(
    ("rate", "held", "desired"),
    [
        pytest.param(25.0, 0, 3, id="rate over target"),
        pytest.param(0.0, 600, 2, id="backlog over thirty seconds"),
        pytest.param(10.0, 0, 1, id="exactly one"),
    ],
)
def test_requests_per_second_can_be_the_measure(rate: float, held: int, desired: int) -> None:
    policy = Policy(max_replicas=9, metric="rps", target_rps=10.0)
    traffic = steady(1.0, rate=rate, run_time_s=0.1, held=held)
    assert once(policy, seen(traffic, ready=1)).desired == desired


def test_starting_replicas_are_not_missing_ones() -> None:
    policy = Policy(max_replicas=100, target_concurrency=8)
    memory = granted(0)
    for second in range(240):
        observation = seen(quiet(held=40, since_byte_s=0.0), starting=memory.granted)
        decision, memory = decide(policy, observation, memory, NOW_S + second)
        assert decision.desired == 5


@pytest.mark.parametrize(("floor", "current"), [(24, 22), (89, 88), (21, 0)], ids=["V10", "V11", "V12"])
def test_a_floor_is_exact_and_immediate(floor: int, current: int) -> None:
    policy = Policy(min_replicas=floor, max_replicas=100)
    decision = once(policy, seen(quiet(), ready=current))
    assert (decision.desired, decision.winner) == (floor, Ask.MINIMUM)


def test_a_floor_applies_where_nothing_is_known_about_traffic() -> None:
    decision = once(Policy(min_replicas=2, max_replicas=3), seen(Traffic(is_fresh=False)))
    assert decision.desired == 2


def test_a_floor_that_ended_leaves_no_delay_behind() -> None:
    _, memory = decide(Policy(min_replicas=24, max_replicas=24), seen(quiet(), ready=24), granted(0), NOW_S)
    decision = once(Policy(max_replicas=24), seen(quiet(since_byte_s=4000.0), ready=24), memory, NOW_S + 1)
    assert (decision.desired, decision.winner) == (0, Ask.IDLE)


def test_the_maximum_bounds_demand_and_says_what_was_asked_for() -> None:
    decision = once(Policy(max_replicas=3), seen(steady(80.0, rate=1.0, run_time_s=80.0), ready=3))
    assert (decision.desired, decision.winner) == (3, Ask.MAXIMUM)
    assert decision.held_back is not None
    assert "10 were asked for" in decision.held_back


def test_a_number_that_was_never_granted_delays_nothing_later() -> None:
    policy = Policy(max_replicas=4, scale_down_delay_s=60.0)
    _, memory = decide(policy, seen(steady(800.0, rate=1.0, run_time_s=1.0), ready=4), granted(4), NOW_S)
    assert memory.shaped == 4


def test_a_pin_has_the_last_word_above_the_maximum_and_until_it_ends() -> None:
    policy = Policy(max_replicas=1)
    pin = Pin(replicas=3, until_wall_s=WALL_S + 90.0)
    decision = once(policy, seen(quiet(), pin=pin))
    assert (decision.desired, decision.winner) == (3, Ask.PIN)
    assert decision.why == "somebody pinned it to 3 for another 1m 30s"
    assert decision.next_change == "the pin ends in 1m 30s"
    assert decision.revisit_at_s == NOW_S + 60.0
    ended = once(policy, seen(quiet(), pin=Pin(replicas=3, until_wall_s=WALL_S)))
    assert ended.desired == 0


def test_a_pin_to_zero_pauses_a_service_that_is_asked_for() -> None:
    decision = once(Policy(), seen(steady(3.0, rate=1.0, run_time_s=1.0, held=2), pin=Pin(replicas=0), ready=1))
    assert (decision.desired, decision.winner) == (0, Ask.PIN)


def test_idle_goes_from_many_to_zero_in_one_write() -> None:
    decision = once(Policy(max_replicas=20, idle_timeout_s=15.0), seen(quiet(since_byte_s=15.0), ready=20))
    assert (decision.desired, decision.winner, decision.revisit_at_s) == (0, Ask.IDLE, None)


def test_that_much_quiet_ends_a_panic_too() -> None:
    memory = granted(4, panic_at_s=NOW_S - 16.0)
    decision, after = decide(Policy(idle_timeout_s=15.0), seen(quiet(since_byte_s=15.0), ready=4), memory, NOW_S)
    assert (decision.desired, after.panic_at_s, after.shaped) == (0, None, 0)


def test_before_the_idle_timeout_it_says_when_zero_comes() -> None:
    decision = once(Policy(idle_timeout_s=300.0), seen(quiet(since_byte_s=48.0), ready=1))
    assert (decision.desired, decision.winner) == (1, Ask.HOLDING)
    assert decision.held_back == "quiet for 48s; idle-timeout is 5m"
    assert decision.next_change == "to 0 in 4m 12s (idle-timeout)"
    assert decision.revisit_at_s == pytest.approx(NOW_S + 252.0)


def test_what_is_over_does_not_wake_a_service_again() -> None:
    traffic = quiet(mean_running_stable=4.0, arrival_rate_stable=2.0, run_time_s=2.0, since_byte_s=16.0)
    decision = once(Policy(idle_timeout_s=15.0), seen(traffic))
    assert (decision.desired, decision.revisit_at_s) == (0, None)


@pytest.mark.parametrize(
    ("observation", "word"),
    [
        pytest.param(seen(quiet(since_byte_s=900.0), starting=1), "starting", id="C18: loading is activity"),
        pytest.param(seen(quiet(since_byte_s=900.0), ready=1, last_ready_at_s=NOW_S - 1.0), "idle-timeout", id="C18"),
        pytest.param(seen(quiet(since_byte_s=900.0, is_fresh=False), ready=1), "silent", id="a silent source"),
        pytest.param(seen(quiet(since_byte_s=900.0, is_settled=False), ready=1), "unknown", id="after a gap"),
        pytest.param(seen(Traffic(since_byte_s=900.0), ready=1), "unknown", id="nothing known"),
        pytest.param(seen(quiet(in_flight=1, since_byte_s=900.0), ready=1), "running", id="a silent stream"),
        pytest.param(seen(quiet(held=1, since_byte_s=900.0), ready=1), "held", id="a held request"),
    ],
)
def test_zero_is_withheld(observation: Observation, word: str) -> None:
    decision = once(Policy(idle_timeout_s=15.0), observation)
    assert decision.desired == 1
    assert word in f"{decision.why} {decision.held_back}"


@pytest.mark.parametrize(
    ("traffic", "replicas", "desired"),
    [
        (quiet(since_byte_s=0.0), {"starting": 1, "overdue": 1}, 0),
        (quiet(since_byte_s=0.0), {"starting": 2, "overdue": 1}, 1),
        (quiet(since_byte_s=0.0, held=1), {"starting": 1, "overdue": 1}, 1),
        (quiet(since_byte_s=0.0), {"starting": 1, "overdue": 1, "ready": 1}, 1),
        (quiet(since_byte_s=900.0), {"starting": 1, "overdue": 1, "ready": 1, "last_ready_at_s": NOW_S - 900.0}, 0),
        (quiet(since_byte_s=0.0, is_fresh=False), {"starting": 1, "overdue": 1}, 1),
    ],
    ids=["alone", "another starts", "somebody waits", "one is ready", "one is ready and idle", "a silent source"],
)
def test_what_nobody_waits_for_any_more_is_not_kept_for_being_loaded(
    traffic: Traffic, replicas: dict[str, Any], desired: int
) -> None:
    assert once(Policy(idle_timeout_s=15.0), seen(traffic, **replicas), granted(1)).desired == desired


@pytest.mark.parametrize("replicas", [{}, {"ready": 1}], ids=["none is seen", "one is seen"])
def test_what_the_cluster_has_not_shown_yet_is_unknown_and_not_gone(replicas: dict[str, Any]) -> None:
    observation = seen(quiet(since_byte_s=900.0), **replicas)
    assert once(Policy(idle_timeout_s=15.0), observation, granted(1)).desired == 0
    behind = msgspec.structs.replace(observation, is_behind=True)
    decision = once(Policy(idle_timeout_s=15.0), behind, granted(1))
    assert (decision.desired, decision.revisit_at_s) == (1, NOW_S + 5.0)
    assert "has not shown yet" in decision.why
    assert once(Policy(), behind, granted(0)).desired == 0, "nothing was asked for"


def test_replicas_that_are_only_not_ready_any_more_are_not_gone() -> None:
    """As all pods of a node are called when the API server was away for longer than the node may be silent."""
    between_two_requests = quiet(since_byte_s=0.1)
    policy = Policy(max_replicas=4, idle_timeout_s=15.0)
    assert once(policy, seen(between_two_requests, draining=4), granted(4)).desired > 0
    assert once(policy, seen(between_two_requests), granted(4)).desired == 0, "these are gone"
    assert once(policy, seen(quiet(since_byte_s=900.0), draining=4), granted(4)).desired == 0, "idle all the same"


def test_a_replica_that_goes_because_it_never_came_is_said_to() -> None:
    decision = once(Policy(), seen(quiet(since_byte_s=0.0), starting=1, overdue=1))
    assert decision.why == "nothing is held, and 1 replica did not get ready within start-timeout"


def test_a_service_without_traffic_keeps_its_idle_timeout_from_the_first_look() -> None:
    memory = begin(NOW_S - 14.0, current=1)
    assert once(Policy(idle_timeout_s=15.0), seen(quiet(), ready=1), memory).desired == 1
    assert once(Policy(idle_timeout_s=15.0), seen(quiet(), ready=1), memory, NOW_S + 1.0).desired == 0


def test_a_short_request_every_ten_seconds_keeps_a_service_up() -> None:
    policy, memory = Policy(idle_timeout_s=15.0), granted(1)
    for step in range(3600):
        traffic = quiet(
            mean_running_stable=0.002, arrival_rate_stable=0.1, run_time_s=0.02, since_byte_s=float(step % 10)
        )
        decision, memory = decide(policy, seen(traffic, ready=1), memory, NOW_S + step)
        assert decision.desired == 1


def test_demand_that_fell_is_followed_after_the_delay_and_by_halves() -> None:
    policy = Policy(max_replicas=16, target_concurrency=1, scale_down_delay_s=60.0)
    memory, desired = granted(16), []
    for second in range(0, 260, 10):
        observation = seen(steady(2.0, rate=1.0, run_time_s=2.0), ready=memory.granted)
        decision, memory = decide(policy, observation, memory, NOW_S + second)
        desired.append(decision.desired)
    assert desired == [16] * 6 + [8] * 6 + [4] * 6 + [2] * 8


def test_a_peak_within_the_delay_is_not_undercut() -> None:
    policy = Policy(max_replicas=16, target_concurrency=1, scale_down_delay_s=60.0)
    memory = granted(10)
    for second, running in ((0, 2.0), (30, 7.0), (60, 2.0)):
        observation = seen(steady(running, rate=1.0, run_time_s=2.0), ready=10)
        decision, memory = decide(policy, observation, memory, NOW_S + second)
    assert decision.desired == 7


def test_a_panic_never_lowers_and_ends_a_stable_window_later() -> None:
    policy = Policy(max_replicas=100, target_concurrency=10, scale_down_delay_s=0.0)
    burst = quiet(in_flight=400, mean_running_stable=40.0, mean_running_panic=400.0, since_byte_s=0.0)
    decision, memory = decide(policy, seen(burst, ready=4), granted(4), NOW_S)
    assert decision.desired == 40
    calm = steady(10.0, rate=1.0, run_time_s=10.0)
    held, memory = decide(policy, seen(calm, ready=40), memory, NOW_S + 59.0)
    assert (held.desired, held.winner, held.revisit_at_s) == (40, Ask.HOLDING, NOW_S + 60.0)
    assert decide(policy, seen(calm, ready=40), memory, NOW_S + 60.0)[0].desired == 1


def test_a_back_off_changes_nothing_but_says_so() -> None:
    decision = once(Policy(), seen(quiet(held=1, since_byte_s=0.0), next_try_at_s=NOW_S + 12.0), granted(1))
    assert decision.desired == 1
    assert decision.held_back == "starts failed repeatedly and are suspended; the next try is in 12s"
    assert decision.revisit_at_s == NOW_S + 12.0


POLICIES = st.builds(
    Policy,
    min_replicas=st.integers(0, 5),
    max_replicas=st.integers(5, 60),
    target_concurrency=st.sampled_from([1.0, 8.0, 100.0]),
    concurrency_limit=st.sampled_from([0, 1, 10]),
    metric=st.sampled_from(["concurrency", "rps"]),
    target_rps=st.sampled_from([0.5, 20.0]),
    idle_timeout_s=st.sampled_from([1.0, 15.0, 300.0]),
    scale_down_delay_s=st.sampled_from([0.0, 60.0]),
    scale_down_rate=st.sampled_from([1.1, 2.0, 10.0]),
)
AMOUNTS = st.floats(0.0, 500.0)
KNOWN = st.builds(
    Traffic,
    in_flight=st.integers(0, 900),
    held=st.integers(0, 900),
    mean_running_stable=AMOUNTS,
    mean_running_panic=AMOUNTS,
    arrival_rate_stable=AMOUNTS,
    arrival_rate_panic=AMOUNTS,
    run_time_s=st.none() | AMOUNTS,
    since_byte_s=st.none() | AMOUNTS,
    is_fresh=st.booleans(),
)
UNKNOWN = st.builds(Traffic, in_flight=st.integers(0, 900), held=st.integers(0, 900), is_fresh=st.just(False)) | (
    KNOWN.map(lambda traffic: msgspec.structs.replace(traffic, is_settled=False))
)
REPLICAS = st.builds(
    Replicas,
    starting=st.integers(0, 9),
    ready=st.integers(0, 50),
    last_ready_at_s=st.none() | st.floats(NOW_S - 900.0, NOW_S),
    boot_time_s=st.none() | AMOUNTS,
    starting_for_s=st.none() | AMOUNTS,
    next_try_at_s=st.none() | st.floats(NOW_S - 50.0, NOW_S + 50.0),
)
PINS = st.none() | st.builds(
    Pin, replicas=st.integers(0, 99), until_wall_s=st.none() | st.floats(WALL_S - 50.0, WALL_S + 50.0)
)
MEMORIES = st.builds(
    Memory,
    since_s=st.floats(NOW_S - 900.0, NOW_S),
    granted=st.integers(0, 60),
    shaped=st.integers(0, 60),
    low_since_s=st.none() | st.floats(NOW_S - 90.0, NOW_S),
    low_peak=st.integers(0, 60),
    panic_at_s=st.none() | st.floats(NOW_S - 90.0, NOW_S),
)


def observations(traffic: st.SearchStrategy[Traffic]) -> st.SearchStrategy[Observation]:
    return st.builds(
        Observation,
        service=st.just("chat"),
        wall_s=st.just(WALL_S),
        traffic=traffic,
        replicas=REPLICAS,
        pin=PINS,
    )


@given(POLICIES, observations(KNOWN | UNKNOWN), MEMORIES)
def test_any_decision_is_sound(policy: Policy, observation: Observation, memory: Memory) -> None:
    decision, after = decide(policy, observation, memory, NOW_S)
    assert (decision, after) == decide(policy, observation, memory, NOW_S)
    assert decision.desired >= 0
    assert decision.winner is Ask.PIN or decision.desired <= policy.max_replicas
    assert decision.revisit_at_s is None or decision.revisit_at_s > NOW_S
    assert decision.why
    assert after.granted == decision.desired
    assert after.shaped <= policy.max_replicas
    assert decision == msgspec.json.decode(msgspec.json.encode(decision), type=Decision)


@given(POLICIES, observations(KNOWN | UNKNOWN), MEMORIES, st.integers(0, 5))
def test_a_higher_minimum_never_lowers(policy: Policy, observation: Observation, memory: Memory, minimum: int) -> None:
    higher = msgspec.structs.replace(policy, min_replicas=max(policy.min_replicas, minimum))
    assert once(higher, observation, memory).desired >= once(policy, observation, memory).desired


@given(POLICIES, observations(UNKNOWN), MEMORIES)
def test_what_is_unknown_lowers_nothing(policy: Policy, observation: Observation, memory: Memory) -> None:
    decision = once(policy, observation, memory)
    assert decision.winner is Ask.PIN or decision.desired >= min(memory.granted, policy.max_replicas)


SELDOM = st.sampled_from([0, 0, 0, 0, 1])
ALMOST_IDLE = st.builds(
    Observation,
    service=st.just("chat"),
    wall_s=st.just(WALL_S),
    traffic=st.builds(
        quiet,
        in_flight=SELDOM,
        held=SELDOM,
        since_byte_s=st.sampled_from([None, 0.5, 14.0, 16.0, 400.0]),
        is_fresh=st.sampled_from([True, True, True, False]),
    ),
    replicas=st.builds(
        Replicas,
        starting=SELDOM,
        ready=st.integers(0, 2),
        last_ready_at_s=st.sampled_from([None, NOW_S - 14.0, NOW_S - 16.0]),
    ),
)
"""At most a few things speak against zero: among any observations there is hardly one that lets a service go to it."""


@settings(max_examples=examples(500))
@given(ALMOST_IDLE, st.integers(1, 3))
def test_zero_is_only_said_when_nothing_speaks_against_it(observation: Observation, before: int) -> None:
    policy, traffic, replicas = Policy(idle_timeout_s=15.0, max_replicas=3), observation.traffic, observation.replicas
    if once(policy, observation, granted(before)).desired == 0:
        assert not traffic.held
        assert not traffic.in_flight
        assert traffic.is_fresh
        assert not replicas.starting
        if replicas.ready:
            assert traffic.since_byte_s is None or traffic.since_byte_s >= 14.99
            assert replicas.last_ready_at_s is None or NOW_S - replicas.last_ready_at_s >= 14.99


@given(POLICIES, observations(KNOWN), MEMORIES, st.floats(0.0, 59.0))
def test_while_a_panic_lasts_a_service_in_use_is_never_lowered(
    policy: Policy, observation: Observation, memory: Memory, ago_s: float
) -> None:
    observation = msgspec.structs.replace(
        observation, pin=None, traffic=msgspec.structs.replace(observation.traffic, in_flight=1)
    )
    memory = msgspec.structs.replace(memory, panic_at_s=NOW_S - ago_s, granted=memory.shaped)
    assert once(policy, observation, memory).desired >= min(memory.shaped, policy.max_replicas)


@given(POLICIES, observations(KNOWN), MEMORIES, st.integers(0, 900))
def test_more_requests_inside_never_ask_for_less(
    policy: Policy, observation: Observation, memory: Memory, more: int
) -> None:
    traffic = observation.traffic
    busier = msgspec.structs.replace(
        observation, traffic=msgspec.structs.replace(traffic, in_flight=traffic.in_flight + more)
    )
    assert once(policy, busier, memory).desired >= once(policy, observation, memory).desired


def test_a_start_that_failed_is_not_tried_again_for_nobody() -> None:
    policy = Policy(idle_timeout_s=300.0)
    traffic = quiet(since_byte_s=2.0)
    gone = Observation(service="chat", wall_s=0.0, traffic=traffic, replicas=Replicas(next_try_at_s=101.0))
    memory = msgspec.structs.replace(begin(50.0, current=0), granted=1)
    assert decide(policy, gone, memory, 100.0)[0].desired == 0
    silent = msgspec.structs.replace(gone, traffic=msgspec.structs.replace(traffic, is_fresh=False))
    assert decide(policy, silent, memory, 100.0)[0].desired == 1
