"""In which order things follow when this process begins to lead, or ceases to."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from autoscaler.lead import Lead
from tests.zerogate.kube.test_catalog import catalog, workload
from zerogate.tasks import Nursery

SERVICE = "ml/llama"


class Parts:
    """A process that notes what it is told."""

    def __init__(self, *, is_floored: bool) -> None:
        self.done: list[Any] = []
        self.nursery = Nursery()
        self.is_slow = asyncio.Event()
        self.is_slow.set()
        one = workload(enabled="true", hpa="floor") if is_floored else workload(enabled="true")
        note = self._note
        self.enabling = SimpleNamespace(begin_to_lead=lambda: note("enabling"))
        self.takeovers = SimpleNamespace(lead=lambda leads: note(("takeovers", leads)))
        self.runtime = SimpleNamespace(
            begin_to_lead=self._begin, lead_one=lambda service: note(("lead_one", service)), number=lambda _: 2
        )
        self.quiescer = SimpleNamespace(lead=lambda leads: note(("quiescer", leads)))
        self.receiver = SimpleNamespace(say_who_leads=self._say)
        self.services = SimpleNamespace(entries=catalog(one).services(), begin_to_lead=lambda: note("services"))
        self.notes = SimpleNamespace(mark=lambda service: note(("mark", service)))
        self.route_notes = SimpleNamespace(mark=lambda: note("routes"))
        self.autoscaler = SimpleNamespace(adopt=lambda service, number: note(("adopt", number)))
        self.feed = SimpleNamespace(workloads=lambda: [("Deployment", one)])

    def _note(self, what: object) -> None:
        self.done.append(what)

    def _begin(self, leads: bool) -> list[str]:
        self.done.append(("runtime", leads))
        return [SERVICE]

    async def _say(self, *, to_sidecars: bool, pace: object) -> None:
        self.done.append("sidecars hear" if to_sidecars else "holders hear")
        await self.is_slow.wait()

    def look_at_service(self, service: str) -> None:
        self.done.append(("look at", service))

    def look_at(self, kind: str, one: object) -> None:
        self.done.append(("look at", kind))


@pytest.fixture
async def nurseries() -> AsyncIterator[list[Nursery]]:
    made: list[Nursery] = []
    yield made
    for nursery in made:
        await nursery.aclose()


def led(nurseries: list[Nursery], *, is_floored: bool = False) -> tuple[Any, Lead]:
    parts: Any = Parts(is_floored=is_floored)
    nurseries.append(parts.nursery)
    return parts, Lead(parts)


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_begins_prepares_each_service_before_it_writes_and_those_that_hold_hear_first(
    nurseries: list[Nursery],
) -> None:
    parts, lead = led(nurseries)
    lead.on_change(True)
    assert parts.done == ["enabling", ("takeovers", True), ("runtime", True), ("quiescer", True)]
    await turns()
    assert parts.done[4:] == [
        "holders hear", ("look at", SERVICE), ("adopt", 2), ("mark", SERVICE), ("lead_one", SERVICE), "sidecars hear",
        "services", "routes", ("look at", "Deployment"),
    ]  # fmt: skip


async def test_what_an_hpa_scales_is_not_adopted(nurseries: list[Nursery]) -> None:
    parts, lead = led(nurseries, is_floored=True)
    lead.on_change(True)
    await turns()
    assert ("lead_one", SERVICE) in parts.done
    assert ("adopt", 2) not in parts.done


async def test_who_ceases_is_silent_at_once_and_goes_on_with_nothing_that_it_had_begun(
    nurseries: list[Nursery],
) -> None:
    parts, lead = led(nurseries)
    parts.is_slow.clear()
    lead.on_change(True)
    await turns()
    parts.done.clear()
    lead.on_change(False)
    assert parts.done == [("takeovers", False), ("runtime", False), ("quiescer", False)]
    parts.is_slow.set()
    await turns()
    assert parts.done[3:] == ["holders hear", ("lead_one", SERVICE), "sidecars hear"]
