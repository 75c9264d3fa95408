"""A gate that is shut for gateways: who still gets in, and what the autoscaler is told."""

import asyncio
from typing import Any, cast

from queueproxy.quiescing import IDLE_GAP_S, Quiescing
from queueproxy.slots import Slots
from tests.queueproxy.test_control import Desk
from tests.queueproxy.test_slots import Replica, arrive, ready
from tests.zerogate.http.dialogue import response
from zerogate.clock import now
from zerogate.http.exchange import Exchange
from zerogate.http.phases import HELD, SENT
from zerogate.reporting.wire import FromSource, Quiesce, Quiesced, Reopen


class Sweep:
    """Writes down when somebody wants to be seen."""

    def __init__(self) -> None:
        self.times_s: list[float] = []

    def watch(self, item: object, deadline_s: float) -> None:
        self.times_s.append(deadline_s)

    def forget(self, item: object) -> None: ...


class Gate:
    """Slots with one place behind a gate."""

    def __init__(self, **bounds: Any) -> None:
        self.sides = Replica()
        self.slots: Slots = ready(self.sides, **bounds)
        self.sweep = Sweep()
        self.quiescing = Quiescing(self.slots, cast(Any, self.sweep))
        self.words: list[FromSource] = []

    def order(self, order: Quiesce | Reopen) -> list[int]:
        """What is inside, by its answers."""
        self.quiescing.on_order(order, lambda word: self.words.append(word))
        return self.heard()

    def heard(self) -> list[int]:
        words, self.words = self.words, []
        return [word.inside for word in words if isinstance(word, Quiesced)]

    async def turn(self) -> list[int]:
        await asyncio.sleep(0)
        return self.heard()


def end(exchange: Exchange, now_s: float = 2.0) -> None:
    exchange.on_response_head(response(length=0), now_s)
    exchange.on_response_end([], now_s)


SHUT = Quiesce("leader", 1, 30.0)


async def test_gateways_are_turned_away_as_not_sent_and_what_is_inside_ends_and_is_told() -> None:
    it = Gate()
    running = arrive(it.slots, it.sides, zerogate_holder="one")
    assert it.order(SHUT) == [1]
    refused = arrive(it.slots, it.sides, zerogate_holder="one")
    assert (refused.code, running.phase) == ("quiesced", SENT)
    assert await it.turn() == []
    end(running)
    assert await it.turn() == [0]
    assert it.slots.why_shut == "This replica of chat may be stopped: the autoscaler lets no gateway in."


async def test_who_comes_or_waits_without_a_gateway_is_let_in_and_told() -> None:
    it = Gate()
    running, waiting = arrive(it.slots, it.sides), arrive(it.slots, it.sides)
    assert it.order(SHUT) == [2]
    assert waiting.phase == HELD
    end(running)
    assert waiting.phase == SENT
    assert await it.turn() == [], "something is inside still"
    waiting.on_downstream_gone(3.0)
    assert await it.turn() == [0]
    late = arrive(it.slots, it.sides)
    assert (late.phase, await it.turn()) == (SENT, [1])


async def test_a_client_that_stops_waiting_is_told_too() -> None:
    it = Gate()
    running, waiting = arrive(it.slots, it.sides), arrive(it.slots, it.sides)
    it.order(SHUT)
    waiting.on_downstream_gone(1.0)
    assert await it.turn() == []
    end(running)
    assert await it.turn() == [0]


async def test_short_requests_are_no_flood_of_words_and_the_last_one_is_true() -> None:
    it = Gate()
    it.order(SHUT)
    words: list[int] = []
    began_s = now()
    for _ in range(200):
        exchange = arrive(it.slots, it.sides)
        words += await it.turn()
        end(exchange)
        words += await it.turn()
    most = 2 + 2 * int((now() - began_s) / IDLE_GAP_S)
    assert 1 <= len(words) <= most
    assert words[0] == 1
    async with asyncio.timeout(30):
        while words[-1]:
            await asyncio.sleep(0.01)
            words += it.heard()


async def test_it_opens_on_a_word_and_by_itself_when_the_lease_ends() -> None:
    it = Gate()
    assert it.order(SHUT) == [0]
    assert it.order(SHUT) == [], "it is said twice"
    assert it.order(Reopen("leader", 2)) == [0]
    assert it.slots.takes_gateways
    it.order(Quiesce("leader", 3, 30.0))
    end_s = it.sweep.times_s[-1]
    assert it.quiescing.due(end_s - 0.1) == end_s
    assert arrive(it.slots, it.sides, zerogate_holder="one").code == "quiesced"
    assert it.quiescing.due(end_s) is None
    assert arrive(it.slots, it.sides, zerogate_holder="one").phase == SENT


def open_socket(it: Gate) -> Exchange:
    socket = arrive(it.slots, it.sides, zerogate_holder="one")
    socket.head.websocket_key = b"dGhlIHNhbXBsZSBub25jZQ=="
    socket.on_switched(response(101), 1.0)
    it.sides.hear()
    return socket


CLOSE_1001 = "client: 880203e9"


async def test_silent_websockets_are_closed_since_nothing_else_would_end_them() -> None:
    it = Gate(limit=0)
    silent, roused = open_socket(it), open_socket(it)
    for socket in (silent, roused):
        it.slots.on_quiet(socket, 2.0)
    it.slots.on_roused(roused, 3.0)
    assert it.order(SHUT) == [2]
    assert it.sides.hear().count(CLOSE_1001) == 1
    it.slots.on_quiet(roused, 4.0)
    assert it.sides.hear().count(CLOSE_1001) == 1
    for socket in (silent, roused):
        socket.on_downstream_gone(5.0)
    assert await it.turn() == [0]


async def test_gateways_hear_that_it_takes_nothing_and_when_it_does_again() -> None:
    desk = Desk()
    _, transport = desk.come()
    desk.slots.quiesce(True, 1.0)
    await asyncio.sleep(0)
    told = transport.heard()[-1]
    assert (told["ready"], told["allowance"]) == (False, 0)
    assert "may be stopped" in told["detail"]
    desk.slots.quiesce(False, 2.0)
    await asyncio.sleep(0)
    told = transport.heard()[-1]
    assert (told["ready"], told["allowance"], told["detail"]) == (True, 1, "")


async def test_readiness_that_comes_and_goes_meanwhile_opens_nothing_for_gateways() -> None:
    it = Gate()
    it.order(SHUT)
    it.slots.set_ready(False, "it answers 503", 1.0)
    it.slots.set_ready(True, "it answers 200", 2.0)
    assert not it.slots.takes_gateways
    assert arrive(it.slots, it.sides, zerogate_holder="one").code == "quiesced"
