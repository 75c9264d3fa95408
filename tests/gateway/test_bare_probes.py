"""Pods without a sidecar, asked whether they are ready."""

import asyncio

from gateway.bare_book import Question
from gateway.bare_probes import BareProbes
from tests.queueproxy.world import start_stub
from zerogate.http.probe import INTERVAL_S
from zerogate.runtime.interface import Address


async def test_who_is_asked_no_more_is_left_alone() -> None:
    asked = 0

    class Rude(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            nonlocal asked
            asked += 1
            transport.close()

    server = await asyncio.get_running_loop().create_server(Rude, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    probes = BareProbes(lambda uid, is_ready: None)
    probes.keep({"a": Question(Address("127.0.0.1", port), "/one", "http1")})
    probes.keep({"a": Question(Address("127.0.0.1", 9), "/another", "http1")})
    await asyncio.sleep(0.1)  # what is on its way has come
    before = asked
    await asyncio.sleep(10 * INTERVAL_S)
    assert asked == before
    probes.close()
    server.close()


async def test_each_change_is_told_and_who_is_asked_no_more_is_not_ready_for_the_next_question() -> None:
    stub, port = await start_stub()
    told: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
    probes = BareProbes(lambda uid, is_ready: told.put_nowait((uid, is_ready)))
    here, nowhere = (Question(Address("127.0.0.1", one), "/health", "http1") for one in (port, 9))
    async with asyncio.timeout(10):
        probes.keep({"a": here, "b": nowhere})
        assert await told.get() == ("a", True)
        probes.keep({"a": nowhere})
        assert await told.get() == ("a", False)
        probes.keep({})
        probes.keep({"a": here})
        assert await told.get() == ("a", True)
        probes.close()
    assert told.empty()
    stub.signal()
    await stub.end()
