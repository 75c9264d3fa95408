"""What is said to whom, and what of it again, without autoscalers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest

from zerogate.reporting import sender as module
from zerogate.reporting.sender import Sender, Target
from zerogate.reporting.wire import MOST_REFUSED, Beat, Readings, Wake, read_from_source
from zerogate.runtime.interface import Address
from zerogate.stats import Stat
from zerogate.tasks import Nursery


class Counters:
    """The owner's: services with how many wait there."""

    def __init__(self, **held: int) -> None:
        self.held = held
        self.changed: list[str] = []

    def take_changed(self) -> list[str]:
        changed, self.changed = self.changed, []
        return changed

    def read(self, service: str, now_s: float) -> Stat | None:
        held = self.held.get(service)
        if held is None:
            return None
        return Stat(service=service, source="", incarnation="", sequence=1, at_s=now_s, held=held)


class Heard:
    """A stream that keeps what it is told while it can be written to."""

    def __init__(self) -> None:
        self.is_open = self.can_write = True
        self.is_listed = True
        self.missed: dict[str, None] = {}
        self.wakes_said_s = float("-inf")
        self.beats: list[dict[str, int]] = []
        self.wakes: list[str] = []
        self.reported: list[str] = []

    def say(self, data: bytes) -> bool:
        if not self.can_write:
            return False
        message = read_from_source(data[4:])
        if isinstance(message, Wake):
            self.wakes.append(message.reading.service)
        elif isinstance(message, Readings):
            self.reported += [reading.service for reading in message.readings]
        return True

    def beat(self, message: Beat, token: str, now_s: float) -> None:
        self.beats.append(message.inside)

    async def end(self, message: object, within_s: float) -> None: ...


class World:
    def __init__(self) -> None:
        self.nursery = Nursery()
        self.counters = Counters(a=0, b=0)
        self.inside: Mapping[str, int] = {}
        self.refused: list[tuple[str, str]] = []
        self.unheard: list[str] = []
        target = Target(addresses=(), source="g", kind="gateway")
        self.sender = Sender(
            self.counters,
            target,
            nursery=self.nursery,
            jitter=lambda: 0.0,
            inside=lambda: dict(self.inside),
            on_refused=lambda service, why: self.refused.append((service, why)),
            on_unacknowledged=self.unheard.append,
        )
        self.stream = cast(Any, Heard())
        self.sender._streams = {Address("10.0.0.1", 8090): self.stream}

    async def until(self, holds: Any) -> None:
        async with asyncio.timeout(30):
            while not holds():
                await asyncio.sleep(0.005)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(module, "PERIOD_S", 0.01)
    monkeypatch.setattr(module, "BEAT_S", 1000.0)
    it = World()
    it.sender.start()
    yield it
    await it.sender.close()
    await it.nursery.aclose()


async def test_what_is_inside_elsewhere_is_told_with_the_next_look_and_else_with_a_beat(world: World) -> None:
    await world.until(lambda: world.stream.beats)
    world.inside = {"ml/chat-1": 2}
    await world.until(lambda: len(world.stream.beats) == 2)
    await asyncio.sleep(0.1)
    assert world.stream.beats == [{}, {"ml/chat-1": 2}]


async def test_a_stream_that_cannot_be_written_to_is_told_later_what_it_missed_as_it_is_then(world: World) -> None:
    world.stream.can_write = False
    world.counters.changed = ["a", "b"]
    await world.until(lambda: len(world.stream.missed) == 2)
    world.stream.can_write = True
    world.sender.on_writable(world.stream)
    await world.until(lambda: not world.stream.missed)
    assert world.stream.reported == ["a", "b"]


async def test_a_new_stream_is_told_of_all_services_that_there_are(world: World) -> None:
    world.counters.changed = ["a", "b"]
    await world.until(lambda: world.stream.reported == ["a", "b"])
    del world.counters.held["b"]
    world.counters.changed = ["b"]
    await world.until(lambda: not world.counters.changed)
    world.stream.can_write = False
    world.sender.on_welcome(world.stream)
    assert list(world.stream.missed) == ["a"]


async def test_wakes_are_said_to_a_leader_once_however_much_it_says_and_anew_when_it_is_back(world: World) -> None:
    world.counters.held["a"] = 1
    world.sender.on_ack(world.stream, 0, is_leading=False)
    world.sender._wakes.ask("a", 0.0)
    for _ in range(3):
        world.sender.on_ack(world.stream, 0, is_leading=True)
    assert world.stream.wakes == ["a"]
    world.sender.on_welcome(world.stream)
    world.sender.on_ack(world.stream, 0, is_leading=True)
    assert world.stream.wakes == ["a", "a"]


async def test_why_the_leader_cannot_bring_a_service_up_is_told_and_taken_back_when_nothing_waits(world: World) -> None:
    world.counters.held["a"] = 1
    world.sender.wake("a")
    await world.until(lambda: world.stream.wakes)
    why = "x" * 2 * MOST_REFUSED
    for _ in range(2):
        world.sender.on_ack(world.stream, 1, is_leading=True, refused=why)
    world.sender.on_ack(world.stream, 1, is_leading=False, refused="a follower knows nothing of it")
    assert world.refused == [("a", why[:MOST_REFUSED])]
    said = len(world.stream.wakes)
    await world.until(lambda: len(world.stream.wakes) > said)  # it is asked for again and again
    world.counters.held["a"] = 0
    await world.until(lambda: len(world.refused) > 1)
    assert world.refused[1:] == [("a", "")]
    assert not world.unheard, "its three seconds are not over"
