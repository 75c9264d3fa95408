"""Reports of many sources become one picture: nothing missed, nothing twice, and silence is not zero."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autoscaler.decision import Replicas, Traffic
from autoscaler.demand import need
from autoscaler.sources import Sources
from zerogate.meter import Meter
from zerogate.policy import Policy
from zerogate.stats import Stat

START_S = 50_000.0


def sources(*services: str) -> Sources:
    made = Sources()
    for service in services or ("chat",):
        made.watch(service, 60.0)
    return made


def at(made: Sources, now_s: float, service: str = "chat") -> Traffic:
    return made.traffic(service, START_S + now_s, stable_s=60.0, panic_s=6.0)


class Proxy:
    """A source with a real meter; its own clock has another origin."""

    def __init__(
        self, made: Sources, name: str = "gateway-1", incarnation: str = "a", *, service: str = "chat"
    ) -> None:
        self.made = made
        self.name = name
        self.incarnation = incarnation
        self.service = service
        self.meter = Meter()

    def read(self, now_s: float) -> Stat:
        stat = self.meter.read(now_s, service=self.service, source=self.name, incarnation=self.incarnation)
        return msgspec.structs.replace(stat, at_s=now_s + 7.0)

    def report(self, now_s: float) -> bool:
        return self.made.report(self.read(now_s), START_S + now_s)

    def beat(self, now_s: float, **scope: Any) -> None:
        self.made.heartbeat(self.name, self.incarnation, START_S + now_s, **scope)

    def run(self, start_s: float, end_s: float) -> None:
        self.meter.arrive(start_s)
        self.meter.enter(start_s)
        self.meter.leave(end_s, entered_s=start_s)


@pytest.mark.parametrize("window_s", [2.0, 60.0])
@given(delays_s=st.lists(st.floats(0.0, 0.5), min_size=70, max_size=70), phase_s=st.floats(0.0, 1.0))
def test_reports_that_come_late_make_no_second_replica_of_a_load_right_at_its_target(
    window_s: float, delays_s: list[float], phase_s: float
) -> None:
    made = Sources()
    made.watch("chat", window_s)
    policy = Policy(target_concurrency=1, concurrency_limit=1, stable_window_s=window_s, panic_window_s=1.0)
    proxy = Proxy(made)
    proxy.meter.arrive_and_enter(0.0)
    for second, delay_s in enumerate(delays_s, 1):
        written_s = second + phase_s
        now_s = START_S + written_s + delay_s
        made.report(proxy.read(written_s), now_s)
        if second <= window_s + 2:
            continue
        for asked_s in (now_s, (now_s + START_S + written_s + 1.0) / 2):
            traffic = made.traffic("chat", asked_s, stable_s=window_s, panic_s=1.0)
            wanted = need(policy, traffic, Replicas(ready=1))
            assert (wanted.stable, wanted.panic, wanted.now) == (1, 1, 1)


def test_before_anybody_was_heard_nothing_is_known() -> None:
    traffic = at(sources(), 0.0)
    assert traffic.mean_running_stable is None
    assert not traffic.is_fresh


def test_a_heartbeat_without_reports_is_a_known_zero() -> None:
    made = sources()
    Proxy(made).beat(0.0)
    traffic = at(made, 2.0)
    assert (traffic.mean_running_stable, traffic.arrival_rate_stable, traffic.is_fresh) == (0.0, 0.0, True)


def test_a_request_that_no_report_saw_running_counts() -> None:
    made = sources()
    proxy = Proxy(made)
    proxy.beat(0.0)
    for second in range(0, 60, 10):
        proxy.run(second + 0.1, second + 0.12)
        assert proxy.report(second + 1.0)
    traffic = at(made, 60.0)
    assert traffic.mean_running_stable == pytest.approx(0.002, rel=0.05)
    assert traffic.arrival_rate_stable == pytest.approx(0.1, rel=0.05)
    assert traffic.run_time_s == pytest.approx(0.02)
    assert traffic.since_byte_s == pytest.approx(60.0 - 50.12)


def test_a_burst_after_a_long_quiet_is_not_spread_over_the_quiet() -> None:
    made = sources()
    proxy = Proxy(made)
    proxy.beat(0.0)
    proxy.run(1.0, 1.1)
    proxy.report(2.0)
    for second in range(5, 300, 5):
        proxy.beat(float(second))
    for _ in range(600):
        proxy.run(300.0, 301.0)
    proxy.report(301.0)
    assert at(made, 301.0).mean_running_panic == pytest.approx(100.0, rel=0.01)


def reports_of_a_steady_service(seconds: int) -> list[tuple[float, Stat]]:
    proxy = Proxy(Sources())
    made: list[tuple[float, Stat]] = []
    for second in range(seconds):
        for tenth in range(4):
            proxy.run(second + tenth / 4, second + (tenth + 1) / 4)
        made.append((second + 1.0, proxy.read(second + 1.0)))
    return made


@given(st.sets(st.integers(1, 58)), st.sets(st.integers(1, 58)))
def test_lost_and_repeated_reports_distort_nothing(lost: set[int], repeated: set[int]) -> None:
    made = sources()
    Proxy(made).beat(0.0)
    sent = reports_of_a_steady_service(60)
    for number, (now_s, stat) in enumerate(sent):
        Proxy(made).beat(now_s)
        if number not in lost:
            assert made.report(stat, START_S + now_s)
        if number in repeated:
            assert made.report(stat, START_S + now_s + 0.1) is (number in lost)
            assert not made.report(stat, START_S + now_s + 0.2)
    traffic = at(made, 60.3)
    assert traffic.mean_running_stable == pytest.approx(1.0, rel=0.03)
    assert traffic.arrival_rate_stable == pytest.approx(4.0, rel=0.03)
    assert traffic.run_time_s == pytest.approx(0.25)


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(1.2, 8.0)), max_size=4))
def test_reports_that_came_together_after_a_stall_count_for_the_time_in_which_they_were_made(
    stalls: list[tuple[int, float]],
) -> None:
    made = sources()
    Proxy(made).beat(0.0)
    ends_s: dict[float, float] = {}
    begin_s = 2.0
    for quiet_s, length_s in stalls:
        begin_s += quiet_s
        ends_s[begin_s] = begin_s + length_s
        begin_s += float(int(length_s) + 1)
    assert counted(made, ends_s) == STEADY


STEADY = pytest.approx((1.0, 4.0), rel=0.001)


def counted(made: Sources, ends_s: Mapping[float, float]) -> tuple[float | None, float | None]:
    """(mean running, arrivals a second) of the steady service. `ends_s`: until when nothing arrives, by the report with
    which that begins."""
    arrives_s = 0.0
    for written_s, stat in reports_of_a_steady_service(60):
        arrives_s = max(arrives_s, written_s, ends_s.get(written_s, 0.0))  # one stream: none overtakes another
        Proxy(made).beat(arrives_s)
        assert made.report(stat, START_S + arrives_s)
    traffic = at(made, 60.0)
    return traffic.mean_running_stable, traffic.arrival_rate_stable


@given(st.lists(st.tuples(st.integers(2, 45), st.floats(1.2, 8.0)), max_size=6))
@example([(10, 4.5), (12, 8.0)])
def test_a_stall_that_begins_before_all_of_the_one_before_was_told_loses_nothing(
    stalls: list[tuple[int, float]],
) -> None:
    made = sources()
    Proxy(made).beat(0.0)
    assert counted(made, {float(begin_s): begin_s + length_s for begin_s, length_s in stalls}) == STEADY


def test_right_after_a_stall_the_short_mean_is_what_ran() -> None:
    made = sources()
    Proxy(made).beat(0.0)
    for written_s, stat in reports_of_a_steady_service(30):
        made.report(stat, START_S + (written_s if written_s <= 20.0 else max(30.5, written_s)))
    assert at(made, 30.5).mean_running_panic == pytest.approx(1.0, rel=0.1)


def test_an_overtaken_report_is_ignored() -> None:
    made = sources()
    proxy = Proxy(made)
    proxy.beat(0.0)
    early = proxy.read(1.0)
    proxy.run(1.0, 2.0)
    assert proxy.report(2.0)
    before = at(made, 3.0)
    assert not made.report(early, START_S + 3.0)
    assert at(made, 3.0) == before


def test_counters_that_start_anew_are_neither_spike_nor_hole() -> None:
    made = sources()
    Proxy(made).beat(0.0)
    for incarnation, first in (("a", 0), ("b", 30)):
        proxy = Proxy(made, incarnation=incarnation)
        for second in range(first, first + 30):
            for tenth in range(4):
                proxy.run(second + tenth / 4, second + (tenth + 1) / 4)
            proxy.report(second + 1.0)
            if second > 8:
                traffic = at(made, second + 1.0)
                assert traffic.mean_running_panic == pytest.approx(1.0, rel=0.15)
                assert traffic.arrival_rate_panic == pytest.approx(4.0, rel=0.15)
    assert not made.report(Proxy(made, incarnation="a").read(99.0), START_S + 61.0)


def test_what_a_new_incarnation_did_before_its_first_report_arrived_counts() -> None:
    made = sources()
    Proxy(made).beat(0.0)
    proxy = Proxy(made, incarnation="b")
    proxy.run(1.0, 4.0)
    proxy.read(2.0)
    proxy.report(4.0)
    assert at(made, 4.0).mean_running_panic == pytest.approx(3 / 4)


def test_streams_of_a_process_that_started_anew_are_gone_with_it() -> None:
    made = sources()
    proxy = Proxy(made)
    proxy.meter.enter(0.0)
    proxy.report(1.0)
    assert at(made, 1.5).in_flight == 1
    Proxy(made, incarnation="b").beat(2.0)
    assert at(made, 2.5).in_flight == 0


def test_counters_of_a_source_met_in_the_middle_of_its_life_are_no_spike() -> None:
    made = sources()
    proxy = Proxy(made)
    for _ in range(1000):
        proxy.run(0.0, 100.0)
    proxy.read(100.0)
    proxy.report(101.0)
    proxy.run(101.0, 102.0)
    proxy.report(102.0)
    assert at(made, 103.0).mean_running_stable == pytest.approx(0.5)


def test_counters_that_fall_within_one_incarnation_add_nothing() -> None:
    made = sources()
    proxy = Proxy(made)
    proxy.beat(0.0)
    proxy.run(0.0, 1.0)
    proxy.report(1.0)
    stat = msgspec.structs.replace(proxy.read(2.0), running_s=0.5, arrivals=0)
    made.report(stat, START_S + 2.0)
    assert at(made, 3.0).mean_running_stable == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"running_s": float("nan")},
        {"held": -1},
        {"arrivals": 1 << 63},
        {"running_s": 1e300},
        {"completed_run_s": float("inf")},
        {"since_byte_s": float("nan")},
    ],
    ids=lambda wrong: "".join(wrong),
)
def test_an_unsound_report_changes_nothing(wrong: dict[str, Any]) -> None:
    made = sources()
    proxy = Proxy(made)
    proxy.report(0.0)
    before = at(made, 2.0)
    assert not made.report(msgspec.structs.replace(proxy.read(1.0), **wrong), START_S + 1.0)
    assert at(made, 2.0) == before


def test_a_report_about_a_service_that_does_not_exist_is_dropped() -> None:
    assert not Proxy(sources(), service="other").report(0.0)


def test_many_sources_add_up_and_a_held_request_counts_once() -> None:
    made = sources()
    proxies = [Proxy(made, f"gateway-{number}") for number in range(3)]
    for number, proxy in enumerate(proxies):
        for _ in range(number + 1):
            proxy.meter.enter(0.0)
        proxy.meter.hold(0.0)
        proxy.report(1.0)
    traffic = at(made, 2.0)
    assert (traffic.in_flight, traffic.held) == (6, 3)
    assert traffic.mean_running_stable == pytest.approx(6.0, rel=0.51)


def test_a_source_that_fell_silent_keeps_its_values_then_is_absent_and_never_zero() -> None:
    made = sources()
    dead, alive = Proxy(made, "dead"), Proxy(made, "alive")
    dead.beat(-20.0)
    alive.beat(-20.0)
    for _ in range(4):
        dead.meter.enter(0.0)
    dead.report(0.5)
    for second in range(75):
        alive.beat(float(second))
        traffic = at(made, second)
        if 15.5 < second < 60.5:
            assert not traffic.is_fresh
            assert traffic.in_flight == 4
            assert traffic.mean_running_panic == pytest.approx(4.0, rel=0.01)
        elif second > 61:
            assert traffic.is_fresh
            assert (traffic.in_flight, traffic.mean_running_panic) == (0, 0.0)


def test_when_all_fell_silent_nothing_is_known_any_more() -> None:
    made = sources()
    Proxy(made).report(0.0)
    assert at(made, 61.0).mean_running_stable is None
    assert not at(made, 61.0).is_fresh


def test_a_source_no_longer_listed_is_absent_as_soon_as_it_is_silent() -> None:
    made = sources()
    gone, stays = Proxy(made, "gone"), Proxy(made, "stays")
    gone.meter.enter(0.0)
    gone.report(0.5)
    made.expect({"stays": None}, ["gone"], START_S + 1.0)
    stays.beat(10.0)
    assert at(made, 10.0).in_flight == 1
    stays.beat(16.0)
    assert (at(made, 16.0).in_flight, at(made, 16.0).is_fresh) == (0, True)


def test_a_listed_source_that_was_never_heard_withholds_zero_for_a_minute() -> None:
    made = sources()
    made.expect({"late": None}, [], START_S)
    Proxy(made, "here").beat(1.0)
    assert not at(made, 1.0).is_fresh
    Proxy(made, "here").beat(61.0)
    assert at(made, 61.0).is_fresh


def test_a_silent_sidecar_says_nothing_about_other_services() -> None:
    made = sources("chat", "whisper")
    Proxy(made, "sidecar").beat(0.0, service="whisper")
    Proxy(made, "gateway").beat(0.0)
    Proxy(made, "gateway").beat(20.0)
    assert at(made, 20.0, "chat").is_fresh
    assert not at(made, 20.0, "whisper").is_fresh


def test_a_lost_last_report_is_noticed_although_the_source_lives() -> None:
    made = sources()
    proxy = Proxy(made)
    proxy.meter.enter(0.0)
    proxy.report(0.0)
    for second in range(1, 80):
        proxy.beat(float(second))
    assert at(made, 14.0).is_fresh
    assert not at(made, 16.0).is_fresh
    assert at(made, 70.0).in_flight == 0


def test_after_a_time_in_which_nobody_was_heard_nothing_may_be_lowered_at_first() -> None:
    made = sources()
    proxy = Proxy(made)
    proxy.beat(0.0)
    assert at(made, 1.0).is_settled
    proxy.beat(40.0)
    assert not at(made, 49.0).is_settled
    proxy.beat(45.0)
    assert at(made, 50.0).is_settled


def test_a_source_back_after_an_hour_is_met_anew() -> None:
    made = sources()
    proxy = Proxy(made)
    proxy.report(0.0)
    for _ in range(500):
        proxy.run(0.0, 3600.0)
    proxy.report(3600.0)
    assert at(made, 3602.0).mean_running_stable == pytest.approx(0.0)


def test_sources_without_number_are_not_all_kept() -> None:
    made = sources()
    for number in range(20_000):
        made.heartbeat(f"source-{number}", "a", START_S)
    assert len(made._presence._sources) == 16384
    made.heartbeat("later", "a", START_S + 700.0)
    assert len(made._presence._sources) == 1


def test_an_idle_service_has_no_ledger_and_one_that_was_busy_gives_its_windows_back() -> None:
    made = sources("chat", "idle")
    proxy = Proxy(made)
    proxy.run(0.0, 1.0)
    proxy.report(1.0)
    proxy.beat(70.0)
    at(made, 70.0)
    assert list(made._ledgers) == ["chat"]
    assert made._ledgers["chat"].windows is None


def test_of_a_source_that_is_suspended_again_and_again_few_gaps_are_kept() -> None:
    made = sources()
    proxy = Proxy(made)
    proxy.meter.arrive_and_enter(0.0)
    for second in range(1, 40):
        made.report(proxy.read(float(second)), START_S + 3.0 * second)
    (view,) = made._ledgers["chat"].views.values()
    assert 2 <= len(view.gaps) <= 8
    assert sum(gap_s for gap_s, _ in view.gaps) == pytest.approx(2.0 * 38), "and nothing of them is forgotten"
