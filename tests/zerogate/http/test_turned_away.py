"""A sidecar has no place for a request: it comes back whole, and only a sidecar is believed."""

import asyncio

import pytest

from tests.zerogate.http.dialogue import Sides, exchange_of, request, response
from tests.zerogate.http.rig import Rig, Script, answering, read_request, replica, rig
from zerogate.clock import now
from zerogate.gate import Gate
from zerogate.http.kept_body import REFUSABLE_BYTES, REPLAY_BYTES
from zerogate.http.upstream import Pool, Upstream
from zerogate.runtime.interface import Address

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
AWAY = b"HTTP/1.1 503 Service Unavailable\r\nZerogate-Not-Sent: 1\r\nContent-Length: 4\r\n\r\nfull"
POST = b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 4\r\n\r\nbody"


def add_sidecar(it: Rig, port: int) -> Upstream:
    gate = Gate(limit=0, release_limit=8)
    pool = Pool(Address("127.0.0.1", port), it.sweep, it.nursery, holder=b"gateway-1")
    upstream = Upstream(service="chat", id="chat-1", gate=gate, pool=pool, start_s=1.0)
    it.hold.add(upstream, now())
    return upstream


@pytest.mark.parametrize("ask", [b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n", POST], ids=["GET", "POST"])
async def test_what_a_sidecar_turns_away_is_held_and_sent_again_on_the_same_connection(ask: bytes) -> None:
    heads: list[tuple[bytes, bytes]] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (AWAY, OK):
            heads.append(await read_request(reader))
            writer.write(answer)
        await reader.read()

    async with rig() as it, replica(script) as port:
        upstream = add_sidecar(it, port)
        client = await it.connect()
        await client.send(ask)
        assert (await client.until(b"ok")).startswith(b"HTTP/1.1 200")
        assert len(heads) == 2
        assert heads[0] == heads[1]
        assert b"\r\nzerogate-holder: gateway-1\r\n" in heads[0][0]
        ended = (await it.end_of(1))[0]
        assert ended.attempts == 2
        assert (upstream.gate.in_flight, it.hold.meter.in_flight, it.hold.meter.held) == (0, 0, 0)


async def test_a_request_may_be_turned_away_more_often_than_a_connect_may_fail() -> None:
    async with rig() as it, replica(answering(*[AWAY] * 8, OK)) as port:
        add_sidecar(it, port)
        client = await it.connect()
        await client.send(POST)
        assert (await client.until(b"ok")).startswith(b"HTTP/1.1 200")


async def test_a_model_server_that_says_the_same_is_not_believed() -> None:
    async with rig(script=answering(AWAY)) as it:
        client = await it.connect()
        await client.send(POST)
        said = await client.until(b"full")
        assert said.startswith(b"HTTP/1.1 503")
        assert b"not-sent" not in said.lower()
        assert it.hold.counters.retries == 0


async def test_a_client_cannot_speak_in_a_gateways_name() -> None:
    seen: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await read_request(reader))[0])
        writer.write(OK)
        await reader.read()

    async with rig() as it, replica(script) as port:
        add_sidecar(it, port)
        client = await it.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: chat\r\nZerogate-Holder: another\r\n\r\n")
        await client.until(b"ok")
    assert b"another" not in seen[0]
    assert seen[0].lower().count(b"holder") == 1


async def test_a_sidecar_that_breaks_off_in_its_refusal_has_turned_it_away_all_the_same() -> None:
    async def sidecar(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(AWAY[:-2] if not it.hold.counters.retries else OK)

    script: Script = sidecar
    async with rig() as it, replica(script) as port:
        add_sidecar(it, port)
        client = await it.connect()
        await client.send(POST)
        assert (await client.until(b"ok")).startswith(b"HTTP/1.1 200")


def sidecar_sides() -> Sides:
    sides = Sides()
    sides.may_turn_away = True
    return sides


def test_the_body_of_a_post_is_kept_until_the_sidecar_has_let_it_in() -> None:
    sides = sidecar_sides()
    exchange = exchange_of(sides, request("POST", body=3 * REPLAY_BYTES))
    exchange.dispatch(sides, 0.0)
    for _ in range(3):
        exchange.on_request_data(b"x" * REPLAY_BYTES, 0.0)
    assert sides.memory.used_bytes == 3 * REPLAY_BYTES
    exchange.on_informational(100, b"Continue", b"")
    assert sides.memory.used_bytes == 0
    assert "client: 100" not in sides.hear()


def test_a_body_that_became_too_long_to_be_kept_is_told_to_its_client() -> None:
    sides = sidecar_sides()
    exchange = exchange_of(sides, request("POST", chunked=True))
    exchange.dispatch(sides, 0.0)
    for _ in range(REFUSABLE_BYTES // REPLAY_BYTES + 1):
        exchange.on_request_data(b"x" * REPLAY_BYTES, 0.0)
    exchange.on_turned_away(1.0)
    assert exchange.code == "replica_full"
    assert sides.memory.used_bytes == 0


def test_a_short_body_is_kept_until_the_answer_begins_and_no_longer() -> None:
    sides = sidecar_sides()
    exchange = exchange_of(sides, request("POST", body=4))
    exchange.on_request_data(b"body", 0.0)
    exchange.on_request_end([], 0.0)
    exchange.dispatch(sides, 0.0)
    assert sides.memory.used_bytes == 4
    exchange.on_turned_away(0.5)
    assert sides.hear()[-1] == "owner: turned away"
    exchange.hold("ticket", deadline_s=10.0, now_s=0.5)
    exchange.dispatch(sides, 1.0)
    assert "replica: data body" in sides.hear()
    exchange.on_response_head(response(length=0), 2.0)
    assert sides.memory.used_bytes == 0
