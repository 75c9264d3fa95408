"""The probe against scripted servers on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from zerogate.http.probe import Probe, answers
from zerogate.runtime.interface import Address

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Address]:
    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    try:
        yield Address(*server.sockets[0].getsockname()[:2])
    finally:
        server.close()


class Changes:
    """Transitions as they are told."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[bool] = asyncio.Queue()

    async def next(self) -> bool:
        async with asyncio.timeout(30):
            return await self.seen.get()


class Server:
    """Answers each question with what `reply` is now; counts connections and questions."""

    def __init__(self, reply: bytes, *, closes: bool = False) -> None:
        self.reply = reply
        self.closes = closes
        self.connections = 0
        self.questions: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            self.questions.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.reply)
            if self.closes:
                return


@pytest.mark.both_loops
async def test_it_tells_of_readiness_once_and_asks_no_more() -> None:
    server, changes = Server(BUSY), Changes()
    async with serving(server) as address:
        probe = Probe(address, "/health", changes.seen.put_nowait, interval_s=0.005)
        probe.start()
        while len(server.questions) < 3:
            await asyncio.sleep(0.005)
        assert not probe.is_ready
        assert probe.last == "it answers 503"
        server.reply = OK
        assert await changes.next() is True
        asked = len(server.questions)
        await asyncio.sleep(0.03)
        assert len(server.questions) == asked
        assert server.connections == 1, "a connection that is kept alive is used again"
        assert server.questions[0].startswith(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:")
        probe.close()
        probe.close()


@pytest.mark.both_loops
async def test_a_refused_connection_is_asked_again_until_somebody_listens() -> None:
    changes = Changes()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        address = Address(*holder.getsockname())
        probe = Probe(address, "/", changes.seen.put_nowait, interval_s=0.005)
        probe.start()
        assert probe.last == "Connection refused"
        holder.listen()
        holder.setblocking(False)
        sock, _ = await asyncio.get_running_loop().sock_accept(holder)
        with sock:
            sock.sendall(OK)
            assert await changes.next() is True
    probe.close()


@pytest.mark.both_loops
@pytest.mark.parametrize(
    ("reply", "is_ready"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, True),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", True),
        (b"SSH-2.0-OpenSSH\r\n", False),
        (b"", False),
    ],
    ids=["404 counts", "500 does not", "an interim answer is skipped", "HTTP/1.0", "another protocol", "nothing"],
)
async def test_what_counts_as_ready(reply: bytes, is_ready: bool) -> None:
    async with serving(Server(reply, closes=True)) as address:
        assert await answers(address, "/health", timeout_s=5 if is_ready else 0.1) is is_ready


@pytest.mark.both_loops
async def test_a_server_that_takes_the_question_and_stays_silent_is_asked_again_after_the_timeout() -> None:
    connections: list[asyncio.StreamWriter] = []

    async def silent_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if len(connections) == 1:
            await reader.read()
        else:
            writer.write(OK)

    changes = Changes()
    async with serving(silent_once) as address:
        probe = Probe(address, "/", changes.seen.put_nowait, interval_s=0.005, timeout_s=0.05)
        probe.start()
        assert await changes.next() is True
        assert len(connections) == 2
        probe.close()


@pytest.mark.both_loops
async def test_a_ready_server_may_leave_fewer_questions_unanswered_than_its_patience() -> None:
    silent = False
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while True:
            await reader.readuntil(b"\r\n\r\n")
            asked += silent
            if not silent:
                writer.write(OK)

    changes = Changes()
    async with serving(serve) as address:
        probe = Probe(
            address, "/", changes.seen.put_nowait,
            interval_s=0.005, ready_interval_s=0.005, timeout_s=0.05, patience=3,
        )  # fmt: skip
        probe.start()
        assert await changes.next() is True
        silent = True
        assert await changes.next() is False
        assert asked == 3
        probe.close()


@pytest.mark.both_loops
async def test_with_a_ready_interval_it_also_tells_when_readiness_is_lost() -> None:
    server, changes = Server(OK), Changes()
    async with serving(server) as address:
        probe = Probe(address, "/", changes.seen.put_nowait, interval_s=0.005, ready_interval_s=0.005)
        probe.start()
        assert await changes.next() is True
        server.reply = BUSY
        assert await changes.next() is False
        server.reply = OK
        assert await changes.next() is True
        probe.close()


@pytest.mark.both_loops
async def test_a_server_that_closes_idle_connections_does_not_count_as_lost() -> None:
    async def one_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        count.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)

    count: list[bytes] = []
    changes = Changes()
    async with serving(one_each) as address:
        probe = Probe(address, "/", changes.seen.put_nowait, interval_s=0.005, ready_interval_s=0.002)
        probe.start()
        while len(count) < 10:
            await asyncio.sleep(0.005)
        assert await changes.next() is True
        assert changes.seen.empty()
        probe.close()


@pytest.mark.both_loops
async def test_closing_in_the_midst_of_a_question_leaves_nothing_behind() -> None:
    questions: asyncio.Queue[bytes] = asyncio.Queue()
    ends: asyncio.Queue[bytes] = asyncio.Queue()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        questions.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        ends.put_nowait(await reader.read())

    async with serving(silent) as address, asyncio.timeout(30):
        probe = Probe(address, "/", lambda _: pytest.fail("nothing changed"), interval_s=0.005)
        probe.start()
        await questions.get()
        probe.close()
        assert await ends.get() == b"", "its connection is closed"
        await asyncio.sleep(0.05)
        assert questions.empty(), "it asks no more"


async def test_a_server_on_a_unix_socket_is_asked_until_it_is_there(tmp_path: Path) -> None:
    path = str(tmp_path / "model.sock")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"\r\nHost: localhost\r\n" in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    asked = asyncio.get_running_loop().create_task(answers(Address("", 0, path), "/health", timeout_s=10))
    await asyncio.sleep(0.05)
    server = await asyncio.start_unix_server(serve, path)
    assert await asked
    server.close()


@pytest.mark.both_loops
async def test_a_server_that_is_doubted_is_not_ready_until_it_answers_again() -> None:
    server, changes = Server(OK), Changes()
    async with serving(server) as address:
        probe = Probe(address, "/health", changes.seen.put_nowait, interval_s=0.005, ready_interval_s=60.0)
        probe.doubt("nothing is known yet")
        probe.start()
        assert await changes.next() is True
        probe.doubt("a request could not reach it")
        assert await changes.next() is False
        assert await changes.next() is True, "it is asked at the pace of a start"
        probe.close()
        assert changes.seen.empty()
