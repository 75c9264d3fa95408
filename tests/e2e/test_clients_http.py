"""curl, httpx and aiohttp through a real `zerogate up`, over HTTP/1.1 and HTTP/2; behind it uvicorn and aiohttp."""

import asyncio
import contextlib
import io
import os
import random
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import httpx
import pytest

from tests.e2e.harness import Box, Latch, soon, stub, zerogate
from tests.e2e.servers.served import COMMANDS, allow, behind
from tests.programs import CURL, needs_curl

pytestmark = [pytest.mark.slow, pytest.mark.may_block("beginning a process takes long on a busy machine")]

MIB = 1 << 20
Answer = tuple[int, dict[str, str], bytes]
"""Status, fields in lower case, body."""


class Client(Protocol):
    """What each of them is asked to do."""

    async def ask(self, method: str, path: str, body: bytes | None = None, *, host: str = "chat") -> Answer:
        """A request and its whole answer; a body is sent with a length."""

    async def stream(self, path: str, pieces: AsyncIterator[bytes]) -> Answer:
        """A POST whose body comes piece by piece, chunked."""

    def events(self, path: str) -> contextlib.AbstractAsyncContextManager[AsyncIterator[str]]:
        """The lines of a stream of events as they come."""

    async def aclose(self) -> None:
        """End its connections."""


class Httpx:
    def __init__(self, url: str, *, http2: bool = False) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=30, verify=False, http1=not http2, http2=http2)

    async def ask(self, method: str, path: str, body: bytes | None = None, *, host: str = "chat") -> Answer:
        answer = await self._client.request(method, path, content=body, headers={"Host": host})
        return answer.status_code, dict(answer.headers), answer.content

    async def stream(self, path: str, pieces: AsyncIterator[bytes]) -> Answer:
        answer = await self._client.post(path, content=pieces, headers={"Host": "chat"})
        return answer.status_code, dict(answer.headers), answer.content

    @contextlib.asynccontextmanager
    async def events(self, path: str) -> AsyncIterator[AsyncIterator[str]]:
        async with self._client.stream("GET", path, headers={"Host": "chat"}) as answer:
            yield answer.aiter_lines()

    async def aclose(self) -> None:
        await self._client.aclose()


class Aiohttp:
    def __init__(self, url: str) -> None:
        self._session = aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=30))

    async def ask(self, method: str, path: str, body: bytes | None = None, *, host: str = "chat") -> Answer:
        data = io.BytesIO(body) if body is not None else None
        async with self._session.request(method, path, data=data, headers={"Host": host}) as answer:
            return await self._whole(answer)

    async def stream(self, path: str, pieces: AsyncIterator[bytes]) -> Answer:
        async with self._session.post(path, data=pieces, headers={"Host": "chat"}) as answer:
            return await self._whole(answer)

    @contextlib.asynccontextmanager
    async def events(self, path: str) -> AsyncIterator[AsyncIterator[str]]:
        async with self._session.get(path, headers={"Host": "chat"}) as answer:

            async def lines() -> AsyncIterator[str]:
                async for line in answer.content:
                    yield line.decode().rstrip("\n")

            yield lines()

    @staticmethod
    async def _whole(answer: aiohttp.ClientResponse) -> Answer:
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.read()

    async def aclose(self) -> None:
        await self._session.close()


class Curl:
    def __init__(self, url: str, *words: str) -> None:
        self._url = url
        self._words = words

    async def ask(self, method: str, path: str, body: bytes | None = None, *, host: str = "chat") -> Answer:
        words = [*self._words, "-H", f"Host: {host}", self._url + path]
        if method == "HEAD":
            return _parsed(await curl("--head", *words))
        sent = ["--data-binary", "@-", "-H", "Content-Type: text/plain"] if body is not None else []
        return _parsed(await curl("-i", "-X", method, *sent, *words, given=body))

    async def stream(self, path: str, pieces: AsyncIterator[bytes]) -> Answer:
        words = ["-sSi", "-T", "-", "-X", "POST", "-H", "Host: chat", self._url + path]
        async with running(*self._words, *words) as process:
            assert process.stdin is not None
            async for piece in pieces:
                process.stdin.write(piece)
                await process.stdin.drain()
            process.stdin.close()
            out, err = await process.communicate()
        assert not err
        return _parsed(out)

    @contextlib.asynccontextmanager
    async def events(self, path: str) -> AsyncIterator[AsyncIterator[str]]:
        async with running("-sSN", *self._words, "-H", "Host: chat", self._url + path) as process:

            async def lines() -> AsyncIterator[str]:
                assert process.stdout is not None
                while line := await process.stdout.readline():
                    yield line.decode().rstrip("\n")

            yield lines()

    async def aclose(self) -> None: ...


@contextlib.asynccontextmanager
async def running(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """curl; killed where the test has enough before it has."""
    process = await asyncio.create_subprocess_exec(
        str(CURL), *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.communicate()


async def curl(*words: str, given: bytes | None = None) -> bytes:
    """What it prints; it has nothing to complain about."""
    async with running("-sS", "-m", "60", *words) as process:
        out, err = await process.communicate(given)
        assert (process.returncode, err) == (0, b"")
        return out


def _parsed(printed: bytes) -> Answer:
    """What `curl -i` prints, heads of 1xx skipped."""
    head, _, body = printed.partition(b"\r\n\r\n")
    while int(head.split(b" ")[1]) < 200:
        head, _, body = body.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return int(first.split(" ")[1]), {name.lower(): value for name, value in pairs}, body


CLIENTS: dict[str, Callable[[str], Any]] = {
    "curl": Curl,
    "curl, HTTP/2": lambda url: Curl(url, "--http2-prior-knowledge"),
    "httpx": Httpx,
    "httpx, HTTP/2": lambda url: Httpx(url, http2=True),
    "aiohttp": Aiohttp,
}
by_client = pytest.mark.parametrize(
    "client", [pytest.param(one, marks=needs_curl if one.startswith("curl") else ()) for one in CLIENTS]
)
by_server = pytest.mark.parametrize("server", COMMANDS)


@contextlib.asynccontextmanager
async def talking(client: str, box: Box) -> AsyncIterator[Client]:
    """A client of that name."""
    one = CLIENTS[client](box.url)
    try:
        yield one
    finally:
        await one.aclose()


@by_server
@by_client
async def test_each_client_gets_every_answer_whole_from_zero_and_warm(client: str, server: str, tmp_path: Path) -> None:
    body = random.Random(5).randbytes(3 * MIB)
    async with zerogate({"chat": behind(server)}, tmp_path) as box, talking(client, box) as one:
        for _ in ("cold", "warm"):
            status, _, came = await one.ask("POST", "/echo", body)
            assert (status, came == body) == (200, True)
        status, fields, came = await one.ask("HEAD", "/x")
        assert (status, came) == (200, b"")
        status, fields, came = await one.ask("GET", "/x")
        assert (status, fields["content-type"].split(";")[0]) == (200, "application/json")
        assert await box.ended("chat") == {"served": 4}


@by_server
@by_client
async def test_c10_a_body_in_pieces_that_began_at_zero_arrives_whole(client: str, server: str, tmp_path: Path) -> None:
    async with zerogate({"chat": behind(server)}, tmp_path) as box, talking(client, box) as one:

        async def pieces() -> AsyncIterator[bytes]:
            yield b"held "
            await box.until("chat", lambda status: status["replicas"] != [])
            yield b"starting "
            await box.until_ready("chat")
            yield b"x" * 300_000

        status, _, body = await one.stream("/echo", pieces())
        assert (status, body) == (200, b"held starting " + b"x" * 300_000)


@by_server
@by_client
async def test_r6_each_event_is_there_before_the_server_may_send_the_next(
    client: str, server: str, tmp_path: Path
) -> None:
    """Also while another stream of the same process runs as fast as it can."""
    services = {"chat": behind(server), "other": stub()}
    async with zerogate(services, tmp_path) as box, talking(client, box) as one:
        flood = soon(box.get("other", "/sse?events=40000&size=1000"))
        async with one.events("/events?n=20") as lines, asyncio.timeout(60):
            number = 0
            async for line in lines:
                if line == f"data: event {number}":
                    number += 1
                    await allow(box)
                if line == "data: [DONE]":
                    break
            assert number == 20
        assert (await flood).text.count("data: ") == 40_001


@by_client
async def test_b1_each_client_can_read_why_it_was_refused_and_when_to_come_back(client: str, tmp_path: Path) -> None:
    latch = Latch(tmp_path)
    services = {"chat": stub(*latch.flags, queue_limit=1), "other": stub()}
    async with zerogate(services, tmp_path) as box, talking(client, box) as one:
        first = soon(box.get("chat"))
        await box.until_held("chat", 1)
        status, fields, body = await one.ask("POST", "/echo", bytes(8 * MIB))
        assert (status, b'"code":"queue_full"' in body.replace(b" ", b"")) == (429, True)
        assert int(fields["retry-after"]) >= 1
        status, fields, body = await one.ask("GET", "/", host="nobody")
        assert (status, b"no_route" in body) == (404, True)
        latch.open()
        assert (await first).status_code == 200


@by_client
async def test_f2_each_client_notices_an_answer_that_was_cut(client: str, tmp_path: Path) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box, talking(client, box) as one:
        with pytest.raises((httpx.TransportError, aiohttp.ClientError, AssertionError)):
            await one.ask("GET", "/cut?bytes=1000")
        assert await box.ended("chat") == {"cut": 1}


@by_client
async def test_r7_each_client_notices_that_an_answer_was_cut_because_it_fell_silent(
    client: str, tmp_path: Path
) -> None:
    async with zerogate({"chat": stub(idle_stream_timeout="1s")}, tmp_path) as box, talking(client, box) as one:
        with pytest.raises((httpx.TransportError, aiohttp.ClientError, AssertionError)):
            await one.ask("GET", "/sse?events=2&gap_ms=100000")
        assert await box.ended("chat") == {"cut": 1}


@by_client
async def test_b5_each_client_that_goes_away_in_a_stream_frees_its_place(client: str, tmp_path: Path) -> None:
    async with zerogate({"chat": stub(concurrency_limit=1)}, tmp_path) as box, talking(client, box) as one:
        async with one.events("/sse?events=100000&gap_ms=10") as lines:
            assert await anext(aiter(lines))
        if client == "httpx, HTTP/2":
            await one.aclose()  # it resets no stream that it does not want any more
        await box.until("chat", lambda status: status["in_flight"] == 0, within_s=5)
        assert (await box.get("chat")).status_code == 200
        assert await box.ended("chat") == {"abandoned": 1, "served": 1}


@needs_curl
async def test_r9_curl_waits_for_100_continue_and_uploads_in_the_old_protocol_too(tmp_path: Path) -> None:
    body = os.urandom(2 * MIB)
    async with zerogate({"chat": stub()}, tmp_path) as box:
        url = ["-H", "Host: chat", f"{box.url}/echo"]
        patient = ["-H", "Expect: 100-continue", "--expect100-timeout", "30"]
        seen = await curl("-i", *patient, "--data-binary", "@-", *url, given=body)
        assert seen.count(b"HTTP/1.1 100 Continue\r\n\r\n") == 1
        assert seen.endswith(b"\r\n\r\n" + body)
        assert (await curl("--http1.0", "--data-binary", "@-", *url, given=body)) == body


@needs_curl
async def test_curl_uses_one_connection_for_many_requests_and_reads_what_has_no_length(tmp_path: Path) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box:
        urls = [f"{box.url}{path}" for path in ("/until-close?bytes=1000", "/trailers", "/x", "/status?code=204", "/y")]
        quiet = [word for url in urls for word in ("-o", os.devnull, url)]
        counted = await curl("-w", "%{num_connects} ", "-H", "Host: chat", *quiet)
        assert counted.split() == [b"1", b"0", b"0", b"0", b"0"]
        old = await curl("-i", "--http1.0", "-H", "Host: chat", f"{box.url}/lines?n=100")
        assert re.search(rb"(?i)transfer-encoding", old) is None
        assert old.endswith(b"line 99\n")
