"""The sidecar's side of a control connection: what a gateway is told, when it is parted from, and what nobody gets."""

import asyncio
import json
from typing import Any, cast

import pytest

from queueproxy.control import MOST_FROM_ONE, MOST_GATEWAYS, Control, ControlConnection
from queueproxy.slots import Slots
from tests.queueproxy.test_slots import Replica, arrive, ready
from tests.queueproxy.world import world
from tests.zerogate.http.dialogue import request
from zerogate.clock import now
from zerogate.control import BEAT_S, SILENCE_S


class Transport:
    """Writes down what is written."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.is_closed = True

    def close(self) -> None:
        self.is_closed = True

    def get_extra_info(self, name: str) -> object:
        return (self.client, 4711) if name == "peername" else None

    def heard(self) -> list[dict[str, Any]]:
        """The messages since the last call."""
        lines, self.written = self.written, []
        return [json.loads(line) for line in lines if line.startswith(b"{")]


class Sweep:
    """Plans nothing: the tests say when it is time."""

    def watch(self, item: object, deadline_s: float) -> None: ...
    def forget(self, item: object) -> None: ...


class Desk:
    """A control in front of slots with one free place."""

    def __init__(self, **bounds: int) -> None:
        self.sides = Replica()
        self.slots: Slots = ready(self.sides, **bounds)
        self.control = Control(self.slots, cast(Any, Sweep()))

    def come(self, name: str = "a", client: str = "192.0.2.1") -> tuple[ControlConnection, Transport]:
        connection = self.control.take(request(zerogate_holder=name))
        assert isinstance(connection, ControlConnection)
        transport = Transport(client)
        connection.connection_made(transport)
        return connection, transport


async def test_a_gateway_is_told_its_allowance_at_once_and_then_only_what_changes() -> None:
    desk = Desk(limit=3)
    _, transport = desk.come()
    assert transport.written[0].startswith(b"HTTP/1.1 101 ")
    terms = {"ready": True, "detail": "", "allowance": 3, "limit": 3, "most": 3, "contended": False}
    assert transport.heard() == [terms]
    arrive(desk.slots, desk.sides, zerogate_holder="a")
    await asyncio.sleep(0)
    assert transport.heard() == [], "warm traffic is not talked about"


async def test_many_changes_in_one_turn_of_the_loop_are_told_once() -> None:
    desk = Desk(limit=3)
    _, transport = desk.come()
    other, _ = desk.come("b")
    await asyncio.sleep(0)
    transport.heard()
    for waiting in range(1, 4):
        other.data_received(b'{"waiting":%d,"in_flight":0}\n' % waiting)
    await asyncio.sleep(0)
    assert [(terms["allowance"], terms["contended"]) for terms in transport.heard()] == [(0, True)]


async def test_readiness_is_told_with_the_reason() -> None:
    desk = Desk()
    _, transport = desk.come()
    transport.heard()
    desk.slots.set_ready(False, "it answers 503", 0.0)
    await asyncio.sleep(0)
    terms = transport.heard()[-1]
    assert (terms["ready"], "it answers 503" in terms["detail"]) == (False, True)
    desk.slots.set_ready(True, "it answers 200", 0.0)
    await asyncio.sleep(0)
    assert transport.heard()[-1]["ready"] is True
    desk.control.leave()
    await asyncio.sleep(0)
    assert transport.heard()[-1]["ready"] is False


async def test_who_was_turned_away_is_told_again_what_it_may_send() -> None:
    desk = Desk()
    _, transport = desk.come()
    for _ in range(2):
        arrive(desk.slots, desk.sides, zerogate_holder="a")
    transport.heard()
    await asyncio.sleep(0)
    assert [terms["allowance"] for terms in transport.heard()] == [1]


async def test_a_gateway_that_does_not_read_is_not_written_to_and_then_told_how_it_is_now() -> None:
    desk = Desk()
    connection, transport = desk.come()
    transport.heard()
    connection.pause_writing()
    for is_ready in (False, True, False):
        desk.slots.set_ready(is_ready, "it says so", 0.0)
        await asyncio.sleep(0)
    assert transport.heard() == []
    connection.resume_writing()
    assert [terms["ready"] for terms in transport.heard()] == [False]


async def test_it_speaks_where_nothing_was_said_and_parts_from_who_is_silent() -> None:
    desk = Desk()
    connection, transport = desk.come()
    transport.heard()
    began_s = now()
    desk.control.due(began_s + BEAT_S)
    assert len(transport.heard()) == 1
    connection.data_received(b'{"waiting":0,"in_flight":0}\n')
    desk.control.due(began_s + SILENCE_S - 1.0)
    closed = [transport.is_closed]
    desk.control.due(now() + SILENCE_S)
    closed.append(transport.is_closed)
    assert closed == [False, True]
    assert len(desk.slots.grants.holders) == 1
    assert not desk.control.connections


async def test_a_gateway_that_comes_again_takes_the_place_of_its_older_connection() -> None:
    desk = Desk()
    _, older = desk.come()
    arrive(desk.slots, desk.sides, zerogate_holder="a")
    _, newer = desk.come()
    assert older.is_closed
    assert newer.heard()[-1]["allowance"] == 1, "what is inside counts as its own"
    assert len(desk.slots.grants.holders) == 2


@pytest.mark.parametrize("said", [b"what?\n", b'{"waiting":-1,"in_flight":0}\n', b"x" * 5000])
async def test_a_gateway_that_makes_no_sense_is_parted_from(said: bytes) -> None:
    desk = Desk()
    connection, transport = desk.come()
    connection.data_received(said)
    assert transport.is_closed
    assert len(desk.slots.grants.holders) == 1


def test_who_has_no_name_or_comes_as_one_too_many_is_not_taken() -> None:
    desk = Desk()
    assert desk.control.take(request()) is None
    assert desk.control.take(request(zerogate_holder="no name")) is None
    assert desk.control.take(request("POST", zerogate_holder="a")) is None
    for number in range(MOST_GATEWAYS):
        desk.control.connections[b"%d" % number] = cast(Any, None)
    assert desk.control.take(request(zerogate_holder="a")) is None


async def test_one_client_address_has_a_part_of_the_places_and_gets_them_back() -> None:
    desk = Desk(limit=3)
    mine = [desk.come(f"a{number}") for number in range(MOST_FROM_ONE)]
    refused, transport = desk.come("b")
    assert transport.written[0].startswith(b"HTTP/1.1 503 ")
    assert transport.is_closed
    refused.connection_lost(None)
    assert desk.come("c", "192.0.2.2")[1].written[0].startswith(b"HTTP/1.1 101 ")
    assert len(desk.slots.grants.holders) == 1 + MOST_FROM_ONE + 1
    mine[0][0].connection_lost(None)
    assert desk.come("b")[1].written[0].startswith(b"HTTP/1.1 101 ")


async def test_to_come_again_does_not_clear_an_address_of_slots_that_lapsed() -> None:
    desk = Desk(limit=1)
    liar, _ = desk.come("liar")
    desk.come("other", "192.0.2.2")
    liar.data_received(b'{"waiting":5,"in_flight":0}\n')
    holder = desk.slots.grants.holders[1]
    assert holder.kept == 1
    liar.connection_lost(None)
    assert holder.lapses == 1, "it was kept a slot, and left"
    desk.come("liar-2")
    desk.come("another", "192.0.2.3")
    assert [one.lapses for one in desk.slots.grants.holders] == [0, 0, 1, 0]


@pytest.mark.slow
@pytest.mark.uvloop
async def test_on_the_port_of_the_traffic_it_is_taken_and_never_reaches_the_model_server() -> None:
    async with world("--concurrency-limit", "2") as it:
        gateway = await it.connect()
        ask = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %b\r\nZerogate-Holder: a\r\n\r\n"
        await gateway.send(ask % b"zerogate-control/1")
        assert (await gateway.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert json.loads(await gateway.until(b"\n"))["allowance"] == 2
        assert (await it.tell_stub("/stats"))["requests"] == 0
        later = await it.connect()
        await later.send(ask % b"zerogate-control/2")
        assert (await later.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 "), "a request like any other"
        await it.admin("/drain")
        assert json.loads(await gateway.until(b"\n"))["ready"] is False
