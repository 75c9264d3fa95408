"""The control connection to one sidecar, against a scripted one: what is said, and what each kind of loss means."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from activator.link import Link
from activator.links import Links
from tests.activator.fleet import Gateway
from tests.zerogate.http.rig import Script, replica
from zerogate.policy import Policy
from zerogate.runtime.interface import Address

TAKEN = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: zerogate-control/1\r\n\r\n"


class Sidecar:
    """One control connection, seen from the sidecar."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def tell(self, *, ready: bool = True, allowance: int = 1, limit: int = 4, contended: bool = False) -> None:
        terms = {"ready": ready, "detail": "", "allowance": allowance, "limit": limit, "most": 4}
        self.writer.write(json.dumps({**terms, "contended": contended}).encode() + b"\n")

    async def hear(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(await asyncio.wait_for(self.reader.readuntil(b"\n"), 10))
        return said


class World:
    """A gateway with one link; `arrivals` are the control connections that its sidecar has taken."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.arrivals: asyncio.Queue[Sidecar] = asyncio.Queue()
        self.answer = TAKEN
        self.asked: list[bytes] = []

    @property
    def link(self) -> Link:
        return next(iter(self.gateway.links._links.values()))

    async def until(self, seen: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not seen():
                await asyncio.sleep(0.005)

    async def taken(self) -> Sidecar:
        return await asyncio.wait_for(self.arrivals.get(), 10)

    def send(self) -> None:
        self.gateway.nursery.start(self.gateway.get("/"), name="client")


@asynccontextmanager
async def world(answer: bytes = TAKEN) -> AsyncIterator[World]:
    async with Gateway("gateway-1", Policy(concurrency_limit=4, target_concurrency=4)) as gateway:
        it = World(gateway)
        it.answer = answer

        async def sidecar(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"Upgrade" not in head:
                await reader.read()  # a request of the traffic: it stays inside
                return
            it.asked.append(head)
            writer.write(it.answer)
            it.arrivals.put_nowait(Sidecar(reader, writer))
            await asyncio.Event().wait()

        script: Script = sidecar
        async with replica(script) as port:
            gateway.links.add("chat-1", Address("127.0.0.1", port))
            yield it


async def test_it_asks_in_its_own_name_and_takes_requests_once_the_sidecar_is_ready() -> None:
    async with world() as it:
        sidecar = await it.taken()
        assert b"zerogate-holder: gateway-1\r\n" in it.asked[0]
        sidecar.tell(ready=False, allowance=0)
        sidecar.tell(allowance=2)
        await it.gateway.until_ready()
        assert it.link.gate.release_limit == 2
        sidecar.tell(ready=False)
        await it.gateway.until_ready(0)


async def test_it_says_how_many_wait_and_not_a_word_while_nothing_does() -> None:
    async with world() as it:
        sidecar = await it.taken()
        sidecar.tell(allowance=1)
        await it.gateway.until_ready()
        it.send()
        await it.until(lambda: it.link.gate.in_flight == 1)
        it.send()
        assert await sidecar.hear() == {"waiting": 1, "in_flight": 1}, "the first one was not worth a word"
        sidecar.tell(allowance=2)
        assert await sidecar.hear() == {"waiting": 0, "in_flight": 2}


async def test_it_says_no_more_than_the_replica_could_ever_take() -> None:
    async with world() as it:
        sidecar = await it.taken()
        for _ in range(9):
            it.send()
        await it.until(lambda: it.gateway.hold.queue.length == 9)
        sidecar.tell(allowance=0)
        assert await sidecar.hear() == {"waiting": 4, "in_flight": 0}


async def test_while_others_wait_it_says_what_is_on_its_way() -> None:
    async with world() as it:
        sidecar = await it.taken()
        sidecar.tell(allowance=2, contended=True)
        await it.gateway.until_ready()
        it.send()
        assert await sidecar.hear() == {"waiting": 0, "in_flight": 1}


async def test_when_the_connection_ends_the_allowance_stays_and_it_connects_again() -> None:
    async with world() as it:
        sidecar = await it.taken()
        sidecar.tell(allowance=3)
        await it.gateway.until_ready()
        sidecar.writer.close()
        again = await it.taken()
        assert (it.gateway.hold.ready, it.link.gate.release_limit) == (1, 3)
        again.tell(allowance=1)
        await it.until(lambda: it.link.gate.release_limit == 1)


@pytest.mark.parametrize("said", [b"nonsense\n", b"x" * 5000], ids=["no meaning", "no end"])
async def test_a_sidecar_that_makes_no_sense_is_asked_again(said: bytes) -> None:
    async with world() as it:
        (await it.taken()).writer.write(said)
        again = await it.taken()
        assert it.gateway.hold.ready == 0
        again.tell(allowance=2)
        await it.gateway.until_ready()
        assert it.link.gate.release_limit == 2


async def test_a_refused_connection_is_proof_that_the_replica_is_gone() -> None:
    async with world() as it:
        sidecar = await it.taken()
        sidecar.tell()
        await it.gateway.until_ready()
        it.link.address = Address("127.0.0.1", 1)
        sidecar.writer.close()
        await it.gateway.until_ready(0)
        assert not it.link.gate.is_open


async def test_a_server_that_does_not_know_the_upgrade_is_sent_to_by_the_policy() -> None:
    async with world(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as it:
        await it.gateway.until_ready()
        gate = it.link.gate
        assert (gate.is_told, gate.limit, gate.release_limit) == (False, 4, 4)


async def test_a_gate_that_was_closed_for_another_reason_is_not_opened_by_the_sidecars_next_word() -> None:
    async with world() as it:
        sidecar = await it.taken()
        sidecar.tell()
        await it.gateway.until_ready()
        it.gateway.hold.close_gate("chat-1")
        sidecar.tell(allowance=2)
        await it.until(lambda: it.link.gate.release_limit == 2)
        assert it.gateway.hold.ready == 0


async def test_a_replica_that_is_removed_is_not_asked_any_more() -> None:
    async with world() as it:
        sidecar = await it.taken()
        sidecar.tell()
        await it.gateway.until_ready()
        links: Links = it.gateway.links
        links.remove("chat-1")
        assert it.gateway.hold.ready == 0
        assert await asyncio.wait_for(sidecar.reader.read(), 10) == b""
        assert it.arrivals.empty()
