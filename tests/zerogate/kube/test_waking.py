"""When a gateway writes a replica count itself."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from zerogate.kube.catalog import Catalog, Managed
from zerogate.kube.errors import Asked, Unreachable
from zerogate.kube.objects import DEPLOYMENTS, Meta, Resource, Scale, ScaleSpec, Workload
from zerogate.kube.pins import PIN
from zerogate.kube.rate import Priority
from zerogate.kube.scaling import ReplicasDiffer, Scales
from zerogate.kube.waking import Waker

NOW = 1_790_000_000.0


class Server(Scales):
    """`/scale` of one workload."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.asked: list[tuple[str, str, Priority]] = []
        self.failure: Exception | None = None

    async def patch(
        self, workload: Resource[Workload], name: str, *, namespace: str, was: int, to: int,
        priority: Priority = Priority.WRITE, is_due: Callable[[], bool] | None = None,
    ) -> Scale:  # fmt: skip
        self.asked.append((namespace, name, priority))
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        found = Scale(metadata=Meta(name=name), spec=ScaleSpec(replicas=self.number))
        if self.number != was:
            raise ReplicasDiffer(name, was=was, wanted=to, found=found)
        self.number = to
        return found


def shown(replicas: int = 0, pin: str | None = None, **annotations: str) -> tuple[Managed, Workload]:
    keys = {f"zerogate.dev/{key}": value for key, value in {"enabled": "true", **annotations}.items()}
    body: dict[str, Any] = {
        "metadata": {"name": "llama", "namespace": "ml", "annotations": {**keys, **({PIN: pin} if pin else {})}},
        "spec": {"replicas": replicas},
    }
    workload = msgspec.convert(body, Workload)
    catalog = Catalog()
    catalog.set_workload("Deployment", DEPLOYMENTS, workload)
    return catalog.services()["ml/llama"], workload


def waker(server: Server, *, blind: bool = False) -> Waker:
    return Waker(server, is_blind=lambda: blind, calendar=lambda: NOW)


async def test_a_workload_at_zero_is_written_to_one_before_everything_else() -> None:
    server = Server()
    assert await waker(server).wake(*shown())
    assert (server.number, server.asked) == (1, [("ml", "llama", Priority.WAKE)])


async def test_of_several_that_ask_at_once_one_writes() -> None:
    server = Server()
    wakers = [waker(server) for _ in range(3)]
    written = await asyncio.gather(*(one.wake(*shown()) for one in wakers for _ in range(2)))
    assert sum(written) == 1
    assert len(server.asked) == 3, "each process asks once at a time"


async def test_what_runs_already_is_not_asked_for_unless_what_is_known_may_be_old() -> None:
    server = Server()
    assert not await waker(server).wake(*shown(replicas=1))
    assert server.asked == []
    assert await waker(server, blind=True).wake(*shown(replicas=1))


@pytest.mark.parametrize(
    ("pin", "wakes"),
    [
        ('{"replicas":0}', False),
        ('{"replicas":0,"until":"2090-01-01T00:00:00Z"}', False),
        ('{"replicas":0,"until":"2020-01-01T00:00:00Z"}', True),
        ("{}", False),
        ('{"replicas":2}', True),
        ("zero", True),
        ('{"replicas":0,"until":"never"}', True),
    ],
    ids=["zero", "zero until then", "a pin that is over", "paused", "two", "unreadable", "until nothing"],
)
async def test_a_persons_word_is_heard(pin: str, wakes: bool) -> None:
    server = Server()
    assert await waker(server).wake(*shown(pin=pin)) is wakes
    assert server.number == int(wakes)


async def test_a_calendar_that_says_zero_now_is_heard() -> None:
    server = Server()
    assert not await waker(server).wake(*shown(schedule="Mon-Sun 00:00-24:00 UTC = 0..0"))
    assert server.asked == []


async def test_a_server_that_does_not_answer_is_no_error_and_may_be_asked_again() -> None:
    server = Server()
    server.failure = Unreachable(Asked(verb="patch", resource="deployments/scale"), "refused")
    one = waker(server)
    assert not await one.wake(*shown())
    server.failure = None
    assert await one.wake(*shown())
