"""R6: events of a stream arrive when the model server writes them, and no later than through a process that only passes
bytes on. That they are not collected, whatever the times, is in `test_clients_http` and `test_clients_browser`: there a
server waits for leave before it sends the next.
"""

import asyncio
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from tests.e2e.gaps import LATER_S, beside, both, times_of_events
from tests.e2e.harness import Box, soon, stub, zerogate
from tests.e2e.wire import Wire, request

pytestmark = [pytest.mark.slow, pytest.mark.may_block]


async def port_of(box: Box) -> int:
    """Of the one replica of `chat`."""
    (replica,) = (await box.status("chat"))["replicas"]
    return int(replica["address"].rpartition(":")[2])


async def test_r6_events_are_no_later_than_through_a_process_that_only_passes_them_on(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(target_concurrency=50)}, tmp_path) as box, box.wire() as one:
        await box.get("chat")
        async with beside(await port_of(box)) as other:
            ours, theirs = await both(one, other, 40, gap_ms=50)
    assert ours.late_s() <= theirs.late_s() + LATER_S


async def test_r6_events_of_a_stream_from_zero_are_no_later_either(tmp_path: Path) -> None:
    count, service = 40, stub("--ready-after", "0.3", target_concurrency=50)
    async with zerogate({"chat": service}, tmp_path) as box, box.wire() as one:
        ask = request("GET", f"/sse?events={count}&gap_ms=80", host="chat")
        await one.send(ask)
        cold = soon(times_of_events(one, count))
        await box.until_ready("chat")
        async with beside(await port_of(box)) as other:
            await other.send(ask)
            theirs = await times_of_events(other, count)
        ours = await cold
    assert ours.late_s() <= theirs.late_s() + LATER_S


async def test_r6_under_load_the_gaps_between_events_are_the_servers_to_20_ms(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(target_concurrency=50)}, tmp_path) as box, AsyncExitStack() as stack:
        await box.get("chat")
        loud = [await stack.enter_async_context(box.wire()) for _ in range(8)]
        for one in loud:
            await one.send(request("GET", "/sse?events=250&gap_ms=10&size=2000", host="chat"))
        reading = [soon(other.body(await other.head())) for other in loud]
        quiet = await stack.enter_async_context(box.wire())
        other = await stack.enter_async_context(beside(await port_of(box)))
        ours, theirs = await both(quiet, other, 50, gap_ms=40)
        await asyncio.gather(*reading)
    assert ours.late_s() <= theirs.late_s() + LATER_S
    assert ours.uneven_s() <= theirs.uneven_s() + LATER_S


async def test_r6_a_stream_at_full_speed_does_not_make_the_events_of_another_wait(tmp_path: Path) -> None:
    """It takes all of a core, the relay nearly nothing: the turns of a loop that is busy are what is late here."""
    services = {"chat": stub(target_concurrency=50), "fast": stub()}
    async with zerogate(services, tmp_path) as box, box.wire() as one, box.wire() as fast:
        await box.get("chat")
        await fast.send(request("GET", "/sse?events=10000000&size=2000", host="fast"))
        assert (await fast.head()).status == 200
        flood = soon(dropped(fast))
        async with beside(await port_of(box)) as other:
            ours, theirs = await both(one, other, 20, gap_ms=100)
        assert not flood.done()
        fast.hang_up()
        assert await flood > 1000
    assert ours.late_s() <= theirs.late_s() + LATER_S


async def dropped(one: Wire) -> int:
    """Read what comes until we hang up; how many chunks it was."""
    count = 0
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        async for _ in one.chunks():
            count += 1
    return count
