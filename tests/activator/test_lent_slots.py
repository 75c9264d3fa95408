"""Several gateways in front of real sidecars: slots are lent, taken back, and never more than there are."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from activator.remote_gate import RemoteGate
from tests.activator.fleet import Gateway, Replica, replica, sidecar_of
from tests.queueproxy.world import Program, ended
from tests.zerogate.http.rig import Client, Clients
from zerogate.policy import Policy
from zerogate.runtime.interface import Address

pytestmark = [pytest.mark.slow, pytest.mark.uvloop]

STREAM = b"GET /sse?events=100000&gap_ms=20 HTTP/1.1\r\nHost: chat\r\n\r\n"


class Fleet:
    """Replicas, gateways in this process, gateways as processes, and clients; all end with it."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.replicas: list[Replica] = []
        self.gateways: list[Gateway] = []

    async def replica(self, *flags: str, stub_flags: tuple[str, ...] = ()) -> Replica:
        one = await self._stack.enter_async_context(replica(*flags, stub_flags=stub_flags))
        self.replicas.append(one)
        return one

    async def gateway(self, *, limit: int, ready: bool = True) -> Gateway:
        policy = Policy(concurrency_limit=limit, target_concurrency=limit)
        one = Gateway(f"gateway-{len(self.gateways)}", policy)
        await self._stack.enter_async_context(one)
        self.gateways.append(one)
        for number, behind in enumerate(self.replicas):
            one.links.add(f"chat-{number}", behind.address)
        if ready:
            await one.until_ready(len(self.replicas))
        return one

    async def process(self, name: str) -> tuple[Program, int]:
        """A gateway that is a process of its own, and its port."""
        ports = [str(one.port) for one in self.replicas]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.activator.fleet", name, *ports, stdout=asyncio.subprocess.PIPE
        )
        program = Program(process, process.stdout)
        self._stack.push_async_callback(ended, lambda: program)
        return program, int((await program.line_with("listening")).split()[-1])

    async def client(self, port: int) -> Client:
        return await (await self._stack.enter_async_context(Clients())).connect("127.0.0.1", port)

    async def stream(self, port: int, *, is_in: bool = True) -> Client:
        """A client with a stream without end; inside already, or on its way."""
        client = await self.client(port)
        await client.send(STREAM)
        if is_in:
            assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        return client


async def stats_of(port: int) -> dict[str, int]:
    async with Clients() as clients:
        client = await clients.connect("127.0.0.1", port)
        await client.send(b"GET /stats HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        said: dict[str, int] = json.loads((await client.rest()).partition(b"\r\n\r\n")[2])
        return said


async def until_held(gateway: Gateway, count: int) -> None:
    async with asyncio.timeout(10):
        while gateway.hold.queue.length != count:
            await asyncio.sleep(0.005)


@asynccontextmanager
async def fleet() -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        yield Fleet(stack)


async def test_of_three_gateways_the_one_with_all_the_traffic_uses_every_slot_of_every_replica() -> None:
    async with fleet() as it:
        for _ in range(2):
            await it.replica("--concurrency-limit", "3")
        busy, *_ = [await it.gateway(limit=3) for _ in range(3)]
        streams = [await it.stream(busy.port) for _ in range(6)]
        waiting = await it.stream(busy.port, is_in=False)
        await until_held(busy, 1)
        seen = [await stats_of(one.stub_port) for one in it.replicas]
        assert [(stats["inside"], stats["peak"]) for stats in seen] == [(3, 3), (3, 3)]
        streams[0].abort()
        assert (await waiting.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200"), "the slot that is left goes to it"


async def test_gateways_that_all_want_the_same_slots_are_all_served_and_never_too_many_at_once() -> None:
    async with fleet() as it:
        for _ in range(2):
            await it.replica("--concurrency-limit", "2")
        gateways = [await it.gateway(limit=2) for _ in range(3)]
        bodies = [bytes([65 + number]) * (200_000 if number % 2 else 2_000) for number in range(10)]
        answers = await asyncio.gather(
            *(gateway.get("/sleep?ms=15") for gateway in gateways for _ in range(20)),
            *(gateway.post(body) for gateway in gateways for body in bodies),
        )
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        echoed = [answer.partition(b"\r\n\r\n")[2] for answer in answers[60:]]
        assert echoed == bodies * 3, "what was turned away and sent again is whole"
        seen = [await stats_of(one.stub_port) for one in it.replicas]
        assert all(stats["peak"] <= 2 for stats in seen)
        assert sum(stats["requests"] for stats in seen) == 90


async def test_what_is_held_goes_in_when_the_sidecar_says_that_the_replica_is_ready() -> None:
    async with fleet() as it:
        one = await it.replica("--concurrency-limit", "2", stub_flags=("--never-ready",))
        gateway = await it.gateway(limit=2, ready=False)
        held = [gateway.nursery.start(gateway.get("/"), name="client") for _ in range(3)]
        await until_held(gateway, 3)
        client = await it.client(one.stub_port)
        await client.send(b"GET /control/ready HTTP/1.1\r\nHost: x\r\n\r\n")
        answers = await asyncio.gather(*held)
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        assert (await stats_of(one.stub_port))["peak"] <= 2
        await client.send(b"GET /control/unready HTTP/1.1\r\nHost: x\r\n\r\n")
        await gateway.until_ready(0)


async def test_requests_wait_while_a_sidecar_is_gone_and_go_in_when_it_is_back() -> None:
    async with fleet() as it:
        one = await it.replica("--concurrency-limit", "2")
        gateway = await it.gateway(limit=2)
        assert (await gateway.get("/")).startswith(b"HTTP/1.1 200")
        one.sidecar.signal(signal.SIGKILL)
        await one.sidecar.end()
        await gateway.until_ready(0)
        held = gateway.nursery.start(gateway.get("/"), name="client")
        await until_held(gateway, 1)
        one.sidecar, *_ = await sidecar_of(one.stub_port, "--concurrency-limit", "2", port=one.port)
        assert (await held).startswith(b"HTTP/1.1 200")


async def test_a_replica_that_drains_tells_its_gateways_first_and_everything_goes_to_the_other() -> None:
    async with fleet() as it:
        first, second = await it.replica("--concurrency-limit", "2"), await it.replica("--concurrency-limit", "2")
        gateway = await it.gateway(limit=2)
        first.sidecar.signal(signal.SIGTERM)
        await gateway.until_ready(1)
        answers = [await gateway.get("/") for _ in range(5)]
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        assert (await stats_of(second.stub_port))["requests"] == 5


async def test_the_slots_of_a_gateway_that_was_killed_go_to_the_others() -> None:
    async with fleet() as it:
        await it.replica("--concurrency-limit", "1")
        dying, port = await it.process("dying")
        await it.stream(port)
        gateway = await it.gateway(limit=1)
        held = await it.stream(gateway.port, is_in=False)
        await until_held(gateway, 1)
        dying.signal(signal.SIGKILL)
        assert (await held.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_stopped_gateway_keeps_no_slot_from_the_others_and_is_served_when_it_goes_on() -> None:
    async with fleet() as it:
        one = await it.replica("--concurrency-limit", "1")
        gateway = await it.gateway(limit=1)
        stopped, port = await it.process("stopped")
        running = await it.stream(gateway.port)
        waiting = await it.stream(port, is_in=False)

        async def has_reported() -> bool:
            client = await it.client(one.admin_port)
            await client.send(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return b'zerogate_gateway_requests_waiting{service="service"} 1' in await client.rest()

        async with asyncio.timeout(10):
            while not await has_reported():
                await asyncio.sleep(0.01)
        stopped.signal(signal.SIGSTOP)
        held = [gateway.nursery.start(gateway.get("/sleep?ms=5"), name="client") for _ in range(5)]
        await until_held(gateway, 5)
        running.abort()
        answers = await asyncio.gather(*held)
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        stopped.signal(signal.SIGCONT)
        assert (await waiting.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_plain_server_in_the_place_of_a_sidecar_is_trusted() -> None:
    async with fleet() as it:
        one = await it.replica("--concurrency-limit", "1")
        gateway = await it.gateway(limit=1)
        gateway.links.add("plain", Address("127.0.0.1", one.stub_port))
        await gateway.until_ready(2)
        gateway.links.remove("chat-0")
        assert (await gateway.get("/")).startswith(b"HTTP/1.1 200")


async def test_a_gateway_is_told_its_slots_by_a_full_sidecar_and_what_finds_no_place_there_is_held_and_served() -> None:
    async with fleet() as it:
        one = await it.replica("--max-connections", "1", "--concurrency-limit", "4")
        other = await it.stream(one.port)
        gateway = await it.gateway(limit=4)
        [upstream] = gateway.hold.replicas.values()
        assert isinstance(upstream.gate, RemoteGate)
        assert upstream.gate.is_told, "its control connection is one too many and got in"
        asked = [asyncio.ensure_future(gateway.get("/sleep?ms=20")) for _ in range(4)]  # noqa: TID251 - ends with it

        async def one_came_back() -> None:
            while not gateway.hold.counters.retries:
                await asyncio.sleep(0.005)

        await asyncio.wait_for(one_came_back(), 10)
        other.abort()
        answers = await asyncio.gather(*asked)
        assert [answer.split(b" ", 2)[1] for answer in answers] == [b"200"] * 4
