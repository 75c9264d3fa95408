"""Leaving in two words under load: one zerogate sends to another whose connections leave again and again."""

import asyncio

import pytest

from tests.zerogate.http.rig import Client, echo, rig
from zerogate.counters import Result
from zerogate.http.h2 import server as server_module
from zerogate.policy import Policy

pytestmark = pytest.mark.uvloop

CLIENTS = 12
EACH = 60


async def test_no_request_is_lost_and_none_is_sent_twice_where_connections_leave_under_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """POSTs, which are repeated only where they were not begun."""
    monkeypatch.setattr(server_module, "PATIENCE_S", 0.03)
    monkeypatch.setattr(server_module, "GOAWAY_S", 0.01)
    async with rig(script=echo) as behind, rig(Policy(protocol="h2c")) as front:
        front.add_replica(behind.address[1])
        clients = [await front.connect() for _ in range(CLIENTS)]
        work = asyncio.gather(*(_ask(client, number) for number, client in enumerate(clients)))
        while not work.done():
            for connection in list(behind.server.connections):
                connection.close_if_idle()
            await asyncio.sleep(0.02)
        assert await work == [EACH] * CLIENTS
        assert behind.server.accepted > 3
        assert {exchange.result for exchange in front.ended} == {Result.SERVED}
        assert len(behind.ended) == CLIENTS * EACH


async def _ask(client: Client, number: int) -> int:
    """Answers that were the right ones."""
    right = 0
    for turn in range(EACH):
        body = b"%d of %d" % (turn, number)
        await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        right += await client.answer() == body
    return right
