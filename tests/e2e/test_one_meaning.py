"""R9: what has one meaning reaches the replica with it, what has none is 400: through a real `zerogate up`.

The corpora are those of the parser's own tests. What the replica was told is what its own parser (h11, and not ours)
made of the bytes that it got.
"""

import asyncio
from pathlib import Path
from typing import Final

import h11
import pytest

from tests.e2e.harness import Service, stub, zerogate
from tests.e2e.wire import Wire, chunk, request, wire
from tests.zerogate.http.h1.corpus import REFUSED, REFUSED_BODIES, UNDERSTOOD, Meaning
from tests.zerogate.http.rig import answering, replica

pytestmark = [pytest.mark.slow, pytest.mark.may_block("beginning a process takes long on a busy machine")]

LONG_HEAD: Final = 64 * 1024
NOTHING: Final = b"HTTP/1.1 204 No Content\r\n\r\n"


class Understanding:
    """A replica that writes down what it was asked, as h11 reads it."""

    def __init__(self) -> None:
        self.meanings: list[Meaning] = []

    async def script(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer every request of a connection with nothing."""
        state = h11.Connection(h11.SERVER)
        asked: h11.Request | None = None
        body = b""
        while True:
            event = state.next_event()
            if event is h11.NEED_DATA:
                state.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                asked, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and asked is not None:
                fields = dict(asked.headers)
                self.meanings.append((asked.method, fields.get(b"x-forwarded-host", b""), asked.target, body))
                state.send(h11.Response(status_code=204, headers=[]))
                state.send(h11.EndOfMessage())
                writer.write(NOTHING)
                state.start_next_cycle()
            else:
                return


def at(port: int) -> dict[str, Service]:
    """One service, at that port."""
    return {"chat": {"endpoint": f"http://127.0.0.1:{port}"}}


async def expect_refused(port: int, data: bytes, status: int) -> None:
    """It is told so, in a whole answer, and its connection closed."""
    async with wire(port) as one:
        await one.send(data)
        head = await one.head()
        assert (head.status, head.fields["connection"]) == (status, "close")
        await one.body(head)
        assert await one.is_ended()


async def test_r9_heads_without_one_meaning_are_refused_and_no_replica_hears_of_them(tmp_path: Path) -> None:
    told = Understanding()
    async with replica(told.script) as port, zerogate(at(port), tmp_path) as box:
        for data, status in REFUSED.values():
            await expect_refused(box.listen, data, status)
        for data, _ in REFUSED_BODIES.values():
            async with box.wire() as one:
                await one.send(data)
                assert (await one.head()).status == 400
        await box.until("chat", lambda status: status["in_flight"] == 0)
    assert told.meanings == []


async def test_r9_what_has_one_meaning_reaches_the_replica_with_it(tmp_path: Path) -> None:
    told = Understanding()
    async with replica(told.script) as port, zerogate(at(port), tmp_path) as box:
        for name, (data, meanings) in UNDERSTOOD.items():
            told.meanings.clear()
            async with box.wire() as one:
                await one.send(data)
                for _ in meanings:
                    assert (await one.head()).status == 204, name
            assert told.meanings == meanings, name


async def test_r9_chunk_extensions_are_taken_and_not_passed_on(tmp_path: Path) -> None:
    answer = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a="b"\r\nhello\r\n0;c\r\n\r\n'
    async with replica(answering(answer)) as port:
        services = {"chat": stub(), "marked": {"endpoint": f"http://127.0.0.1:{port}"}}
        async with zerogate(services, tmp_path) as box, box.wire() as one:
            await one.send(request("POST", "/echo", host="chat", Transfer_Encoding="chunked"))
            await one.send(b'5;a="b"\r\nhello\r\n' + chunk(b" world") + b"0;c=d\r\n\r\n")
            assert (await one.answer()).body == b"hello world"
            await one.send(request("GET", "/", host="marked"))
            assert (await one.answer()).body == b"hello"


def long_fields(size: int) -> bytes:
    """Lines of fields of exactly so many bytes, a hundred of them."""
    each = size // 100
    lines = [b"X-Long-%03d: " % number for number in range(100)]
    filled = [line + b"y" * (each - len(line) - 2) + b"\r\n" for line in lines]
    last = size - sum(map(len, filled[:-1]))
    filled[-1] = lines[-1] + b"y" * (last - len(lines[-1]) - 2) + b"\r\n"
    return b"".join(filled)


async def test_r9_heads_of_64_kib_pass_both_ways_and_larger_ones_are_refused(tmp_path: Path) -> None:
    start, end = b"GET /head HTTP/1.1\r\nHost: chat\r\n", b"\r\n"
    begun, length = b"HTTP/1.1 200 OK\r\n", b"Content-Length: 0\r\n\r\n"
    longest = begun + long_fields(LONG_HEAD - 1024) + length
    async with (
        replica(answering(longest)) as long,
        replica(answering(begun + long_fields(LONG_HEAD + 1024) + length)) as longer,
    ):
        services = {
            "chat": stub(),
            "long": {"endpoint": f"http://127.0.0.1:{long}"},
            "longer": {"endpoint": f"http://127.0.0.1:{longer}"},
        }
        async with zerogate(services, tmp_path) as box:
            fields = long_fields(LONG_HEAD - len(start) - len(end))
            async with box.wire() as one:
                await one.send(start + fields + end)
                answer = await one.answer()
                assert answer.status == 200
                assert answer.body.count(b"X-Long-") == 100
                assert answer.body.count(b"y") >= fields.count(b"y")
            await expect_refused(box.listen, start + long_fields(LONG_HEAD + 1024) + end, 431)
            async with box.wire() as one:
                head = await head_of(one, "long")
                assert (head["x-long-099"], len([name for name in head if name.startswith("x-long-")])) == (
                    longest.split(b"X-Long-099: ")[1].split(b"\r\n")[0].decode(), 100
                )  # fmt: skip
            async with box.wire() as one:
                await one.send(request("GET", "/", host="longer"))
                assert (await one.answer()).status == 502


async def head_of(one: Wire, host: str) -> dict[str, str]:
    """The fields of an answer with 200."""
    await one.send(request("GET", "/", host=host))
    head = await one.head()
    assert head.status == 200
    return head.fields


@pytest.mark.parametrize("fields", ["", "Connection: keep-alive\r\n"], ids=["closes", "keeps alive"])
async def test_r9_http_1_0_gets_answers_that_it_can_read(tmp_path: Path, fields: str) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box, box.wire() as one:
        await one.send(f"GET /lines?n=3 HTTP/1.0\r\nHost: chat\r\n{fields}\r\n".encode())
        head = await one.head()
        assert (head.status, head.fields.get("transfer-encoding")) == (200, None)
        assert await asyncio.wait_for(one.reader.read(), 30) == b"line 0\nline 1\nline 2\n"
