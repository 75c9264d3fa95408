"""What waits for what on the way to an API server."""

import asyncio
from collections import Counter

import pytest

from zerogate.clock import now
from zerogate.kube.access import Access
from zerogate.kube.errors import Asked, NotDue
from zerogate.kube.rate import Priority, Rates
from zerogate.kube.transport import AT_ONCE, Call, Transport
from zerogate.tasks import Nursery


async def test_neither_a_write_nor_a_wake_nor_a_lease_waits_for_tokens_that_are_judged_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transport, nursery = Transport(Access("http://127.0.0.1:1"), rates=None, clock=now), Nursery()
    under_way: Counter[Priority] = Counter()

    async def answer(call: Call) -> bytes:
        under_way[call.priority] += 1
        if call.priority is Priority.REVIEW:
            await asyncio.Event().wait()
        return b"{}"

    monkeypatch.setattr(transport, "_answer", answer)

    def call(priority: Priority) -> Call:
        return Call(asked=Asked(verb="create"), method="POST", path="/", priority=priority)

    for _ in range(2 * AT_ONCE):
        nursery.start(transport.request(call(Priority.REVIEW)), name="review")
    async with asyncio.timeout(30):
        while under_way[Priority.REVIEW] < AT_ONCE:
            await asyncio.sleep(0.01)
        for priority in (Priority.WRITE, Priority.WAKE, Priority.LEASE, Priority.READ):
            assert await transport.request(call(priority)) == b"{}"
    assert under_way[Priority.REVIEW] == AT_ONCE
    await nursery.aclose()
    await transport.aclose()


async def test_what_is_not_wanted_any_more_when_its_turn_comes_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = Transport(Access("http://127.0.0.1:1"), rates=Rates(rate=20.0, burst=1.0), clock=now)
    sent: list[Call] = []

    async def send(call: Call) -> bytes:
        sent.append(call)
        raise ConnectionResetError

    monkeypatch.setattr(transport, "_send", send)
    is_wanted = True
    call = Call("PATCH", "/", Asked(verb="patch"), is_due=lambda: is_wanted)
    with pytest.raises(ConnectionResetError):
        await transport.request(call)
    nursery = Nursery()
    second = nursery.start(transport.request(call), name="second")
    await asyncio.sleep(0)
    is_wanted = False
    with pytest.raises(NotDue, match="not wanted any more"):
        await second
    assert sent == [call]
    await nursery.aclose()
    await transport.aclose()
