"""Each port is one service's: what is said there, and how its clients are sent to the pods."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from activator.doors import Doors, Wanted
from activator.holds import Holds
from tests.e2e.harness import free_port
from zerogate.clock import now
from zerogate.http.exchange import Exchange
from zerogate.http.memory import BufferMemory
from zerogate.http.server import ConnectionLimits
from zerogate.http.sweep import Sweep
from zerogate.policy import Policy
from zerogate.tasks import Nursery


class World:
    """Doors on loopback; services `ns/a` and `ns/b`, both at zero."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.woken: list[str] = []
        self.nursery = Nursery()
        sweep = Sweep(loop)
        self.holds = Holds(
            self, sweep=sweep, nursery=self.nursery, choose=random.randrange, call_later=loop.call_later, clock=now
        )  # fmt: skip
        self.holds.configure({"ns/a": Policy(), "ns/b": Policy()}, {})
        self.doors = Doors(
            self.holds, host="127.0.0.1", sweep=sweep, nursery=self.nursery, memory=BufferMemory(),
            limits=ConnectionLimits(), drain_s=1.0, note=self.on_exchange_ended,
        )  # fmt: skip
        self.nursery.start(self.doors.run(), name="ports")

    def on_wake(self, service: str) -> None:
        self.woken.append(service)

    def on_idle(self, replica_id: str) -> None: ...

    def on_exchange_ended(self, service: str, exchange: Exchange) -> None: ...

    async def until(self, is_so: bool = True) -> None:
        async with asyncio.timeout(30):
            while self.doors.is_open is not is_so:
                await asyncio.sleep(0.01)

    async def open(self, **ports: tuple[int, str, bool]) -> None:
        self.doors.configure({port: Wanted(service, is_needed) for port, service, is_needed in ports.values()})
        await asyncio.sleep(0)
        await self.until()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    world.doors.abort()
    await world.doors.leave_ports()
    world.holds.close()
    await world.nursery.aclose()


class Client:
    """One connection of HTTP/1.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def get(self, path: str) -> str:
        """The head of the answer, and its body."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: any\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length")
        )
        return head + (await self._reader.readexactly(length)).decode()

    async def at_end(self) -> bool:
        return await self._reader.read(1) == b""

    async def aclose(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def connect(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port))


async def test_a_health_check_is_answered_at_its_port_and_wakes_nobody(world: World) -> None:
    one, two = free_port(), free_port()
    await world.open(a=(one, "ns/a", True), b=(two, "ns/b", True))
    for port, service in ((one, "ns/a"), (two, "ns/b")):
        client = await connect(port)
        answer = await client.get("/health")
        assert answer.startswith("HTTP/1.1 200 ")
        assert f'{{"service":"{service}","state":"zero"}}' in answer
        await client.aclose()
    assert world.woken == []


async def test_a_request_wakes_the_ports_own_service_whatever_host_it_names(world: World) -> None:
    one, two = free_port(), free_port()
    await world.open(a=(one, "ns/a", True), b=(two, "ns/b", True))
    client = await connect(two)
    asking = asyncio.create_task(client.get("/v1/models"))  # noqa: TID251
    async with asyncio.timeout(30):
        while not world.woken:
            await asyncio.sleep(0.01)
    assert world.woken == ["ns/b"]
    assert not asking.done()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await client.aclose()


async def test_while_pods_answer_each_answer_is_the_last_and_afterwards_connections_last_again(world: World) -> None:
    port = free_port()
    await world.open(a=(port, "ns/a", True))
    client = await connect(port)
    assert "Connection: close" not in await client.get("/health")
    await world.open(a=(port, "ns/a", False))
    async with asyncio.timeout(30):
        while "Connection: close" not in await client.get("/health"):
            await asyncio.sleep(0.01)
    assert await client.at_end()
    await client.aclose()
    await world.open(a=(port, "ns/a", True))
    async with asyncio.timeout(30):
        while True:
            client = await connect(port)
            head = await client.get("/health")
            await client.aclose()
            if "Connection: close" not in head:
                break
            await asyncio.sleep(0.01)


async def test_a_service_that_is_not_known_yet_is_refused_and_not_held(world: World) -> None:
    port = free_port()
    await world.open(c=(port, "ns/c", True))
    client = await connect(port)
    answer = await client.get("/")
    assert answer.startswith("HTTP/1.1 503 ")
    assert "retry-after: 1" in answer
    assert world.doors.unplaced.refused_by_code == {"unknown_service": 1}
    await client.aclose()


async def test_a_port_that_is_given_up_closes_and_can_be_another_services(world: World) -> None:
    port = free_port()
    await world.open(a=(port, "ns/a", True))
    await world.open(b=(port, "ns/b", True))
    client = await connect(port)
    assert '"ns/b"' in await client.get("/health")
    await client.aclose()
    world.doors.configure({})
    async with asyncio.timeout(30):
        while True:
            try:
                await (await connect(port)).aclose()
            except OSError:
                break
            await asyncio.sleep(0.01)


async def test_a_port_that_somebody_else_has_keeps_it_from_being_ready_and_is_tried_again(world: World) -> None:
    port = free_port()
    other = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    world.doors.configure({port: Wanted("ns/a", True)})
    async with asyncio.timeout(30):
        while not world.doors.faults:
            await asyncio.sleep(0.01)
    assert not world.doors.is_open
    assert f"127.0.0.1:{port} is taken by another program" in world.doors.faults[port]
    other.close()
    await other.wait_closed()
    await world.until()
    assert world.doors.faults == {}


async def test_when_the_memory_is_short_the_answers_of_all_ports_wait_less_those_that_are_given_up_included(
    world: World,
) -> None:
    ports = [free_port() for _ in range(3)]
    await world.open(a=(ports[0], "ns/a", True), b=(ports[1], "ns/b", True))
    lines = [await asyncio.open_connection("127.0.0.1", port) for port in ports[:2]]
    async with asyncio.timeout(5):
        while world.doors.connections < 2:
            await asyncio.sleep(0.01)
    transports = [connection._transport for server in world.doors._servers for connection in server.connections]  # type: ignore[attr-defined]
    lines[0][1].write(b"GET /x HTTP/1.1\r\nHost: any\r\n\r\n")  # it is held, and outlives its port
    async with asyncio.timeout(5):
        while not world.woken:
            await asyncio.sleep(0.01)
    await world.open(b=(ports[1], "ns/b", True), c=(ports[2], "ns/a", True))
    memory = world.doors._memory
    counted = memory.recount_answer(0, memory.limit_bytes)
    assert [transport.get_write_buffer_limits()[1] for transport in transports] == [0, 0]
    memory.recount_answer(counted, 0)
    assert [transport.get_write_buffer_limits()[1] for transport in transports] == [65536, 65536]
    for _, writer in lines:
        writer.close()
    async with asyncio.timeout(30):
        while len(world.doors._servers) > len(world.doors._doors):
            await asyncio.sleep(0.01)


async def _come_again(port: int, count: int) -> float:
    """So many connections, one after the other; when the last one came."""
    came_s = now()
    for _ in range(count):
        came_s = now()
        client = await connect(port)
        await client.aclose()
        await asyncio.sleep(0.1)
    return came_s


async def test_a_port_stays_open_until_nodes_send_nobody_new(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """F1: a node that heard late that its activator leaves would send clients to an address that is gone."""
    monkeypatch.setattr("activator.doors.QUIET_S", 0.3)
    port = free_port()
    await world.open(a=(port, "ns/a", True))
    async with asyncio.TaskGroup() as group:
        coming = group.create_task(_come_again(port, 8))
        await world.doors.until_quiet(least_s=0.2, most_s=30.0, at_once=asyncio.Event())
        quiet_s = now()
    assert quiet_s - coming.result() >= 0.3


@pytest.mark.parametrize(
    ("least_s", "most_s", "ends_s"), [(0.2, 30.0, 0.2), (0.2, 0.4, 0.4)], ids=["nobody comes", "they come for ever"]
)
async def test_a_port_stays_open_as_long_as_it_has_to_and_no_longer_than_it_may(
    world: World, monkeypatch: pytest.MonkeyPatch, least_s: float, most_s: float, ends_s: float
) -> None:
    comes_for_ever = most_s < 1
    monkeypatch.setattr("activator.doors.QUIET_S", 10.0 if comes_for_ever else 0.0)
    port = free_port()
    await world.open(a=(port, "ns/a", True))
    await _come_again(port, 1 if comes_for_ever else 0)
    began_s = now()
    await world.doors.until_quiet(least_s=least_s, most_s=most_s, at_once=asyncio.Event())
    assert ends_s <= now() - began_s < 10.0


async def test_a_second_signal_waits_for_nobody(world: World) -> None:
    at_once = asyncio.Event()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        waiting = group.create_task(world.doors.until_quiet(least_s=60.0, most_s=90.0, at_once=at_once))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        at_once.set()
