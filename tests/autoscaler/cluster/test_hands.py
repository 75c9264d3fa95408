"""What is written is told, by the leader alone, and what others wrote reaches the deciding side."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from autoscaler.cluster.hands import LeadersHands, NotLeadingError
from autoscaler.cluster.services import target_of
from tests.zerogate.kube.test_catalog import catalog, workload
from zerogate.errors import ZerogateError
from zerogate.kube.acts import WriteScale
from zerogate.kube.errors import Asked, NotDue, Unreachable
from zerogate.kube.event_book import Happening
from zerogate.kube.foreign import ForeignWrite
from zerogate.kube.happenings import Happenings
from zerogate.kube.target import Target


class Events(Happenings):
    def __init__(self) -> None:
        self.told: list[Happening] = []

    def tell(self, happening: Happening) -> None:
        self.told.append(happening)


class Room:
    """Hands over hands that note what is done, in order."""

    def __init__(self) -> None:
        self.leads = True
        self.loses_lead_noting = False
        self.loses_lead_waiting = False
        self.done: list[Any] = []
        self.failure: Exception | None = None
        self.events = Events()
        self.target = target_of(catalog(workload(enabled="true")).services()["ml/llama"])
        self.it = LeadersHands(
            self, self.events, is_leader=lambda: self.leads, view=self._view,
            adopt=lambda service, number: self.done.append(("adopt", service, number)),
            before_write=self._before, after_floor=self._after,
        )  # fmt: skip

    def _view(self, service: str) -> Any:
        raise ZerogateError(f"there is no service {service}")

    async def _before(self, kind: str, key: tuple[str, str]) -> None:
        self.done.append(("before", kind, key))
        self.leads = self.leads and not self.loses_lead_noting

    async def _after(self, kind: str, key: tuple[str, str]) -> None:
        self.done.append(("after", kind, key))

    async def write_scale(self, target: Target, write: WriteScale, is_due: Callable[[], bool]) -> int:
        self.leads = self.leads and not self.loses_lead_waiting
        if not is_due():
            raise NotDue(Asked(verb="patch"))
        if self.failure:
            raise self.failure
        self.done.append(write)
        return 7

    async def write_cost(self, target: Target, pod: str, cost: int) -> None:
        self.done.append((pod, cost))

    async def write_floor(self, target: Target, replicas: int, is_due: Callable[[], bool]) -> int:
        self.leads = self.leads and not self.loses_lead_waiting
        if not is_due():
            raise NotDue(Asked(verb="patch"))
        return min(replicas, 4)

    def tell_foreign(self, target: Target, write: ForeignWrite, *, is_hands_off: bool) -> None:
        self.done.append((write.found, is_hands_off))


def always() -> bool:
    return True


@pytest.fixture
def room() -> Room:
    return Room()


async def test_what_it_had_is_noted_before_the_number_and_the_number_is_told_after_it(room: Room) -> None:
    assert await room.it.write_scale(room.target, WriteScale(0, 2), always) == 7
    assert room.done == [("before", "Deployment", ("ml", "llama")), WriteScale(0, 2)]
    (event,) = room.events.told
    assert (event.reason, event.note, event.about.name) == ("ScaledUp", "From 0 to 2.", "llama")


async def test_who_does_not_lead_any_more_writes_nothing_whatever_was_decided(room: Room) -> None:
    room.leads = False
    with pytest.raises(NotLeadingError, match="this process does not lead"):
        await room.it.write_scale(room.target, WriteScale(0, 1), always)
    with pytest.raises(NotLeadingError):
        await room.it.write_cost(room.target, "llama-1", -1000)
    with pytest.raises(NotLeadingError):
        await room.it.write_floor(room.target, 3, always)
    assert (room.done, room.events.told) == ([], [])


async def written(room: Room, what: str) -> None:
    """The workload's number, or the floor of its HPA."""
    if what == "number":
        await room.it.write_scale(room.target, WriteScale(1, 0), always)
    else:
        await room.it.write_floor(room.target, 3, always)


@pytest.mark.parametrize("what", ["number", "floor"])
async def test_who_loses_the_lead_while_that_is_noted_writes_nothing(room: Room, what: str) -> None:
    room.loses_lead_noting = True
    with pytest.raises(NotLeadingError):
        await written(room, what)
    assert (room.done, room.events.told) == ([("before", "Deployment", ("ml", "llama"))], [])


@pytest.mark.parametrize("what", ["number", "floor"])
async def test_who_loses_the_lead_while_its_write_waits_for_its_turn_sends_nothing(room: Room, what: str) -> None:
    room.loses_lead_waiting = True
    with pytest.raises(NotDue):
        await written(room, what)
    assert (room.it.failures, room.events.told) == (0, [])


async def test_a_write_that_failed_is_counted_and_not_told(room: Room) -> None:
    room.failure = Unreachable(Asked(verb="patch"), "gone")
    with pytest.raises(Unreachable):
        await room.it.write_scale(room.target, WriteScale(1, 0), always)
    assert (room.it.writes, room.it.failures, room.events.told) == (0, 1, [])


async def test_a_write_that_is_not_wanted_any_more_is_no_failure(room: Room) -> None:
    with pytest.raises(NotDue):
        await room.it.write_scale(room.target, WriteScale(1, 0), lambda: False)
    with pytest.raises(NotDue):
        await room.it.write_floor(room.target, 3, lambda: False)
    assert (room.it.writes, room.it.failures, room.events.told) == (0, 0, [])


async def test_a_floor_is_told_as_it_became(room: Room) -> None:
    assert await room.it.write_floor(room.target, 9, always) == 4
    assert [event.note for event in room.events.told] == ["The HPA keeps 4 replicas at least."]
    assert [step for step, *_ in room.done] == ["before", "after"]


def test_a_foreign_number_is_told_and_offered(room: Room) -> None:
    room.it.tell_foreign(room.target, ForeignWrite(1.0, 1, 3), is_hands_off=True)
    assert room.done == [(3, True), ("adopt", "ml/llama", 3)]
    assert msgspec.structs.asdict(room.target)["is_floored"] is False
