"""Pods without a sidecar, asked whether they are ready."""

import asyncio

from gateway.bare_book import Question
from gateway.bare_probes import BareProbes
from tests.queueproxy.world import start_stub
from zerogate.runtime.interface import Address


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
