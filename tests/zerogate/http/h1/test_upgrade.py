"""A connection that is handed over to another protocol: what came behind the request is that protocol's."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.zerogate.http.h1.test_memo import Box, forget, reads_of
from zerogate.http.h1.reader import MOST_EARLY_BYTES
from zerogate.http.heads import RequestHead

ASK = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"


class Heir(asyncio.Protocol):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.got = b""
        self.calls = 0

    def connection_made(self, transport: Any) -> None:
        transport.set_protocol = lambda protocol: None

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.calls += 1


class Desk:
    """An engine that hands connections over to `heirs`."""

    def __init__(self) -> None:
        self.heirs: list[Heir] = []
        self.box = Box()
        self.box.server.upgrades[b"x"] = self.take
        self.box.transport.set_protocol = self.become  # type: ignore[attr-defined]
        self.reader: Any = self.box.client

    def take(self, head: RequestHead) -> Heir:
        self.heirs.append(Heir())
        return self.heirs[-1]

    def become(self, protocol: Any) -> None:
        self.reader = protocol

    def read(self, data: bytes) -> None:
        self.reader.data_received(data)


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.mark.parametrize("coming", range(3))
@pytest.mark.parametrize("cuts", [(), (len(ASK),), (20,), (20, len(ASK) + 1), (len(ASK) + 3,)])
async def test_bytes_behind_the_request_reach_the_protocol_that_was_asked_for(coming: int, cuts: tuple[int]) -> None:
    for _ in range(coming):
        Desk().read(ASK)
    desk = Desk()
    for data in reads_of(ASK + b"GET / HTTP/1.1\r\n", cuts):
        desk.read(data)
    await asyncio.sleep(0)
    assert [heir.got for heir in desk.heirs] == [b"GET / HTTP/1.1\r\n"]
    assert not desk.box.transport.written
    assert not desk.box.ended


async def test_a_flood_behind_the_request_ends_the_connection() -> None:
    desk = Desk()
    desk.read(ASK + b"x" * (MOST_EARLY_BYTES + 1))
    assert desk.box.transport.is_closed


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(ASK.replace(b"Connection: Upgrade", b"Connection: keep-alive"), id="not-named-by-connection"),
        pytest.param(ASK.replace(b"HTTP/1.1", b"HTTP/1.0"), id="http-1.0"),
        pytest.param(ASK.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\nx"), id="with-a-body"),
    ],
)
async def test_what_is_no_offer_of_a_protocol_is_an_ordinary_request(ask: bytes) -> None:
    desk = Desk()
    desk.read(ask)
    assert not desk.heirs
    assert len(desk.box.pool.connections) == 1
