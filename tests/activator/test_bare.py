"""Replicas without a sidecar in one process: who is let in, what is told of it, and what an order shuts."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from activator.bare import LOOK_S, Bare
from activator.bare_replica import BareReplica
from activator.holds import Holds
from activator.slot_locks import slot_file
from activator.telling import Telling
from tests.activator.test_slot_locks import TAKER
from tests.e2e.harness import free_port
from tests.queueproxy.world import Program, start_stub
from tests.zerogate.http.rig import Client
from zerogate.clock import now
from zerogate.http.exchange import Exchange
from zerogate.http.listener import Listener, bind
from zerogate.http.server import Server
from zerogate.http.sweep import Sweep
from zerogate.policy import Policy
from zerogate.reporting.sender import Target
from zerogate.reporting.wire import FromSource, Quiesce, Quiesced, Reopen
from zerogate.runtime.interface import Address
from zerogate.stats import Stat
from zerogate.tasks import Nursery

POD = "ml/chat-1"
STREAM = b"GET /sse?events=100000&gap_ms=20 HTTP/1.1\r\nHost: a\r\n\r\n"
SHORT = b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"


class Gateway:
    """What a worker is made of where replicas have no sidecar; `port` takes requests."""

    def __init__(self, *, shares: bool = True, **policy: Any) -> None:
        loop = asyncio.get_running_loop()
        self.nursery, self.sweep = Nursery(), Sweep(loop)
        self.holds = Holds(
            self, sweep=self.sweep, nursery=self.nursery, choose=lambda _: 0, call_later=loop.call_later, clock=now
        )  # fmt: skip
        self.file = slot_file()
        self.bare = Bare(self.holds, sweep=self.sweep, nursery=self.nursery, slot_file=self.file if shares else None)
        self.telling = self.make_telling(Target(addresses=(), source="g", kind="gateway"))
        self.holds.amend({"chat": Policy(**policy)}, ())
        self.hold = self.holds["chat"]
        sock = bind(Address("127.0.0.1", 0), what="listen")
        self.port = int(sock.getsockname()[1])
        self.listener = Listener(Server(self.hold.place, self.sweep), sock)
        self.words: list[FromSource] = []
        self.number = 0

    def make_telling(self, target: Target) -> Telling:
        return Telling(
            self.holds, target,
            nursery=self.nursery, jitter=lambda: 0.5, on_unacknowledged=lambda _: None, bare=self.bare,
        )  # fmt: skip

    def on_wake(self, service: str) -> None: ...
    def on_exchange_ended(self, service: str, exchange: Exchange) -> None: ...

    def on_idle(self, replica_id: str) -> None:
        self.bare.on_idle(replica_id)

    def show(self, *replicas: BareReplica) -> None:
        self.bare.set_replicas("chat", replicas)

    def order(self, *, for_s: float = 30.0, opens: bool = False) -> Quiesced:
        self.number += 1
        order = Reopen("x", self.number, POD) if opens else Quiesce("x", self.number, for_s, POD)
        self.bare.on_order(order, self.words.append)
        word = self.words[-1]
        assert isinstance(word, Quiesced)
        return word

    @property
    def told(self) -> Stat:
        stat = self.telling.read("chat", now())
        assert stat is not None
        return stat

    async def until(self, **figures: int) -> None:
        """Until it tells these figures."""
        async with asyncio.timeout(10):
            while any(getattr(self.told, name) != figure for name, figure in figures.items()):
                await asyncio.sleep(0.005)


class Place:
    """A model server without a sidecar, and gateways before it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.clients: list[Client] = []
        self.gateways: list[Gateway] = []

    def pod(self, **more: Any) -> BareReplica:
        return BareReplica(name=POD, uid="uid", address=Address("127.0.0.1", self.port), **more)

    async def gateway(self, *, shares: bool = True, **policy: Any) -> Gateway:
        one = Gateway(shares=shares, **policy)
        await one.listener.start()
        self.gateways.append(one)
        return one

    async def send(self, gateway: Gateway, data: bytes, *, is_in: bool = True) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        client = Client(reader, writer)
        self.clients.append(client)
        await client.send(data)
        if is_in:
            assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        return client


@asynccontextmanager
async def placed() -> AsyncIterator[Place]:
    stub: Program
    stub, port = await start_stub()
    it = Place(port)
    try:
        yield it
    finally:
        for client in it.clients:
            client.close()
        for gateway in it.gateways:
            gateway.listener.stop_accepting()
            gateway.listener.abort()
            gateway.show()
            gateway.holds.close()
            await gateway.nursery.aclose()
            os.close(gateway.file)
        await asyncio.sleep(0)
        stub.signal()
        await stub.end()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with placed() as it:
        yield it


async def test_what_is_inside_is_told_here_once_and_ends_however_it_ends(place: Place) -> None:
    gateway = await place.gateway(concurrency_limit=2)
    gateway.show(place.pod(slots=2, release=2))
    stream = await place.send(gateway, STREAM)
    await place.send(gateway, SHORT)
    await gateway.until(in_flight=1, completions=1, arrivals=2)
    before_s = gateway.told.running_s
    await asyncio.sleep(0.02)
    assert gateway.told.running_s > before_s
    stream.abort()
    await gateway.until(in_flight=0, completions=2, held=0)
    assert gateway.told.completed_run_s == pytest.approx(gateway.told.running_s)


async def test_a_replica_with_a_sidecar_is_left_to_that_one(place: Place) -> None:
    gateway = await place.gateway()
    gateway.show(place.pod())
    stream = await place.send(gateway, STREAM)
    await gateway.until(in_flight=1)
    gateway.show()
    assert gateway.told.in_flight == 1, "it still runs there"
    stream.abort()
    await gateway.until(in_flight=0)


async def test_no_more_are_let_in_than_this_gateways_slots_and_what_is_left_goes_to_who_waits(place: Place) -> None:
    gateway = await place.gateway(concurrency_limit=4)
    gateway.show(place.pod(slots=1))
    stream = await place.send(gateway, STREAM)
    waiting = await place.send(gateway, SHORT, is_in=False)
    await gateway.until(in_flight=1, held=1)
    stream.abort()
    assert (await waiting.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    gateway.show(place.pod(slots=2))
    both = [await place.send(gateway, STREAM) for _ in range(2)]
    await gateway.until(in_flight=2)
    for one in both:
        one.abort()


async def test_a_slot_that_another_process_gave_back_is_found(place: Place) -> None:
    gateway = await place.gateway(concurrency_limit=1)
    taker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TAKER, str(gateway.file), pass_fds=[gateway.file],
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert taker.stdin is not None
    assert taker.stdout is not None
    taker.stdin.write(b"take 1\n")
    assert await taker.stdout.readline() == b"0\n"
    gateway.show(place.pod(slots=1))
    waiting = await place.send(gateway, SHORT, is_in=False)
    await gateway.until(held=1)
    await asyncio.sleep(3 * LOOK_S)  # it is looked for again and again
    taker.kill()
    assert (await waiting.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    await taker.wait()


async def test_who_has_no_slot_passes_requests_to_a_gateway_that_has_which_alone_counts_them(place: Place) -> None:
    owner = await place.gateway(concurrency_limit=1)
    other = await place.gateway(concurrency_limit=1)
    owner.show(place.pod(slots=1))
    other.show(place.pod(slots=0, via=Address("127.0.0.1", owner.port)))
    stream = await place.send(other, STREAM)
    waiting = await place.send(other, SHORT, is_in=False)
    await owner.until(in_flight=1, held=1, arrivals=2)
    await other.until(in_flight=0, held=0, arrivals=0, completions=0)
    stream.abort()
    assert (await waiting.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    await owner.until(in_flight=0, held=0)
    await other.until(in_flight=0, arrivals=0)


async def test_one_that_is_passed_on_after_it_was_told_is_made_up_for_by_the_next(place: Place) -> None:
    owner = await place.gateway(concurrency_limit=1)
    other = await place.gateway(concurrency_limit=1)
    owner.show(place.pod(slots=1))
    waiting = await place.send(other, SHORT, is_in=False)
    await other.until(held=1, arrivals=1)
    other.show(place.pod(slots=0, via=Address("127.0.0.1", owner.port)))
    assert (await waiting.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    await other.until(held=0, arrivals=1)
    other.show()
    await place.send(other, SHORT, is_in=False)
    await other.until(held=1, arrivals=1)
    await place.send(other, SHORT, is_in=False)
    await other.until(held=2, arrivals=2)


async def test_what_is_told_of_a_service_that_comes_back_begins_anew(place: Place) -> None:
    gateway = await place.gateway(concurrency_limit=1)
    gone = [await place.send(gateway, SHORT, is_in=False) for _ in range(2)]
    await gateway.until(held=2, arrivals=2)
    gateway.holds.amend({}, ["chat"])
    assert gateway.telling.read("chat", now()) is None
    for client in gone:
        await client.until(b"\r\n\r\n")
    gateway.holds.amend({"chat": Policy()}, ())
    assert gateway.told.arrivals == 0


async def test_one_that_could_not_be_sent_was_not_inside(place: Place) -> None:
    gateway = await place.gateway()
    gateway.show(msgspec.structs.replace(place.pod(), uid="dead", address=Address("127.0.0.1", free_port())))
    waiting = await place.send(gateway, SHORT, is_in=False)
    await gateway.until(held=1, in_flight=0)
    gateway.show(place.pod())
    assert (await waiting.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    await gateway.until(in_flight=0, completions=1)


async def test_a_websocket_is_inside_while_it_is_not_quiet_until_it_is_closed(place: Place) -> None:
    async def echo(ws: ServerConnection) -> None:
        async for message in ws:
            await ws.send(message)

    async with serve(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        gateway = await place.gateway(idle_websocket="quiet", idle_timeout_s=0.2)
        gateway.show(msgspec.structs.replace(place.pod(), address=Address("127.0.0.1", port)))
        async with connect(f"ws://127.0.0.1:{gateway.port}/", proxy=None) as ws:
            await gateway.until(in_flight=1)
            await gateway.until(in_flight=0, completions=1)
            await ws.send("hello")
            assert await ws.recv() == "hello"
            assert gateway.told.in_flight == 1
        await gateway.until(in_flight=0, completions=2)


async def test_where_nobody_can_take_them_requests_wait(place: Place) -> None:
    gateway = await place.gateway(concurrency_limit=1)
    gateway.show(place.pod(slots=0))
    waiting = await place.send(gateway, SHORT, is_in=False)
    await gateway.until(held=1, in_flight=0)
    gateway.show(place.pod(slots=1))
    assert (await waiting.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_an_order_keeps_requests_away_and_is_told_when_nothing_is_inside(place: Place) -> None:
    gateway = await place.gateway()
    gateway.show(place.pod())
    stream = await place.send(gateway, STREAM)
    assert gateway.order().inside == 1
    waiting = await place.send(gateway, SHORT, is_in=False)
    await gateway.until(held=1, in_flight=1)
    stream.abort()
    async with asyncio.timeout(10):
        while gateway.words[-1] != Quiesced("x", 1, len(gateway.words), 0, POD):
            await asyncio.sleep(0.005)
    assert gateway.told.held == 1, "it is kept away still"
    assert gateway.order(opens=True).inside == 1, "it goes in at once"
    assert not gateway.bare.is_shut(POD)
    assert (await waiting.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_lease_that_ends_opens_the_gate(place: Place) -> None:
    gateway = await place.gateway()
    gateway.show(place.pod())
    gateway.order(for_s=0.2)
    waiting = await place.send(gateway, SHORT, is_in=False)
    await gateway.until(held=1)
    assert (await waiting.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_one_that_is_shut_before_it_is_known_stays_shut(place: Place) -> None:
    gateway = await place.gateway()
    waiting = await place.send(gateway, SHORT, is_in=False)
    await gateway.until(held=1)
    assert gateway.order().inside == 0
    gateway.show(place.pod())
    assert (gateway.told.held, gateway.told.in_flight, gateway.hold.ready) == (1, 0, 0)
    gateway.order(opens=True)
    assert gateway.hold.ready == 1
    assert (await waiting.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_who_waits_goes_in_at_once_when_there_are_more_slots_of_the_replica(place: Place) -> None:
    gateway = await place.gateway(shares=False, concurrency_limit=2)
    gateway.show(place.pod(slots=1))
    stream = await place.send(gateway, STREAM)
    waiting = await place.send(gateway, SHORT, is_in=False)
    await gateway.until(in_flight=1, held=1)
    gateway.show(place.pod(slots=2, release=2))
    assert (await waiting.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    stream.abort()


async def test_whoever_is_told_of_those_that_wait_is_told_still(place: Place) -> None:
    gateway = await place.gateway(concurrency_limit=1)
    told = asyncio.Event()
    gateway.hold.on_waiting = told.set
    gateway.show(place.pod(slots=1))
    stream = await place.send(gateway, STREAM)
    await place.send(gateway, SHORT, is_in=False)
    assert await asyncio.wait_for(told.wait(), 30)
    stream.abort()


async def test_no_more_replicas_are_shut_than_are_kept_in_mind(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activator.bare.MOST_SHUT", 1)
    gateway = await place.gateway()
    gateway.order()
    gateway.bare.on_order(Quiesce("x", 2, 30.0, "ml/another"), gateway.words.append)
    assert len(gateway.words) == 1, "who is not answered stops nothing"
    assert not gateway.bare.is_shut("ml/another")


async def test_what_was_measured_of_a_service_that_is_gone_is_forgotten(place: Place) -> None:
    gateway = await place.gateway()
    gateway.show(place.pod())
    assert gateway.bare.meters("chat") is not None
    gateway.show()
    gateway.holds.amend({"another": Policy()}, ["chat"])
    gateway.bare.set_replicas("another", [place.pod()])
    assert gateway.bare.meters("chat") is None
    gateway.bare.set_replicas("another", [])


async def test_what_is_inside_one_that_is_known_no_more_is_inside_still(place: Place) -> None:
    gateway = await place.gateway()
    gateway.show(place.pod())
    stream = await place.send(gateway, STREAM)
    gateway.show()
    assert gateway.order().inside == 1
    stream.abort()
    async with asyncio.timeout(10):
        while gateway.words[-1] != Quiesced("x", 1, len(gateway.words), 0, POD):
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("shares", [True, False], ids=["a gateway's worker", "an activator"])
async def test_one_that_is_ready_again_has_no_more_slots_than_before(place: Place, shares: bool) -> None:
    gateway = await place.gateway(shares=shares, concurrency_limit=1)
    gateway.show(place.pod(slots=1))
    stream = await place.send(gateway, STREAM)
    gateway.show()
    gateway.show(place.pod(slots=1))
    waiting = await place.send(gateway, SHORT, is_in=False)
    await gateway.until(in_flight=1, held=1)
    stream.abort()
    assert (await waiting.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_one_that_is_gone_is_forgotten_with_its_last_request(place: Place) -> None:
    gateway = await place.gateway(concurrency_limit=1)
    gateway.show(place.pod(slots=1))
    stream = await place.send(gateway, STREAM)
    gateway.show()
    assert gateway.bare.remembered == 1
    stream.abort()
    await gateway.until(in_flight=0)
    assert gateway.bare.remembered == 0


async def test_orders_to_sidecars_are_not_for_gateways(place: Place) -> None:
    gateway = await place.gateway()
    gateway.bare.on_order(Quiesce("x", 1, 30.0), gateway.words.append)
    assert not gateway.words
