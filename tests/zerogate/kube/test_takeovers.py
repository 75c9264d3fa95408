"""Which Services are answered for as ports come and go, without a cluster."""

import asyncio
from typing import Any

import pytest

from tests.zerogate.kube.test_fronts import entry, service
from zerogate.kube.access import Access
from zerogate.kube.client import KubeClient
from zerogate.kube.takeovers import Takeovers


async def test_a_service_for_which_no_port_was_left_gets_one_that_has_rested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerogate.kube.takeovers.PORTS_AGAIN_S", 0.01)
    monkeypatch.setattr("zerogate.kube.port_ledger.REST_S", 0.05)
    client = KubeClient(Access("http://127.0.0.1:1"))

    async def nothing(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(client, "apply", nothing)
    it = Takeovers(client, home="system", ports=(20000, 20000))
    it._is_synced = True
    it.lead(True)
    front = service()
    it._services._items[front.key] = front
    it._book._ledger.take(("ns", "before", ""), it._clock())
    it.on_services({"ns/llm": entry()})
    async with asyncio.timeout(30):
        while not any("all ports" in why for why in it.troubles("ns/llm")):
            await asyncio.sleep(0.01)
    it._book._ledger.give_back(("ns", "before", ""), it._clock())
    async with asyncio.timeout(30):
        while any("all ports" in why for why in it.troubles("ns/llm")):
            await asyncio.sleep(0.01)
    assert [taken.front.key for taken in it._book.taken_of("ns/llm")] == [front.key]
    await it.aclose()
    await client.aclose()
