"""What is over is given back at once: nothing of the request path waits for the collector of cycles."""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.zerogate.http.rig import Rig, echo, rig
from zerogate.admission import Ticket
from zerogate.http.exchange import Exchange
from zerogate.http.h1.client import ClientConnection
from zerogate.http.h1.server import ServerConnection

KINDS = (ClientConnection, Exchange, ServerConnection, Ticket)


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.disable()
    gc.freeze()  # what is there before does not matter, and is most of what a run of tests has
    yield
    gc.unfreeze()
    gc.enable()


def alive() -> Counter[str]:
    return Counter(type(one).__name__ for one in gc.get_objects() if type(one) in KINDS)


async def _served(it: Rig) -> None:
    client = await it.connect()
    await client.get()
    await it.end_of(1)
    client.abort()


async def _hung_up(it: Rig) -> None:
    client = await it.connect()
    await client.send(b"GET /held HTTP/1.1\r\nHost: chat\r\n\r\n")
    while not it.server.connections or not (it.hold.meter.held or it.hold.meter.in_flight):
        await asyncio.sleep(0)
    client.abort()
    await it.end_of(1)


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("is_cold", [False, True], ids=["served", "left while held"])
async def test_a_request_that_is_over_leaves_nothing_for_the_collector(is_cold: bool) -> None:
    assert alive() == Counter(), "what is there from before is not looked at"
    async with rig(script=None if is_cold else echo) as it:
        await (_hung_up if is_cold else _served)(it)
        async with asyncio.timeout(30):
            while it.server.connections:
                await asyncio.sleep(0)
        it.ended.clear()
        for upstream in it.hold.replicas.values():
            upstream.pool.close()
        await asyncio.sleep(0.01)
        assert alive() == Counter()
