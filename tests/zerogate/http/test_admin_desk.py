"""Who may change something by an admin port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from zerogate.http.admin import DRAIN, Desk, Path, answer_json
from zerogate.http.exchange import Exchange
from zerogate.http.listener import Listener, bind
from zerogate.http.server import Server
from zerogate.http.sweep import Sweep
from zerogate.runtime.interface import Address

pytestmark = pytest.mark.both_loops
NEIGHBOUR = "127.0.0.6"
"""An address that is not the one from which this machine speaks to itself."""


def _serve(exchange: Exchange, path: bytes, now_s: float) -> None:
    answer_json(exchange, 200, path.decode(), now_s)


def _late(exchange: Exchange, now_s: float) -> None:
    """Never."""


@asynccontextmanager
async def desk(*, local_changes: bool) -> AsyncIterator[int]:
    sock = bind(Address("0.0.0.0", 0), what="admin")
    it = Desk({b"/readyz": Path(), b"/drain": DRAIN}, _serve, _late, where="", local_changes=local_changes)
    listener = Listener(Server(it.place, Sweep(asyncio.get_running_loop())), sock)
    await listener.start()
    try:
        yield int(sock.getsockname()[1])
    finally:
        listener.abort()
        listener.stop_accepting()


async def ask(port: int, path: str, *, peer: str, host: str = "127.0.0.1") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(peer, 0))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


async def test_what_changes_something_is_taken_from_this_machine_alone() -> None:
    async with desk(local_changes=True) as port:
        assert b" 200 " in await ask(port, "/drain", peer="127.0.0.1")
        refused = await ask(port, "/drain", peer=NEIGHBOUR)
        assert b" 403 " in refused
        assert b"kubectl port-forward leads there" in refused
        for said in ("localhost", f"127.0.0.1:{port}"):
            assert b" 403 " in await ask(port, "/drain", peer=NEIGHBOUR, host=said)
        assert b" 200 " in await ask(port, "/readyz", peer=NEIGHBOUR)


async def test_where_it_is_said_so_others_may_too() -> None:
    async with desk(local_changes=False) as port:
        assert b" 200 " in await ask(port, "/drain", peer=NEIGHBOUR)
