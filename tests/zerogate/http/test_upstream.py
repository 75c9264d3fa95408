"""Which connection a request rides on."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.zerogate.http.dialogue import Sides, exchange_of, request
from tests.zerogate.http.rig import echo, read_request, rig
from zerogate.http.exchange import Exchange
from zerogate.http.upstream import IDLE_S, PROOF_S, UNSAFE_IDLE_S, Pool
from zerogate.runtime.interface import Address

STREAMED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 2\r\n\r\n{}"


class Connection:
    """An idle connection."""

    def __init__(self, *, streamed: bool = False) -> None:
        self.idle_since_s = 0.0
        self.is_closed = False
        self.was_streamed = streamed

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


class World:
    """A pool that connects to nothing."""

    def __init__(self) -> None:
        self.connects = 0
        self.pool = Pool(Address("127.0.0.1", 1), self, self)  # type: ignore[arg-type]

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        work.close()
        self.connects += 1

    def watch(self, item: object, deadline_s: float) -> None: ...

    def idle(self, since_s: float, *, streamed: bool = False) -> Connection:
        connection = Connection(streamed=streamed)
        self.pool.give_back(connection, since_s)  # type: ignore[arg-type]
        return connection

    def take(self, method: str, now_s: float) -> Any:
        return self.pool.take(Exchange(Sides(), request(method=method), now_s), now_s)


async def test_the_connection_that_was_used_last_is_taken_first() -> None:
    world = World()
    old, new = world.idle(100.0), world.idle(101.0)
    assert [world.take("POST", 101.0) for _ in range(3)] == [new, old, None]
    assert world.connects == 1


@pytest.mark.parametrize(("method", "longest_s"), [("GET", IDLE_S), ("POST", UNSAFE_IDLE_S)])
async def test_a_connection_that_was_idle_for_too_long_is_closed_instead(method: str, longest_s: float) -> None:
    world = World()
    connection = world.idle(100.0)
    assert world.take(method, 100.0 + longest_s + 0.1) is None
    assert connection.is_closed


async def test_a_post_does_not_follow_a_streamed_answer_before_its_connection_has_outlived_it() -> None:
    world = World()
    counted, streamed = world.idle(100.0), world.idle(100.0, streamed=True)
    assert world.take("POST", 100.0) is counted
    assert world.take("POST", 100.0) is None
    assert world.take("POST", 100.0 + 1.1 * PROOF_S) is streamed
    assert world.idle(101.0, streamed=True) is world.take("POST", 101.0)


async def test_a_request_that_may_be_repeated_takes_it_at_once() -> None:
    world = World()
    assert world.idle(100.0, streamed=True) is world.take("GET", 100.0)


async def test_a_replica_that_closes_after_a_streamed_answer_is_not_trusted_any_more() -> None:
    world = World()
    world.idle(100.0, streamed=True)
    assert world.take("POST", 101.0) is not None
    world.pool.on_lost(world.idle(101.0, streamed=True))  # type: ignore[arg-type]
    world.idle(101.0, streamed=True)
    assert world.take("POST", 101.0) is None


async def test_a_replica_that_closes_after_each_stream_without_saying_so_costs_nobody_an_answer() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(STREAMED)
        await writer.drain()
        await reader.read(1)  # what still comes is thrown away with the connection

    async with rig(script=script) as it:
        client = await it.connect()
        for _ in range(3):
            await client.send(POST)
            assert (await client.until(b"\r\n0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_connections_are_used_again_after_answers_with_a_length() -> None:
    connections = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await echo(reader, writer)

    async with rig(script=script) as it:
        client = await it.connect()
        for _ in range(3):
            await client.send(POST)
            assert await client.answer() == b"{}"
    assert connections == 1


async def test_a_connection_that_comes_too_late_is_not_given_to_the_next_attempt() -> None:
    async with rig(script=echo) as it:
        (upstream,) = it.hold.replicas.values()
        sides = Sides()
        exchange = exchange_of(sides)
        exchange.dispatch(upstream, 0.0)
        exchange.on_connect_failed("it took too long", 1.0)
        elsewhere: Any = Sides(connected=False)
        exchange.dispatch(elsewhere, 1.0)
        sides.hear()
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name().startswith("connect to")))
        assert sides.hear() == []
        assert exchange.wants_connection
