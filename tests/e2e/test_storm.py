"""Everything that clients and replicas do wrong at the same time: when it is over, nothing is left of it."""

import asyncio
import os
import random
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.crowd import Raw, connect
from tests.e2e.harness import Box, ready, soon, stub, zerogate

pytestmark = [pytest.mark.slow, pytest.mark.may_block]

CLIENTS: Final = 24
ROUNDS: Final = 12
POLICY: Final[dict[str, Any]] = {
    "concurrency_limit": 2,
    "max_replicas": 2,
    "queue_limit": 10,
    "queue_bytes": "1Mi",
    "priority": "x-urgent",
    "hold_timeout": "2s",
    "first_byte_timeout": "1s",
    "idle_stream_timeout": "1s",
}

FIELDS: Final = ("", "Prefer: wait=0\r\n", "Prefer: wait=1\r\n", "X-Urgent: 7\r\n", f"X-Urgent: {'9' * 5000}\r\n")
TARGETS: Final = (
    "/", "/lines?n=50", "/sleep?ms=30", "/sleep?ms=1500", "/sse?events=4&gap_ms=20", "/sse?events=2&gap_ms=1600",
    "/cut", "/until-close", "/trailers", "/early-hints", "/status?code=204", "/status?code=304", "/echo?stream=1",
)  # fmt: skip
BODIES: Final = (
    b"\r\n",
    b"Content-Length: 5\r\n\r\nhello",
    b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000,
    b"Content-Length: 1048577\r\n\r\n" + b"x" * 1_048_577,
    b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n",
)


def message(dice: random.Random) -> bytes:
    """A request of some kind, two of them, or something that is none."""
    if dice.random() < 0.05:
        return dice.choice(
            (b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n", b"GET /\x00 HTTP/1.1\r\nHost: chat\r\n\r\n")
        )
    method = dice.choice(("GET", "POST", "PUT", "HEAD"))
    head = f"{method} {dice.choice(TARGETS)} HTTP/1.1\r\nHost: chat\r\n{dice.choice(FIELDS)}".encode()
    whole = head + dice.choice(BODIES)
    return whole * 2 if dice.random() < 0.1 else whole


async def behave(connection: Raw, dice: random.Random) -> None:
    """Send a message in some way, wait for something of the answer or not, and leave in some way."""
    reader, writer = connection
    data = message(dice)
    if dice.random() < 0.2:
        data = data[: dice.randrange(1, len(data) + 1)]
    cut = dice.randrange(len(data) + 1)
    writer.write(data[:cut])
    await asyncio.sleep(dice.choice((0, 0, 0.01, 0.1)))
    writer.write(data[cut:])
    if dice.random() < 0.1:
        writer.write_eof()
    with suppress(TimeoutError):
        async with asyncio.timeout(dice.choice((0.001, 0.05, 0.5, 2))):
            while await reader.read(1024 if dice.random() < 0.5 else 65536):
                await asyncio.sleep(dice.choice((0, 0, 0.02)))
    if dice.random() < 0.5:
        writer.transport.abort()


async def client(box: Box, dice: random.Random) -> None:
    for _ in range(ROUNDS):
        connection = await connect(box)
        try:
            with suppress(ConnectionError):
                await behave(connection, dice)
        finally:
            connection[1].close()


async def misfortune(box: Box, dice: random.Random) -> None:
    """Kill and stop replicas, and change the policy, for as long as it is let."""
    while True:
        await asyncio.sleep(dice.uniform(0.2, 0.8))
        replicas = (await box.status("chat"))["replicas"]
        if replicas and dice.random() < 0.7:
            with suppress(ProcessLookupError):
                os.kill(dice.choice(replicas)["pid"], dice.choice((signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)))
        else:
            box.write({"chat": stub(**{**POLICY, "concurrency_limit": dice.choice((1, 2, 3))})})
            assert (await box.ask("POST", "/api/reload")).status_code == 200


def is_quiet(status: dict[str, Any]) -> bool:
    return bool(status["held"] == status["in_flight"] == 0)


def pids_of(status: dict[str, Any]) -> set[int]:
    return {replica["pid"] for replica in status["replicas"]}


@pytest.mark.parametrize("seed", [1, 2])
async def test_after_a_storm_every_count_is_back_at_zero_and_every_request_has_one_end(
    tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    async with zerogate({"chat": stub(**POLICY)}, tmp_path) as box:
        trouble = soon(misfortune(box, random.Random(dice.random())))
        await asyncio.gather(*(client(box, random.Random(dice.random())) for _ in range(CLIENTS)))
        trouble.cancel()
        with suppress(asyncio.CancelledError):
            await trouble
        status = await box.until("chat", is_quiet)
        metrics = await box.metrics()
        # the numbers that a request takes for as long as it is there
        for series in ("zerogate_held", "zerogate_in_flight"):
            assert metrics[f'{series}{{service="chat"}}'] == 0
        assert metrics["zerogate_body_bytes"] == 0
        assert sum(replica["in_flight"] for replica in status["replicas"]) == 0
        assert status["requests"] == sum((await box.ended("chat")).values()) > CLIENTS
        for replica in status["replicas"]:
            with suppress(ProcessLookupError):
                os.kill(replica["pid"], signal.SIGKILL)  # one that was stopped would be waited for
        # so many crashes suspend starts; a pin allows the next one at once
        await box.ask("POST", "/api/services/chat/pin", json={"replicas": 1})
        dead = pids_of(status)
        await box.until("chat", lambda status: ready(status) > 0 and dead.isdisjoint(pids_of(status)))
        assert (await box.get("chat")).status_code == 200
        assert "Traceback" not in box.output
