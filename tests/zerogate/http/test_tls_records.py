"""Records of TLS that bring no data: they are counted, and a client that sends thousands is cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.certificates import Authority
from tests.zerogate.http.rig import LONGEST_S, Client, Rig, echo, rig
from tests.zerogate.http.tls_client import TlsClient
from zerogate.http.certificates import server_contexts
from zerogate.http.tls_records import RecordCount
from zerogate.http.tls_transport import IDLE_RECORDS

GET = b"GET /%b HTTP/1.1\r\nHost: chat\r\n\r\n"


@given(lengths=st.lists(st.integers(0, 600), max_size=30), sizes=st.lists(st.integers(1, 700), min_size=1))
def test_records_are_counted_wherever_their_bytes_are_cut(lengths: list[int], sizes: list[int]) -> None:
    data = b"".join(b"\x17\x03\x03" + length.to_bytes(2, "big") + b"x" * length for length in lengths)
    count, found, at, turn = RecordCount(), 0, 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        found += count.take(memoryview(data)[at : at + size])
        at += size
        turn += 1
    assert found == len(lengths)


class Talk:
    """A client that changes its keys, on its connection."""

    def __init__(self, client: Client, tls: TlsClient) -> None:
        self.client = client
        self.tls = tls

    async def send(self) -> None:
        await self.client.send(self.tls.sent())

    async def get(self, path: bytes) -> bytes:
        self.tls.write(GET % path)
        await self.send()
        said = b""
        while not said.endswith(b"/" + path):
            data = await asyncio.wait_for(self.client.reader.read(65_536), LONGEST_S)
            assert data, "it was cut"
            said += self.tls.receive(data)
        return said


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@asynccontextmanager
async def talking(authority: Authority, folder: Path) -> AsyncIterator[tuple[Rig, Talk]]:
    async with rig(script=echo, contexts=server_contexts([authority.issue(folder, "server")], None)) as one:
        talk = Talk(await one.connect(), TlsClient())
        try:
            while not talk.tls.shake():
                await talk.send()
                talk.tls.receive(await asyncio.wait_for(talk.client.reader.read(65_536), LONGEST_S))
            await talk.send()
            yield one, talk
        finally:
            talk.tls.close()


@pytest.mark.parametrize("asks_back", [True, False], ids=["and asks for the same", "its own"])
async def test_a_client_may_change_its_keys(authority: Authority, tmp_path: Path, *, asks_back: bool) -> None:
    async with talking(authority, tmp_path) as (_, talk):
        for number in range(20):
            assert (await talk.get(b"%d" % number)).startswith(b"HTTP/1.1 200 OK")
            talk.tls.update_keys(asks_back=asks_back)


async def test_requests_in_many_small_records_are_no_flood(authority: Authority, tmp_path: Path) -> None:
    async with talking(authority, tmp_path) as (_, talk):
        for byte in GET % b"" * 20:
            talk.tls.write(bytes([byte]))
        await talk.send()
        assert (await talk.get(b"last")).count(b"HTTP/1.1 200 OK") == 21


@pytest.mark.parametrize("asks_back", [True, False], ids=["and asks for the same", "its own"])
async def test_a_client_that_does_nothing_but_change_its_keys_is_cut_and_its_answers_are_not_kept(
    authority: Authority, tmp_path: Path, *, asks_back: bool
) -> None:
    async with talking(authority, tmp_path) as (one, talk):
        assert (await talk.get(b"before")).startswith(b"HTTP/1.1 200 OK")
        for _ in range(5 * int(IDLE_RECORDS[0])):
            talk.tls.update_keys(asks_back=asks_back)
        data = talk.tls.sent()
        for at in range(0, len(data), 1000):
            talk.client.writer.write(data[at : at + 1000])
        async with asyncio.timeout(LONGEST_S):
            while one.server.connections:
                await asyncio.sleep(0.01)
