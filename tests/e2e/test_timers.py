"""R7: the five timers, each alone and all together, through a real `zerogate up` and over real sockets.

A replica that does what its script says is an `endpoint`; all timers but the one that is looked at are far away. What
is asserted is which one fired, what the client was told and that everything is free again; that none fires too early
is said by a lower bound, and never how late.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.crowd import until
from tests.e2e.harness import Box, Service, stub, zerogate
from tests.e2e.wire import Wire, chunk, request
from tests.zerogate.http.rig import Script, answering, read_request, replica
from zerogate.clock import now

pytestmark = [pytest.mark.slow, pytest.mark.may_block("beginning a process takes long on a busy machine")]

FAR: Final[dict[str, Any]] = {
    "hold-timeout": "1h", "connect-timeout": "1h", "first-byte-timeout": "1h", "idle-stream-timeout": "1h",
    "total-timeout": "none",
}  # fmt: skip
HEAD: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def at(port: int, **timers: Any) -> Service:
    """A service at a port, with timers that are far away unless they are given."""
    given = {name.replace("_", "-"): value for name, value in timers.items()}
    return {"endpoint": f"http://127.0.0.1:{port}", "policy": {**FAR, **given}}


@contextlib.asynccontextmanager
async def box_before(script: Script, folder: Path, **timers: str) -> AsyncIterator[Box]:
    """A box whose one service runs `script` on each connection."""
    async with replica(script) as port, zerogate({"chat": at(port, **timers)}, folder) as box:
        yield box


async def expect_told(one: Wire, status: int, code: str) -> None:
    """An answer in zerogate's own name; the connection goes on."""
    answer = await one.answer()
    assert (answer.status, f'"code":"{code}"' in answer.body.decode().replace(" ", "")) == (status, True)


async def chunks_until_it_was_cut(one: Wire) -> int:
    """How many came before the connection ended in the middle of an answer."""
    seen = 0
    try:
        async for _ in one.chunks():
            seen += 1
    except (asyncio.IncompleteReadError, ConnectionError):
        return seen
    raise AssertionError("the answer ended as if it were whole")


async def expect_free(box: Box, ended: dict[str, int]) -> None:
    """Nothing is inside any more, and it is counted as what it was."""
    await box.until("chat", lambda status: status["in_flight"] == status["held"] == 0, within_s=5)
    assert await box.ended("chat") == ended


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Reads, and never says a word."""
    while await reader.read(65536):
        pass


async def one_event_then_silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(HEAD + chunk(b"data: 0\n\n"))
    await reader.read()


async def events_without_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(HEAD)
    while True:
        writer.write(chunk(b"data: 0\n\n"))
        await writer.drain()
        await asyncio.sleep(0.1)


async def test_r7_hold_alone_is_a_503_with_a_time_to_come_back(tmp_path: Path) -> None:
    service = stub("--never-ready", **{**FAR, "hold-timeout": "1s"})
    async with zerogate({"chat": service}, tmp_path) as box, box.wire() as one:
        began_s = now()
        await one.send(request("GET", "/", host="chat"))
        head = await one.head()
        assert (head.status, int(head.fields["retry-after"]) >= 1) == (503, True)
        assert b"hold_timeout" in (await one.body(head))[0]
        assert now() - began_s >= 1
        await expect_free(box, {"refused": 1})


@contextlib.contextmanager
def a_full_port() -> Iterator[int]:
    """A port that takes no connection and refuses none: whoever knocks is not answered."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            knocking = stack.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_r7_connect_alone_says_that_the_replica_takes_no_connection(tmp_path: Path) -> None:
    with a_full_port() as port:
        async with zerogate({"chat": at(port, connect_timeout="1s")}, tmp_path) as box, box.wire() as one:
            began_s = now()
            await one.send(request("GET", "/", host="chat"))
            await expect_told(one, 502, "replica_unreachable")
            assert now() - began_s >= 1
            await expect_free(box, {"refused": 1})


@pytest.mark.parametrize("body", [None, b"hello"], ids=["no body", "a body"])
async def test_r7_first_byte_alone_is_a_504_and_the_client_can_go_on(tmp_path: Path, body: bytes | None) -> None:
    async with box_before(silent, tmp_path, first_byte_timeout="1s") as box, box.wire() as one:
        for _ in range(2):
            began_s = now()
            await one.send(request("POST" if body else "GET", "/", host="chat", body=body))
            await expect_told(one, 504, "first_byte_timeout")
            assert now() - began_s >= 1
        await expect_free(box, {"refused": 2})


async def test_r7_first_byte_is_counted_from_the_end_of_an_upload_with_a_length(tmp_path: Path) -> None:
    answer = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with box_before(answer, tmp_path, first_byte_timeout="1s") as box:
        async with box.wire() as one:
            await one.send(request("POST", "/", host="chat", Content_Length="8"))
            for _ in range(4):
                await asyncio.sleep(0.5)
                await one.send(b"xy")
            assert (await one.answer()).status == 200
        await expect_free(box, {"served": 1})


async def test_r7_idle_alone_cuts_a_silent_answer_so_that_its_client_can_tell(tmp_path: Path) -> None:
    async with box_before(one_event_then_silence, tmp_path, idle_stream_timeout="1s") as box, box.wire() as one:
        began_s = now()
        await one.send(request("GET", "/", host="chat"))
        head = await one.head()
        pieces = one.chunks()
        assert (head.status, await anext(pieces)) == (200, b"data: 0\n\n")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await anext(pieces)
        assert now() - began_s >= 1
        await expect_free(box, {"cut": 1})


async def test_r7_idle_is_not_counted_while_it_is_the_client_that_does_not_read(tmp_path: Path) -> None:
    size = 64 << 20

    async def much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size >> 16):
            writer.write(bytes(1 << 16))
            await writer.drain()

    async with box_before(much, tmp_path, idle_stream_timeout="1s") as box, box.wire() as one:
        await one.send(request("GET", "/", host="chat"))
        head = await one.head()
        one.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(3)  # three times the timer
        one.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len((await one.body(head))[0]) == size
        await expect_free(box, {"served": 1})


async def test_r7_total_alone_cuts_an_answer_that_goes_on_and_on(tmp_path: Path) -> None:
    async with box_before(events_without_end, tmp_path, total_timeout="1s") as box, box.wire() as one:
        began_s = now()
        await one.send(request("GET", "/", host="chat"))
        assert (await one.head()).status == 200
        assert await chunks_until_it_was_cut(one) > 3
        assert now() - began_s >= 1
        await expect_free(box, {"cut": 1})


async def test_r7_total_before_the_answer_begins_is_a_504(tmp_path: Path) -> None:
    async with box_before(silent, tmp_path, total_timeout="1s") as box, box.wire() as one:
        await one.send(request("GET", "/", host="chat"))
        await expect_told(one, 504, "total_timeout")
        await expect_free(box, {"refused": 1})


async def test_r7_total_does_not_count_the_hold(tmp_path: Path) -> None:
    service = stub("--ready-after", "1.5", **{**FAR, "total-timeout": "1s"})
    async with zerogate({"chat": service}, tmp_path) as box:
        answer = await box.get("chat", "/sleep?ms=100")
        assert answer.status_code == 200
        assert float(answer.headers["server-timing"].split(",")[0].removeprefix("hold;dur=")) > 1000


async def test_r7_all_together_each_service_has_its_own_and_the_first_that_is_due_fires(tmp_path: Path) -> None:
    """Five services with all five timers set, each meeting what only one of them is there for."""
    timers: dict[str, Any] = {
        "hold_timeout": "2s", "connect_timeout": "1s", "first_byte_timeout": "3s", "idle_stream_timeout": "2s",
        "total_timeout": "6s",
    }  # fmt: skip
    with a_full_port() as full:
        async with (
            replica(silent) as never, replica(one_event_then_silence) as stops, replica(events_without_end) as endless
        ):  # fmt: skip
            services = {
                "hold": stub("--never-ready", **timers),
                "connect": at(full, **timers),
                "first": at(never, **timers),
                "idle": at(stops, **timers),
                "total": at(endless, **timers),
            }
            async with zerogate(services, tmp_path, access_log="on") as box:

                async def end_of(name: str) -> str:
                    async with box.wire() as one:
                        await one.send(request("GET", "/", host=name))
                        head = await one.head()
                        if head.status == 200:
                            await chunks_until_it_was_cut(one)
                            return "cut"  # which timer did it, the access log says
                        return (await one.body(head))[0].decode().split('"code":"')[1].split('"')[0]

                ends = dict(zip(services, await asyncio.gather(*map(end_of, services)), strict=True))
                assert ends == {
                    "hold": "hold_timeout", "connect": "replica_unreachable", "first": "first_byte_timeout",
                    "idle": "cut", "total": "cut",
                }  # fmt: skip
                for name in services:
                    status = await box.status(name)
                    assert (status["in_flight"], status["held"]) == (0, 0)

                def logged() -> dict[str, str]:
                    lines = (json.loads(line) for line in box.output.splitlines() if line.startswith('{"'))
                    return {line["service"]: line["code"] for line in lines}

                await until(lambda: len(logged()) == len(services), why=lambda: box.output)
                assert logged() == {
                    "hold": "hold_timeout", "connect": "replica_unreachable", "first": "first_byte_timeout",
                    "idle": "idle_timeout", "total": "total_timeout",
                }  # fmt: skip
