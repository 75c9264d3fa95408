"""Leaving in two words under load: one zerogate sends to another whose connections leave again and again."""

import asyncio

import pytest

from tests.zerogate.http.rig import Client, echo, rig
from zerogate.counters import Result
from zerogate.http.h2 import server as server_module
from zerogate.policy import Policy

pytestmark = pytest.mark.uvloop

CLIENTS = 12
LEAVINGS = 6


async def test_no_request_is_lost_and_none_is_sent_twice_where_connections_leave_under_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """POSTs, which are repeated only where they were not begun."""
    monkeypatch.setattr(server_module, "PATIENCE_S", 0.03)
    monkeypatch.setattr(server_module, "GOAWAY_S", 0.01)
    async with rig(script=echo) as behind, rig(Policy(protocol="h2c")) as front:
        front.add_replica(behind.address[1])
        clients = [await front.connect() for _ in range(CLIENTS)]
        enough = asyncio.Event()
        work = asyncio.gather(*(_ask(client, number, enough) for number, client in enumerate(clients)))
        async with asyncio.timeout(30):
            while behind.server.accepted < LEAVINGS:
                for connection in list(behind.server.connections):
                    connection.close_if_idle()
                await asyncio.sleep(0.02)
        enough.set()
        answers = sum(await work)
        assert len(front.ended) == answers
        assert {exchange.result for exchange in front.ended} == {Result.SERVED}
        assert len(behind.ended) == answers


async def _ask(client: Client, number: int, enough: asyncio.Event) -> int:
    """Asks until it is enough, for the right answer each time; how often."""
    asked = 0
    while not enough.is_set():
        body = b"%d of %d" % (asked, number)
        await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        assert await client.answer() == body
        asked += 1
    return asked
