"""The runtime of a cluster under the contract of all runtimes, and what is its own."""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from tests.zerogate.kube.cluster import Cluster
from tests.zerogate.runtime.contract import CEILINGS, DRAINING, GONE, READY, STARTING, RuntimeContract, World
from zerogate.clock import now
from zerogate.kube.acts import Order, WriteScale
from zerogate.kube.errors import Asked, Forbidden, Unreachable
from zerogate.kube.objects import DEPLOYMENTS, Pod
from zerogate.kube.runtime import KubernetesRuntime
from zerogate.kube.target import Target
from zerogate.runtime.interface import EndCause
from zerogate.tasks import Nursery

TARGETS = [
    Target(
        service=name, kind="Deployment", resource=DEPLOYMENTS, key=("ml", name), uid=name, order=Order.BY_COST,
        ceiling=ceiling, port="8012",
    )
    for name, ceiling in CEILINGS.items()
]  # fmt: skip


class ClusterWorld(World):
    def __init__(self, cluster: Cluster, runtime: KubernetesRuntime) -> None:
        super().__init__()
        self.cluster = cluster
        self.runtime: KubernetesRuntime = runtime

    async def until_true(self, condition: Callable[[], object]) -> None:
        """Of what no observer is told: turn by turn."""
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0)

    async def make_ready(self, replica_id: str) -> None:
        self.cluster.become_ready(self.seen.now[replica_id].service, replica_id.partition("~")[0])

    async def crash(self, replica_id: str) -> None:
        self.cluster.crash(self.seen.now[replica_id].service, replica_id.partition("~")[0], 3)


async def turns() -> None:
    """Whatever is under way has happened: nothing in this cluster takes more than a few turns of the loop."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[ClusterWorld]:
    nursery = Nursery()
    cluster = Cluster()
    runtime = KubernetesRuntime(cluster, nursery, call_later=asyncio.get_running_loop().call_later, clock=now)
    runtime.lead(True)
    cluster.attach(runtime, TARGETS)
    world = ClusterWorld(cluster, runtime)
    runtime.subscribe(world.seen)
    runtime.set_quiescer(world.gates)
    yield world
    await runtime.aclose(drain_deadline_s=0)
    await nursery.aclose()
    world.check()


class Answers:
    """A stand-in that gives leave when the test says so."""

    def __init__(self) -> None:
        self.leave = False
        self.asked: list[str] = []
        self.stayed: list[str] = []

    def may_zero(self, service: str) -> bool:
        self.asked.append(service)
        return self.leave

    def stay_up(self, service: str) -> None:
        self.stayed.append(service)


class TestKubernetesRuntime(RuntimeContract):
    """What a cluster does otherwise is said where it is overridden."""

    async def test_a_restart_by_the_kubelet_is_another_replica_in_the_same_pod(self, world: ClusterWorld) -> None:
        (one,) = await world.ready("a", 1)
        await world.crash(one)
        await world.seen.until(lambda: world.seen.now[one].state is GONE and world.seen.ids("a", STARTING))
        assert world.seen.ids("a", STARTING) == [f"{one}~1"]
        assert world.cluster.numbers["a"] == 1

    async def test_failed_starts_are_told_as_suspended_though_the_kubelet_goes_on(self, world: ClusterWorld) -> None:
        world.scale("a", 1)
        await world.seen.until(lambda: world.seen.ids("a", STARTING))
        (one,) = world.seen.ids("a", STARTING)
        await world.crash(one)
        await world.seen.until(lambda: world.seen.back_offs)
        service, back_off = world.seen.back_offs[-1]
        assert service == "a"
        assert back_off is not None
        assert back_off.last.cause is EndCause.START_FAILED
        await world.seen.until(lambda: world.seen.ids("a", STARTING))
        await world.make_ready(world.seen.ids("a", STARTING)[0])
        await world.seen.until(lambda: world.seen.back_offs[-1] == ("a", None))

    async def test_why_a_floor_is_not_moved_is_said_as_long_as_the_policy_wants_one(self, world: ClusterWorld) -> None:
        floored = [msgspec.structs.replace(target, is_floored=True) for target in TARGETS]
        world.runtime.configure({target.service: target for target in floored})
        world.cluster.failures = [Unreachable(Asked(verb="patch"), "gone")]
        world.scale("a", 1)
        await world.until_true(lambda: "gone" in world.runtime.floor_trouble("a"))
        world.runtime.configure({target.service: target for target in TARGETS})
        assert world.runtime.floor_trouble("a") == ""

    @pytest.mark.parametrize(
        "what", ["another floor", "nothing wanted", "another leads", "no floor any more", "let go"]
    )
    async def test_a_floor_that_waits_for_its_turn_is_not_written_when_it_is_not_wanted_any_more(
        self, world: ClusterWorld, what: str
    ) -> None:
        floored = {one.service: msgspec.structs.replace(one, is_floored=True) for one in TARGETS}
        world.runtime.configure(floored)
        world.cluster.turn = asyncio.Event()
        world.scale("a", 1)
        await turns()
        if what == "another floor":
            world.scale("a", 2)
        elif what == "nothing wanted":
            world.scale("a", 0)
        elif what == "another leads":
            world.runtime.lead(False)
        elif what == "no floor any more":
            world.runtime.configure({one.service: one for one in TARGETS})
        else:
            world.runtime.configure({name: one for name, one in floored.items() if name != "a"})
        world.cluster.turn.set()
        await turns()
        assert world.cluster.floors == ([2] if what == "another floor" else [])

    async def test_a_pod_that_no_node_takes_is_overdue_after_the_start_timeout(self, world: ClusterWorld) -> None:
        assert world.cluster.runtime is not None
        hurried = [msgspec.structs.replace(target, start_timeout_s=0.05) for target in TARGETS]
        world.cluster.runtime.configure({target.service: target for target in hurried})
        world.scale("a", 2)
        await world.seen.until(lambda: len(world.seen.ids("a", STARTING)) == 2)
        one, other = world.seen.ids("a", STARTING)
        world.cluster.leave_unscheduled("a", one, "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
        await world.until_true(lambda: world.seen.now[one].is_overdue)
        assert (world.seen.now[one].state, world.seen.now[other].is_overdue) == (STARTING, False)
        world.cluster.leave_unscheduled("a", one, "")
        await world.until_true(lambda: not world.seen.now[one].is_overdue)

    async def test_a_start_timeout_that_was_raised_counts_for_pods_that_wait(self, world: ClusterWorld) -> None:
        assert world.cluster.runtime is not None
        hurried = [msgspec.structs.replace(target, start_timeout_s=0.05) for target in TARGETS]
        world.cluster.runtime.configure({target.service: target for target in hurried})
        world.scale("a", 1)
        await world.seen.until(lambda: world.seen.ids("a", STARTING))
        [one] = world.seen.ids("a", STARTING)
        world.cluster.leave_unscheduled("a", one, "no node")
        await turns()
        world.cluster.runtime.configure({target.service: target for target in TARGETS})
        await asyncio.sleep(0.1)
        assert not world.seen.now[one].is_overdue

    async def test_zero_waits_until_somebody_answers_for_the_service(self, world: ClusterWorld) -> None:
        answers = Answers()
        world.runtime.set_stand_in(answers)
        (one,) = await world.ready("a", 1)
        assert answers.asked == []
        world.scale("a", 0)
        await turns()
        assert (world.cluster.numbers["a"], world.gates.closed, set(answers.asked)) == (1, [], {"a"})
        answers.leave = True
        world.runtime.on_may_zero("a")
        await world.seen.until(lambda: world.seen.now[one].state is GONE)
        assert (world.cluster.numbers["a"], answers.stayed) == (0, [])
        world.scale("a", 1)
        await world.seen.until(lambda: world.seen.ids("a", STARTING))
        assert answers.stayed == ["a"]

    async def test_closing_leaves_everything_running_and_writes_nothing_more(self, world: ClusterWorld) -> None:
        await world.ready("a", 2)
        writes = list(world.cluster.writes)
        await world.runtime.aclose(drain_deadline_s=0.05)
        world.scale("a", 0)
        await turns()
        assert (world.cluster.numbers["a"], world.cluster.writes) == (2, writes)

    async def test_a_crowd_gets_its_replicas_in_one_write(self, world: ClusterWorld) -> None:
        world.scale("a", 2)
        await world.seen.until(lambda: len(world.seen.ids("a", STARTING)) == 2)
        assert world.cluster.writes == [WriteScale(0, 2)]

    async def test_fewer_waits_until_the_starting_one_is_ready_and_takes_the_named_one(
        self, world: ClusterWorld
    ) -> None:
        (old,) = await world.ready("a", 1)
        world.scale("a", 2)
        await world.seen.until(lambda: world.seen.ids("a", STARTING))
        (young,) = world.seen.ids("a", STARTING)
        world.scale("a", 1, victims=(old,))
        await turns()
        assert world.cluster.numbers["a"] == 2
        await world.make_ready(young)
        await world.seen.until(lambda: world.seen.now[old].state is GONE)
        assert world.seen.now[young].state is READY
        assert world.cluster.writes[-1] == WriteScale(2, 1, (old,))

    async def test_who_does_not_lead_writes_nothing_and_goes_on_when_it_does(self, world: ClusterWorld) -> None:
        world.runtime.lead(False)
        world.scale("a", 1)
        await turns()
        assert world.cluster.writes == []
        world.runtime.lead(True)
        await world.seen.until(lambda: world.seen.ids("a", STARTING))

    async def test_who_begins_to_lead_writes_of_each_workload_only_once_it_has_come_to_it(
        self, world: ClusterWorld
    ) -> None:
        world.runtime.lead(False)
        world.scale("a", 1)
        services = world.runtime.begin_to_lead(True)
        assert set(services) == {target.service for target in TARGETS}
        world.scale("b", 1)
        await turns()
        assert world.cluster.writes == []
        world.runtime.lead_one("b")
        await world.seen.until(lambda: world.seen.ids("b", STARTING))
        assert world.seen.ids("a", STARTING) == []
        world.runtime.lead_one("a")
        await world.seen.until(lambda: world.seen.ids("a", STARTING))

    async def test_who_loses_the_lead_is_silent_about_all_at_once(self, world: ClusterWorld) -> None:
        world.runtime.begin_to_lead(False)
        world.scale("a", 1)
        world.scale("b", 1)
        await turns()
        assert world.cluster.writes == []

    async def test_a_hand_on_the_number_is_told_and_not_fought(self, world: ClusterWorld) -> None:
        await world.ready("a", 1)
        world.cluster.set_number("a", 2)
        await world.seen.until(lambda: len(world.seen.ids("a", STARTING, READY)) == 2)
        ((service, write, is_hands_off),) = world.cluster.foreign
        assert (service, write.before, write.found, is_hands_off) == ("a", 1, 2, False)
        world.scale("a", 1)
        await turns()
        assert world.cluster.numbers["a"] == 2
        assert world.runtime.last_foreign_write("a") == (write, False)

    async def test_a_write_that_meets_another_number_is_not_forced(self, world: ClusterWorld) -> None:
        world.cluster.numbers["a"] = 3
        world.scale("a", 1)
        await world.until_true(lambda: world.cluster.foreign)
        assert world.cluster.numbers["a"] == 3

    async def test_a_cost_that_could_not_be_written_is_written_again(
        self, world: ClusterWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("zerogate.kube.writes.AGAIN_S", 0.001)
        old, _ = await world.ready("a", 2)
        world.cluster.failures = [Unreachable(Asked(verb="patch"), "connection refused")]
        world.scale("a", 1, victims=(old,))
        await world.seen.until(lambda: world.seen.now[old].state is GONE)
        assert world.cluster.failures == []
        assert world.cluster.numbers["a"] == 1

    @pytest.mark.parametrize("is_let_go", [False, True], ids=["who leads no more", "whose workload was let go"])
    async def test_a_cost_that_could_not_be_written_is_given_up(
        self, world: ClusterWorld, monkeypatch: pytest.MonkeyPatch, is_let_go: bool
    ) -> None:
        monkeypatch.setattr("zerogate.kube.writes.AGAIN_S", 0.001)
        old, _ = await world.ready("a", 2)
        world.cluster.failures = [Unreachable(Asked(verb="patch"), "connection refused")] * 1000
        world.scale("a", 1, victims=(old,))
        await world.until_true(lambda: len(world.cluster.failures) < 999)
        if is_let_go:
            world.runtime.configure({target.service: target for target in TARGETS if target.service != "a"})
        else:
            world.runtime.lead(False)
        await turns()
        left = len(world.cluster.failures)
        await asyncio.sleep(0.05)
        assert len(world.cluster.failures) >= left - 1

    @pytest.mark.parametrize("what", ["somebody inside", "more wanted", "another leads", "let go"])
    async def test_a_lower_number_that_waits_for_its_turn_is_not_written_when_it_is_not_wanted_any_more(
        self, world: ClusterWorld, what: str
    ) -> None:
        (one,) = await world.ready("a", 1)
        world.cluster.turn = asyncio.Event()
        writes = len(world.cluster.writes)
        world.scale("a", 0)
        await world.until_true(lambda: world.runtime.replicas()[0].state is DRAINING)
        await turns()
        if what == "somebody inside":
            world.runtime.on_busy(one)
        elif what == "more wanted":
            world.scale("a", 1)
        elif what == "let go":
            world.runtime.configure({target.service: target for target in TARGETS if target.service != "a"})
        else:
            world.runtime.lead(False)
        world.cluster.turn.set()
        await turns()
        assert world.cluster.writes[writes:] == []
        assert world.cluster.numbers["a"] == 1

    async def test_a_write_that_failed_is_tried_again(
        self, world: ClusterWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("zerogate.kube.writes.AGAIN_S", 0.001)
        world.cluster.failures = [Unreachable(Asked(verb="patch"), "connection refused")] * 2
        world.scale("a", 1)
        await world.seen.until(lambda: world.seen.ids("a", STARTING))
        assert world.cluster.failures == []
        assert world.cluster.numbers["a"] == 1

    async def test_why_a_number_is_not_written_is_said_until_it_is_or_is_not_wanted_any_more(
        self, world: ClusterWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("zerogate.kube.writes.AGAIN_S", 0.001)
        refused = Forbidden(Asked(verb="patch", group="apps", resource="deployments/scale"), "x cannot patch")
        for ends in ("written", "not wanted"):
            caplog.clear()
            world.cluster.failures = [refused] * 3 if ends == "written" else [refused] * 999
            world.scale("a", 1 if ends == "written" else 2)
            await world.until_true(lambda: "deployments/scale" in world.runtime.write_trouble("a"))
            if ends == "not wanted":
                await world.until_true(lambda: len(world.cluster.failures) < 995)
                world.scale("a", 1)
            await world.until_true(lambda: not world.runtime.write_trouble("a"))
            assert len(caplog.records) == 1, "once, however often it is tried"
        world.cluster.failures = [refused]
        world.scale("a", 2)
        await world.until_true(lambda: world.runtime.write_trouble("a"))
        world.runtime.lead(False)
        assert world.runtime.write_trouble("a") == ""

    async def test_a_service_that_cannot_be_brought_up_from_zero_says_why_until_it_is_up(
        self, world: ClusterWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("zerogate.kube.writes.AGAIN_S", 0.001)
        refused = Forbidden(Asked(verb="patch", group="apps", resource="deployments/scale"), "x cannot patch")
        assert (world.runtime.wake_trouble("a"), world.runtime.wake_trouble("nobody")) == ("", "")
        world.cluster.failures = [refused] * 20
        world.scale("a", 1)
        await world.until_true(
            lambda: world.runtime.wake_trouble("a") == "the autoscaler cannot write its number of replicas"
        )
        await world.until_true(lambda: world.runtime.number("a") == 1)
        world.cluster.failures = [refused] * 999
        world.scale("a", 2)
        await world.until_true(lambda: world.runtime.write_trouble("a"))
        assert world.runtime.wake_trouble("a") == "", "it is up: its requests are served"

    async def test_the_next_pod_of_a_stateful_set_is_another_replica(self, world: ClusterWorld) -> None:
        for uid in ("11111111", "22222222"):
            world.runtime.on_pod("b", msgspec.convert({"metadata": {"name": "b-0", "uid": uid}}, Pod))
        gone = world.seen.now["b-0.11111111"]
        assert gone.state is GONE
        assert gone.ended is not None
        assert gone.ended.cause is EndCause.STOPPED, "that it has gone is no failure"
        assert world.seen.ids("b", STARTING) == ["b-0.22222222"]

    async def test_one_that_has_ended_in_a_pod_that_is_being_deleted_has_nobody_who_reports(
        self, world: ClusterWorld
    ) -> None:
        container = {"name": "model", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}
        meta = {"name": "b-0", "uid": "11111111"}
        body = {"metadata": meta, "status": {"containerStatuses": [container]}}
        world.runtime.on_pod("b", msgspec.convert({"metadata": meta}, Pod))
        world.runtime.on_pod("b", msgspec.convert(body, Pod))
        assert world.runtime.source_of("b-0.11111111") == "ml/b-0", "the kubelet may start it anew"
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        world.runtime.on_pod("b", msgspec.convert(body, Pod))
        assert world.runtime.source_of("b-0.11111111") is None

    async def test_a_workload_that_is_let_go_on_its_way_to_zero_is_forgotten(self, world: ClusterWorld) -> None:
        world.runtime.set_stand_in(Answers())
        await world.ready("a", 1)
        world.scale("a", 0)
        await turns()
        world.runtime.configure({target.service: target for target in TARGETS if target.service != "a"})
        assert not world.runtime._heading

    async def test_a_workload_that_is_let_go_stays_as_it_is(self, world: ClusterWorld) -> None:
        (one,) = await world.ready("a", 1)
        world.runtime.configure({target.service: target for target in TARGETS if target.service != "a"})
        assert world.seen.now[one].state is GONE
        assert world.cluster.numbers["a"] == 1

    async def test_a_workload_that_is_let_go_is_written_no_more_though_a_write_failed_just_then(
        self, world: ClusterWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("zerogate.kube.writes.AGAIN_S", 0.0)
        world.cluster.failures = [Unreachable(Asked(verb="patch"), "connection refused")]
        world.scale("a", 1)
        await world.until_true(lambda: world.cluster.sent)
        world.runtime.configure({target.service: target for target in TARGETS if target.service != "a"})
        await turns()
        assert (world.cluster.failures, world.cluster.sent, world.cluster.writes) == ([], 1, [])
