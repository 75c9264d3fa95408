"""How exchanges share few connections, and what becomes of those that wait for one."""

import asyncio

import pytest

from tests.zerogate.http.dialogue import Sides, exchange_of, request
from tests.zerogate.http.h2.replica import Peer, Replica, echo
from tests.zerogate.http.rig import replica
from zerogate.http.exchange import Exchange
from zerogate.http.h2 import frames as f
from zerogate.http.h2.pool import SharedPool
from zerogate.http.sides import RequestTerms
from zerogate.http.sweep import Sweep
from zerogate.http.trace import Trace
from zerogate.http.trace_context import read_context
from zerogate.http.upstream import Upstream
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery


class World:
    """A pool to one port, and exchanges whose dialogues are recorded."""

    def __init__(self, port: int) -> None:
        self.nursery = Nursery()
        self.pool = SharedPool(Address("127.0.0.1", port), Sweep(), self.nursery)
        self.sides: list[Sides] = []

    def dispatch(self, terms: RequestTerms | None = None) -> Exchange:
        sides = Sides(terms=terms)
        self.sides.append(sides)
        exchange = exchange_of(sides, request("GET"))
        upstream = Upstream(service="chat", id="chat-1", gate=sides.gate, pool=self.pool)
        exchange.dispatch(upstream, 0.0)
        return exchange

    async def until_said(self, what: str, *, count: int) -> None:
        async with asyncio.timeout(10):
            while sum(any(what in line for line in sides.said) for sides in self.sides) < count:
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        self.pool.close()
        await self.nursery.aclose()


async def test_all_that_wait_for_a_connection_that_cannot_be_made_are_unsent() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    world = World(port)
    for _ in range(5):
        world.dispatch()
    await world.until_said("owner: unsent (", count=5)
    await world.close()
    assert [sum("unsent" in line for line in sides.said) for sides in world.sides] == [1] * 5


async def test_a_server_that_says_nothing_in_http_2_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with replica(silent) as port:
        world = World(port)
        world.dispatch(RequestTerms(connect_s=0.05))
        await world.until_said("owner: unsent (", count=1)
        await world.close()
        assert world.sides[0].said == ["owner: unsent (it said nothing in HTTP/2)"]


async def test_more_than_the_bound_of_waiting_exchanges_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerogate.http.h2.pool.MAX_WAITING", 2)
    async with replica(Replica(echo)) as port:
        world = World(port)
        for _ in range(4):
            world.dispatch()
        await world.until_said("owner: unsent (2 requests wait", count=2)
        await world.until_said("client: end", count=2)
        await world.close()
        assert ["client: end" in sides.said for sides in world.sides] == [True, True, False, False]


async def test_an_exchange_that_gave_up_waiting_is_passed_over() -> None:
    asked: list[str] = []

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            asked.append(request.fields[":path"])
            peer.answer(request.stream, b"ok")

    async with replica(Replica(script)) as port:
        world = World(port)
        first, _ = world.dispatch(), world.dispatch()
        first.on_downstream_gone(0.1)
        await world.until_said("client: end", count=1)
        assert len(asked) == 1
        await world.close()


async def test_a_further_connection_is_opened_when_the_first_is_well_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerogate.http.h2.pool.FULL", 3)
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        streams = [(await peer.request()).stream]
        await go.wait()
        for stream in streams:
            peer.answer(stream, b"ok")
        await echo(peer)

    one = Replica(script)
    async with replica(one) as port:
        world = World(port)
        for _ in range(3):
            world.dispatch()
        while one.connections < 1 or not world.pool._connections or world.pool._connections[0].streams < 3:
            await asyncio.sleep(0.005)
        for _ in range(2):
            world.dispatch()
        async with asyncio.timeout(10):
            while len(world.pool._connections) < 2:
                await asyncio.sleep(0.005)
        world.dispatch()
        assert sorted(connection.streams for connection in world.pool._connections) == [1, 5]
        go.set()
        await world.until_said("client: end", count=6)
        await world.close()


async def test_a_pool_that_is_closed_lets_its_exchanges_end_and_closes_behind_them() -> None:
    go, closed = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        asked = await peer.request()
        await go.wait()
        peer.answer(asked.stream, b"ok")
        assert await peer.was_told_to_go() == f.NO_ERROR
        closed.set()

    async with replica(Replica(script)) as port:
        world = World(port)
        exchange = world.dispatch()
        async with asyncio.timeout(10):
            while exchange.connection is None:
                await asyncio.sleep(0.005)
        world.pool.close()
        go.set()
        await world.until_said("client: end", count=1)
        await asyncio.wait_for(closed.wait(), 10)
        await world.close()


async def test_the_replica_of_a_traced_request_gets_the_attempt_as_its_parent() -> None:
    sides = Sides()
    exchange = exchange_of(sides, request("GET", accept="a"))
    exchange.upstream = sides
    world = World(1)
    untraced = world.pool.request_fields(exchange)
    exchange.trace = trace = Trace(read_context(exchange.head.lines), 1.0, lambda bits: 7)
    fields = world.pool.request_fields(exchange)
    own = (b"traceparent", b"00-%b-%b-01" % (trace.trace_id, trace.attempts[0].span_id), False)
    assert own in fields
    assert [field for field in fields if field != own] == untraced
    exchange.trace = None
    assert world.pool.request_fields(exchange) == untraced
    await world.close()


async def test_who_waits_while_a_connection_opens_takes_a_place_that_becomes_free_on_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second connection says nothing, and is not waited for."""
    go = asyncio.Event()

    async def first(peer: Peer) -> None:
        asked = await peer.request()
        await go.wait()
        peer.answer(asked.stream, b"first")
        await echo(peer)

    opened = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        if opened == 1:
            await Replica(first, settings={f.MAX_CONCURRENT_STREAMS: 1})(reader, writer)
        else:
            await reader.read()
            await asyncio.Event().wait()

    async with replica(script) as port:
        world = World(port)
        one = world.dispatch()
        async with asyncio.timeout(10):
            while one.connection is None:
                await asyncio.sleep(0.005)
        two = world.dispatch()
        async with asyncio.timeout(10):
            while opened < 2:
                await asyncio.sleep(0.005)
        assert two.connection is None
        go.set()
        await world.until_said("client: end", count=2)
        await world.close()
