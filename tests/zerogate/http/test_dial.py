"""Which of a name's addresses is connected to, how long the others hold it up, and that nothing stays open."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from tests.zerogate.http.rig import replica
from zerogate.http import dial
from zerogate.http.dial import Secured, Target, first_of, in_turns, open_connection
from zerogate.runtime.interface import Address

SIX, FOUR = socket.AF_INET6, socket.AF_INET


def six(number: int) -> Target:
    return Target(SIX, (f"2001:db8::{number}", 80, 0, 0))


def four(number: int) -> Target:
    return Target(FOUR, (f"192.0.2.{number}", 80))


@pytest.mark.parametrize(
    ("found", "ordered"),
    [
        pytest.param([four(1)], [four(1)], id="one"),
        pytest.param([six(1), six(2), four(1)], [six(1), four(1), six(2)], id="six-first"),
        pytest.param([four(1), four(2), six(1), six(2)], [four(1), six(1), four(2), six(2)], id="four-first"),
        pytest.param([four(n) for n in range(20)], [four(n) for n in range(8)], id="bounded"),
        pytest.param([], [], id="none"),
    ],
)
def test_families_take_turns_in_the_order_of_the_resolver(found: list[Target], ordered: list[Target]) -> None:
    assert in_turns(found) == ordered


@contextmanager
def silent() -> Iterator[Target]:
    """A listener whose queue is full: the kernel drops what asks for a connection, as a dead address does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        yield Target(FOUR, listener.getsockname())
        for filler in fillers:
            filler.close()


def refusing() -> Target:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return Target(FOUR, one.getsockname())


@contextmanager
def listening() -> Iterator[Target]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        yield Target(FOUR, listener.getsockname())


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@asynccontextmanager
async def leaving_nothing_open() -> AsyncIterator[None]:
    await asyncio.sleep(0)
    before = open_files()
    yield
    await asyncio.sleep(0)
    assert open_files() == before
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("connect to one")]


@pytest.mark.both_loops
async def test_one_that_says_nothing_costs_its_share_of_the_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "STAGGER_S", 0.05)
    with silent() as dead, listening() as alive:
        async with leaving_nothing_open():
            began_s = asyncio.get_running_loop().time()
            sock = await asyncio.wait_for(first_of([dead, dead, alive]), 5)
            assert 0.09 <= asyncio.get_running_loop().time() - began_s < 2
            assert sock.getpeername() == alive.where
            sock.close()


@pytest.mark.both_loops
async def test_one_that_refuses_makes_the_next_one_begin_at_once() -> None:
    with listening() as alive:
        async with leaving_nothing_open():
            began_s = asyncio.get_running_loop().time()
            sock = await first_of([refusing(), refusing(), alive])
            assert asyncio.get_running_loop().time() - began_s < dial.STAGGER_S
            assert sock.getpeername() == alive.where
            sock.close()


@pytest.mark.both_loops
async def test_where_all_refuse_the_first_failure_is_told() -> None:
    async with leaving_nothing_open():
        with pytest.raises(ConnectionRefusedError):
            await first_of([refusing(), refusing()])


@pytest.mark.both_loops
@pytest.mark.parametrize(("host", "certified"), [("a..b", None), ("x" * 64, None), ("127.0.0.1", "a..b")])
async def test_what_cannot_be_a_name_is_told_as_any_other_failure(host: str, certified: str | None) -> None:
    """Whoever waits for the connection would otherwise wait for its whole timeout, and not hear why."""
    secured = Secured(ssl.create_default_context(), certified) if certified is not None else None
    with pytest.raises(OSError, match="is no name"):
        await open_connection(Address(host, 80), secured, asyncio.Protocol())


async def test_a_name_without_addresses_is_a_failure() -> None:
    with pytest.raises(OSError, match="leads to no address"):
        await first_of([])


@pytest.mark.both_loops
async def test_a_timeout_of_the_whole_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "STAGGER_S", 0.02)
    with silent() as dead:
        async with leaving_nothing_open():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.15):
                    await first_of([dead] * 4)


@pytest.mark.both_loops
async def test_two_that_connect_at_the_same_time_leave_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "STAGGER_S", 0.0)
    with listening() as one, listening() as two:
        async with leaving_nothing_open():
            sock = await first_of([one, two, one, two])
            assert sock.getpeername() in (one.where, two.where)
            sock.close()


class Said(asyncio.Protocol):
    """What the server has said, and its transport."""

    def __init__(self) -> None:
        self.data = asyncio.Event()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data.set()


@pytest.mark.both_loops
async def test_a_name_with_several_addresses_is_connected_to_over_the_one_that_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async def resolve(host: str, port: int, **_: object) -> list[Any]:
        assert host == "replica.test"
        return [(SIX, 1, 6, "", ("::1", port, 0, 0)), (FOUR, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(dial, "resolve", resolve)
    async with replica(greet) as port:
        said = await open_connection(Address("replica.test", port), None, Said())
        assert said.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        await asyncio.wait_for(said.data.wait(), 5)
        said.transport.abort()
