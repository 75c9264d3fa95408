"""The shell: reports and wakes in, numbers to the runtime out, in virtual time."""

import asyncio
import itertools
from collections.abc import Iterator
from time import thread_time

import msgspec
import pytest

from autoscaler.decision import Ask
from autoscaler.journal import replay
from autoscaler.loop import Autoscaler, UnknownServiceError
from tests.autoscaler.virtual import VirtualLoop
from zerogate.errors import ZerogateError
from zerogate.meter import Meter
from zerogate.policy import Policy
from zerogate.runtime.interface import (
    Address,
    BackOff,
    EndCause,
    Ended,
    Quiescer,
    Replica,
    ReplicaState,
    RuntimeObserver,
    Scale,
)

WALL_S = 1_700_000_000.0


class Double:
    """A runtime that starts what it is told to; the test makes it ready."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.scales: list[Scale] = []
        self.cleared: list[str] = []
        self.living: dict[str, Replica] = {}
        self.observers: list[RuntimeObserver] = []
        self._number = itertools.count(1)

    def subscribe(self, observer: RuntimeObserver) -> None:
        self.observers.append(observer)
        for replica in self.replicas():
            observer.on_replica(replica)

    def set_quiescer(self, quiescer: Quiescer) -> None:
        raise NotImplementedError

    def scale(self, effect: Scale) -> None:
        assert not self.scales or effect.generation > self.scales[-1].generation
        self.scales.append(effect)
        mine = [replica for replica in self.replicas() if replica.service == effect.service]
        for _ in range(effect.replicas - len(mine)):
            self._tell(effect.service, f"{effect.service}-{next(self._number)}", ReplicaState.STARTING)
        others = [replica.id for replica in mine if replica.id not in effect.victims]
        for name in [*effect.victims, *others][: max(0, len(mine) - effect.replicas)]:
            self.end(name)

    def on_idle(self, replica_id: str) -> None:
        raise NotImplementedError

    def clear_back_off(self, service: str) -> None:
        self.cleared.append(service)

    def replicas(self) -> list[Replica]:
        return list(self.living.values())

    async def aclose(self, *, drain_deadline_s: float) -> None:
        raise NotImplementedError

    def ready(self, service: str) -> None:
        """All that start become ready now."""
        for replica in self.replicas():
            if replica.service == service and replica.state is ReplicaState.STARTING:
                self._tell(service, replica.id, ReplicaState.READY, started_s=replica.started_s)

    def end(self, name: str) -> None:
        self._tell(self.living[name].service, name, ReplicaState.GONE)

    def _tell(self, service: str, name: str, state: ReplicaState, started_s: float | None = None) -> None:
        now_s = self.loop.time()
        ended = Ended(cause=EndCause.STOPPED, detail="stopped") if state is ReplicaState.GONE else None
        replica = Replica(
            service=service,
            id=name,
            state=state,
            address=Address("127.0.0.1", 20000),
            started_s=now_s if started_s is None else started_s,
            ready_s=now_s if state is ReplicaState.READY else None,
            ended=ended,
        )
        self.living[name] = replica
        if ended:
            del self.living[name]
        for observer in self.observers:
            observer.on_replica(replica)


class Box:
    """One box: a runtime, a holder with real meters that reports each second, and the autoscaler."""

    def __init__(self, loop: VirtualLoop, **policies: Policy) -> None:
        self.loop = loop
        self.runtime = Double(loop)
        self.meters: dict[str, Meter] = {}
        self.inside: dict[str, int] = {}
        self.recorded: list[bytes] = []
        self.reports = True
        self.autoscaler = Autoscaler(
            self.runtime,
            loop=loop,
            busy=lambda name: self.inside.get(name, 0),
            activity=self.activity,
            clock=loop.time,
            wall=lambda: WALL_S + loop.time(),
            record=self.recorded.append,
        )
        self.autoscaler.start()
        self.autoscaler.heartbeat("box", "1")
        self.autoscaler.configure(policies)

    def meter(self, service: str = "chat") -> Meter:
        return self.meters.setdefault(service, Meter())

    def activity(self, service: str) -> tuple[int, int, float | None] | None:
        if not self.reports:
            return None
        meter = self.meters.get(service)
        return (meter.held, meter.in_flight, meter.last_byte_s) if meter else (0, 0, None)

    def hold(self, count: int, service: str = "chat") -> None:
        for _ in range(count):
            self.meter(service).arrive(self.loop.time())
            self.meter(service).hold(self.loop.time())
            self.autoscaler.wake(service)

    def release(self, service: str = "chat") -> None:
        meter = self.meter(service)
        for _ in range(meter.held):
            meter.unhold(self.loop.time())
            meter.enter(self.loop.time())

    def finish(self, ran_s: float, service: str = "chat") -> None:
        meter = self.meter(service)
        for _ in range(meter.in_flight):
            meter.leave(self.loop.time(), entered_s=self.loop.time() - ran_s)

    def run_for(self, seconds: int) -> None:
        for _ in range(seconds):
            self.loop.run_for(1.0)
            if self.reports:
                self.autoscaler.heartbeat("box", "1")
                for service, meter in self.meters.items():
                    stat = meter.read(self.loop.time(), service=service, source="box", incarnation="1")
                    self.autoscaler.report(stat)

    def asked(self, service: str = "chat") -> list[int]:
        return [scale.replicas for scale in self.runtime.scales if scale.service == service]


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    assert isinstance(made, asyncio.SelectorEventLoop)
    yield made
    made.close()


def test_zero_to_one_to_zero(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(idle_timeout_s=15.0))
    box.run_for(20)
    assert box.asked() == []
    box.hold(1)
    loop.run_for(0.0)
    loop.run_for(0.0)
    assert box.asked() == [1]
    box.run_for(30)
    box.runtime.ready("chat")
    box.release()
    box.run_for(2)
    box.finish(2.0)
    ended_s = loop.time()
    while box.asked() == [1]:
        box.run_for(1)
    assert box.asked() == [1, 0]
    assert loop.time() - ended_s == pytest.approx(15.0, abs=1.01)
    assert box.runtime.scales[-1].cause == "idle"
    state = box.autoscaler.view("chat")
    assert (state.asked, state.replicas) == (0, ())
    assert state.boot_time_s == pytest.approx(30.0, abs=0.01)
    assert state.run_time_s == pytest.approx(2.0, abs=0.01)


def test_a_request_that_came_and_went_since_the_last_report_keeps_the_service_up(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(idle_timeout_s=1.2))
    box.hold(1)
    loop.run_for(0.2)
    box.runtime.ready("chat")
    box.release()
    box.finish(0.1)
    for _ in range(10):
        box.run_for(1)
        loop.run_for(0.1)
        box.meter().arrive(loop.time())
        box.meter().enter(loop.time())
        box.finish(0.0)
    assert box.asked() == [1]


def test_a_load_longer_than_the_idle_timeout_is_not_killed_even_after_its_client_left(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(idle_timeout_s=5.0))
    box.hold(1)
    box.run_for(2)
    box.meter().unhold(loop.time())
    box.run_for(40)
    assert box.asked() == [1]
    box.runtime.ready("chat")
    box.run_for(4)
    assert box.asked() == [1]
    box.run_for(2)
    assert box.asked() == [1, 0]


def test_a_crowd_at_a_service_that_never_ran_takes_the_first_write_and_one_more(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(max_replicas=48, target_concurrency=10))
    box.hold(1)
    loop.run_for(0.01)
    for _ in range(20):
        box.hold(24)
        loop.run_for(0.004)
    box.run_for(3)
    assert box.asked()[0] == 1
    assert box.asked()[-1] == 48
    assert len(box.asked()) <= 3


def test_held_at_once_they_get_all_replicas_in_one_write(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(max_replicas=64, target_concurrency=10))
    box.hold(480)
    box.run_for(3)
    assert box.asked() == [48]


def test_a_burst_in_flight_gets_its_replicas_within_a_second(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(max_replicas=10, target_concurrency=100, min_replicas=1))
    box.run_for(3)
    box.runtime.ready("chat")
    box.run_for(60)
    for _ in range(800):
        box.meter().arrive(loop.time())
        box.meter().enter(loop.time())
    box.run_for(1)
    loop.run_for(0.01)
    assert box.asked() == [1, 8]


def test_requests_that_are_handed_over_count_once(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(max_replicas=9))
    box.hold(40)
    box.run_for(1)
    box.release()
    box.runtime.ready("chat")
    box.run_for(5)
    assert box.asked() == [5]


def test_load_on_one_service_scales_only_that_one(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(max_replicas=9), whisper=Policy(max_replicas=9))
    box.hold(50, "chat")
    box.run_for(5)
    assert {scale.service for scale in box.runtime.scales} == {"chat"}


def test_many_idle_services_all_reach_zero_and_then_cost_no_timer(loop: VirtualLoop) -> None:
    names = [f"model-{number}" for number in range(60)]
    box = Box(loop, **{name: Policy(idle_timeout_s=30.0) for name in names})
    for name in names:
        box.hold(1, name)
    box.run_for(1)
    for name in names:
        box.runtime.ready(name)
        box.release(name)
        box.finish(0.0, name)
    box.run_for(33)
    assert [box.asked(name) for name in names] == [[1, 0]] * 60
    loop.run_for(1.0)
    decided = len(box.recorded)
    loop.run_for(1000.0)
    assert len(box.recorded) == decided
    assert loop.planned() == []


def test_when_reports_stop_a_busy_service_stays_as_it_is(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(max_replicas=9, idle_timeout_s=5.0))
    box.hold(40)
    box.run_for(1)
    box.runtime.ready("chat")
    box.release()
    box.run_for(5)
    box.reports = False
    box.run_for(600)
    assert box.asked() == [5]
    decision = box.autoscaler.view("chat").decision
    assert decision is not None
    assert "unknown is not zero" in f"{decision.held_back}"


def test_a_suspended_process_lowers_nothing_on_its_first_reports(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(idle_timeout_s=30.0))
    box.hold(1)
    box.run_for(1)
    box.runtime.ready("chat")
    box.release()
    box.finish(0.0)
    box.run_for(2)
    loop._virtual_s += 3600.0
    box.run_for(9)
    assert box.asked() == [1]
    box.run_for(6)
    assert box.asked() == [1, 0]


def test_a_crowd_that_comes_within_milliseconds_gets_its_replicas_in_one_write(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(max_replicas=4, target_concurrency=1))
    box.run_for(1)
    box.hold(1)
    loop.run_for(0.002)
    assert box.asked() == []
    box.hold(3)
    loop.run_for(0.01)
    assert box.asked() == [4]


def test_a_crowd_that_keeps_coming_is_waited_for_and_then_decided_about(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(max_replicas=9, target_concurrency=1))
    box.run_for(1)
    for _ in range(7):
        box.hold(1)
        loop.run_for(0.0025)
    assert box.asked() == [], "someone came within the last 4 ms"
    box.hold(1)
    loop.run_for(0.0035)
    assert box.asked() == [8], "the first one has waited for 20 ms"


def test_idle_replicas_go_first_and_of_busy_ones_the_least_busy_drains(
    loop: VirtualLoop,
) -> None:
    box = Box(loop, chat=Policy(max_replicas=4, target_concurrency=1, scale_down_delay_s=10.0, stable_window_s=10.0))
    box.hold(4)
    box.run_for(1)
    box.runtime.ready("chat")
    box.release()
    box.inside = {f"chat-{number}": 1 for number in (1, 2, 3, 4)}
    box.run_for(70)
    box.finish(70.0)
    box.meter().enter(loop.time())
    box.inside = {"chat-1": 1, "chat-2": 1, "chat-4": 1}
    box.run_for(5)
    box.inside = {"chat-1": 1, "chat-4": 1}
    box.run_for(1)
    while box.asked() == [4]:
        box.run_for(1)
    assert (box.asked()[-1], box.runtime.scales[-1].victims) == (3, ("chat-3",))
    box.run_for(11)
    assert (box.asked()[-1], box.runtime.scales[-1].victims) == (2, ("chat-2",))
    box.inside = {"chat-1": 3, "chat-4": 1}
    box.run_for(15)
    assert (box.asked(), box.runtime.scales[-1].victims) == ([4, 3, 2, 1], ("chat-4",))


def test_a_pin_acts_at_once_resets_a_back_off_and_expires(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(max_replicas=2, idle_timeout_s=5.0))
    box.run_for(3)
    ended = Ended(cause=EndCause.CRASHED, detail="exit 1")
    box.autoscaler.on_back_off("chat", BackOff(failures=3, next_try_s=loop.time() + 60.0, last=ended))
    box.autoscaler.pin("chat", 2, until_wall_s=WALL_S + loop.time() + 120.0)
    loop.run_for(0.01)
    assert (box.asked(), box.runtime.cleared) == ([2], ["chat"])
    assert b"the next try is in 1m" in box.recorded[-2]
    box.autoscaler.on_back_off("chat", None)
    box.runtime.ready("chat")
    box.run_for(122)
    assert box.asked() == [2, 0]
    assert box.autoscaler.view("chat").pin is None


def test_less_than_no_replicas_cannot_be_pinned(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy())
    with pytest.raises(ZerogateError, match="Pin it to 0 to pause it"):
        box.autoscaler.pin("chat", -1)


def test_a_pin_down_names_idle_ones_first_and_may_take_busy_ones(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(max_replicas=3, min_replicas=3))
    box.run_for(2)
    box.runtime.ready("chat")
    box.inside = {"chat-1": 5, "chat-2": 1}
    box.autoscaler.pin("chat", 1)
    box.run_for(1)
    assert box.runtime.scales[-1].victims == ("chat-3", "chat-2")
    box.autoscaler.unpin("chat")
    box.run_for(1)
    assert box.asked() == [3, 1, 3]


def test_a_changed_policy_acts_at_once_and_forgets_nothing(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(max_replicas=2, target_concurrency=10), other=Policy())
    box.hold(40)
    box.run_for(1)
    box.runtime.ready("chat")
    box.release()
    box.run_for(20)
    before = box.autoscaler.view("chat").traffic
    box.autoscaler.configure({"chat": Policy(max_replicas=4, target_concurrency=10, stable_window_s=30.0)})
    loop.run_for(0.01)
    assert box.asked() == [2, 4]
    after = box.autoscaler.view("chat").traffic
    assert after.mean_running_panic == pytest.approx(before.mean_running_panic, rel=0.01)
    assert box.autoscaler.services() == ("chat",)
    with pytest.raises(UnknownServiceError, match="Known services: chat"):
        box.autoscaler.view("other")


def test_a_changed_policy_gives_suspended_starts_another_try(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(), other=Policy())
    ended = Ended(cause=EndCause.START_FAILED, detail="exit 1")
    for service in ("chat", "other"):
        box.autoscaler.on_back_off(service, BackOff(failures=3, next_try_s=loop.time() + 60.0, last=ended))
    box.autoscaler.configure({"chat": Policy(max_replicas=2), "other": Policy()})
    assert box.runtime.cleared == ["chat"]


def test_a_service_that_is_gone_is_scaled_to_zero(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(min_replicas=1))
    box.run_for(1)
    box.autoscaler.configure({})
    assert box.asked() == [1, 0]
    box.run_for(3)


def test_replicas_found_at_start_are_kept_until_the_idle_timeout(loop: VirtualLoop) -> None:
    box = Box(loop)
    box.runtime._tell("chat", "chat-9", ReplicaState.READY)
    box.autoscaler.configure({"chat": Policy(idle_timeout_s=20.0)})
    box.run_for(18)
    assert box.asked() == [1]
    box.run_for(4)
    assert box.asked() == [1, 0]


def test_pins_and_learned_times_survive_a_restart(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(), idle=Policy())
    box.hold(1)
    box.run_for(7)
    box.runtime.ready("chat")
    box.release()
    box.run_for(2)
    box.finish(2.0)
    box.run_for(1)
    box.autoscaler.pin("chat", 1)
    state = box.autoscaler.export_state()
    assert list(state) == ["chat"]

    again = Box(loop)
    again.autoscaler.import_state(state)
    again.autoscaler.configure({"chat": Policy(), "idle": Policy()})
    again.run_for(1)
    view = again.autoscaler.view("chat")
    assert view.boot_time_s == pytest.approx(7.0, abs=0.01)
    assert view.run_time_s == pytest.approx(2.0, abs=0.01)
    assert again.asked() == [1]
    assert again.autoscaler.export_state() == state


def test_a_recorded_hour_decides_the_same_byte_for_byte(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(max_replicas=6, target_concurrency=2, idle_timeout_s=60.0, scale_down_delay_s=20.0))
    for burst in range(12):
        box.hold(burst)
        box.run_for(20)
        box.runtime.ready("chat")
        box.release()
        box.run_for(30)
        box.finish(30.0)
        box.run_for(250)
    outcomes = list(replay(box.recorded))
    assert len(outcomes) > 500
    assert {outcome.desired for _, outcome in outcomes} >= {0, 1, 2, 3, 4, 5, 6}
    for turn, outcome in outcomes:
        assert msgspec.json.encode(outcome) == msgspec.json.encode(turn.decision)


def test_the_journal_tells_the_story(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(idle_timeout_s=15.0))
    box.run_for(2)
    box.hold(1)
    box.run_for(1)
    box.runtime.ready("chat")
    box.release()
    box.run_for(5)
    box.finish(5.0)
    box.run_for(20)
    story = [(entry.decision.desired, entry.decision.winner) for entry in box.autoscaler.decisions("chat")]
    assert story == [(0, Ask.IDLE), (1, Ask.DEMAND), (1, Ask.HOLDING), (0, Ask.IDLE)]


def test_a_source_that_dies_with_requests_inside_is_noticed_without_further_events(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(max_replicas=9, scale_down_delay_s=10.0, idle_timeout_s=10.0))
    box.hold(40)
    box.run_for(1)
    box.runtime.ready("chat")
    box.release()
    box.run_for(30)
    box.reports = False
    for _ in range(200):
        loop.run_for(1.0)
        box.autoscaler.heartbeat("another", "1")
    assert box.asked() == [5, 0]


def test_wakes_and_reports_about_unknown_services_are_ignored(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy())
    box.autoscaler.wake("other")
    box.autoscaler.on_back_off("other", None)
    box.autoscaler.report(Meter().read(0.0, service="other", source="box", incarnation="1"))
    box.run_for(1)
    assert box.asked() == []


def test_a_thousand_services_are_decided_without_holding_up_the_loop(loop: VirtualLoop) -> None:
    box = Box(loop)
    gaps: list[float] = []
    last_s = thread_time()

    def other() -> None:
        nonlocal last_s
        gaps.append(thread_time() - last_s)
        last_s = thread_time()
        if len(box.recorded) < 1000:
            loop.call_soon(other)

    box.autoscaler.configure({f"model-{number}": Policy() for number in range(1000)})
    last_s = thread_time()
    loop.call_soon(other)
    loop.run_for(0.01)
    assert len(box.recorded) == 1000
    assert len(gaps) > 5
    assert sorted(gaps)[-2] < 0.002


def test_what_somebody_else_asked_for_before_us_is_met_as_ours(loop: VirtualLoop) -> None:
    box = Box(loop)
    box.run_for(20)
    box.autoscaler.configure({"chat": Policy(idle_timeout_s=30.0)}, {"chat": 1})
    box.run_for(1)
    assert box.asked() == []
    box.runtime._tell("chat", "a", ReplicaState.STARTING)
    box.run_for(120)
    assert box.asked() == [], "replicas that load are not idle"
    box.runtime.ready("chat")
    box.run_for(28)
    assert box.asked() == []
    box.run_for(4)
    assert box.asked() == [0]


def test_replicas_that_never_come_are_not_waited_for(loop: VirtualLoop) -> None:
    box = Box(loop)
    box.run_for(20)
    box.autoscaler.configure({"chat": Policy()}, {"chat": 2})
    box.run_for(4)
    assert box.asked() == []
    box.run_for(3)
    assert box.asked() == [0]


def test_more_than_we_asked_for_is_taken_over_and_fewer_are_not(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(idle_timeout_s=30.0, max_replicas=4))
    box.run_for(2)
    box.autoscaler.adopt("chat", 3)
    assert (box.asked(), box.runtime.scales[-1].cause) == ([3], "adopted")
    box.runtime.ready("chat")
    box.autoscaler.adopt("chat", 1)
    box.autoscaler.adopt("chat", 3)
    box.autoscaler.adopt("nobody", 3)
    box.run_for(28)
    assert box.asked() == [3]
    box.run_for(4)
    assert box.asked() == [3, 0]


def test_what_nobody_counts_keeps_it_up(loop: VirtualLoop) -> None:
    box = Box(loop, chat=Policy(idle_timeout_s=5.0))
    reason = ["pod a has no sidecar"]
    box.autoscaler._unmetered = lambda _: reason[0]
    box.hold(1)
    box.run_for(1)
    box.runtime.ready("chat")
    box.release()
    box.finish(1.0)
    box.run_for(120)
    assert box.asked() == [1]
    decision = box.autoscaler.view("chat").decision
    assert decision is not None
    assert "pod a has no sidecar" in (decision.held_back or "")
    reason[0] = ""
    box.run_for(31)
    assert box.asked() == [1, 0]
