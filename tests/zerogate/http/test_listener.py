"""Ports: Unix sockets, sockets that share a port, and leaving without losing who has connected."""

import asyncio
import socket
import stat
from pathlib import Path

import pytest

from tests.zerogate.http.rig import Client, echo, read_request, rig
from zerogate.counters import Result
from zerogate.errors import MachineError
from zerogate.http.listener import Listener, bind, bind_shared, refuse_connections
from zerogate.runtime.interface import Address


def unix(path: Path) -> Address:
    return Address("", 0, str(path))


def begin(address: tuple[str, int]) -> socket.socket:
    """A client's socket whose handshake is under way; on loopback it is done at once where somebody listens."""
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(address)
    return client


async def connect(path: Path) -> Client:
    return Client(*await asyncio.open_unix_connection(str(path)))


@pytest.mark.both_loops
async def test_requests_come_through_a_unix_socket_whose_file_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "traffic.sock"

    async def heads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))

    async with rig(script=heads) as one:
        listener = Listener(one.server, bind(unix(path), what="listen"))
        await listener.start()
        client = await connect(path)
        head = await client.get()
        assert b"\r\nX-Forwarded-For: unix\r\n" in head
        assert b"for=_unix;" in head
        client.close()
        listener.stop_accepting()
        assert not path.exists()


@pytest.mark.both_loops
async def test_a_client_of_a_unix_socket_that_leaves_while_it_is_not_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "traffic.sock"
    async with rig() as one:
        listener = Listener(one.server, bind(unix(path), what="listen"))
        await listener.start()
        client = await connect(path)
        # a body beyond what is kept while held pauses reading
        await client.send(
            b"POST / HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n40000\r\n" + bytes(262144)
        )
        async with asyncio.timeout(10):
            while not one.hold.meter.held:
                await asyncio.sleep(0.01)
        client.abort()
        (exchange,) = await one.end_of(1)
        assert exchange.result is Result.ABANDONED
        assert one.hold.meter.held == one.server.memory.used_bytes == 0
        listener.stop_accepting()


def test_its_user_and_group_may_connect(tmp_path: Path) -> None:
    path = tmp_path / "traffic.sock"
    with bind(unix(path), what="listen"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_socket_file_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "traffic.sock"
    bind(unix(path), what="listen").close()
    assert path.exists()
    with bind(unix(path), what="listen") as sock, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        accepted, _ = sock.accept()
        accepted.close()


def test_a_socket_in_use_a_file_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "traffic.sock"
    with bind(unix(path), what="listen"):
        with pytest.raises(MachineError, match=r"listen: unix:.*traffic\.sock is taken by another program"):
            bind(unix(path), what="listen")
        assert path.exists()
    (tmp_path / "file").write_text("precious")
    with pytest.raises(MachineError, match="is a file and no socket"):
        bind(unix(tmp_path / "file"), what="listen")
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(MachineError, match="there is no folder"):
        bind(unix(tmp_path / "none" / "x.sock"), what="listen")


async def test_the_file_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "traffic.sock"
    async with rig(script=echo) as one:
        listener = Listener(one.server, bind(unix(path), what="listen"))
        await listener.start()
        path.unlink()
        with bind(unix(path), what="listen"):
            listener.stop_accepting()
            assert path.exists()


@pytest.mark.both_loops
async def test_whoever_connected_before_the_port_closes_is_served_and_later_ones_are_refused() -> None:
    async with rig(script=echo) as one:
        sock = bind(Address("127.0.0.1", 0), what="listen")
        port = sock.getsockname()[1]
        listener = Listener(one.server, sock)
        await listener.start()
        # without a turn of the loop nobody has accepted them yet
        early = [begin(("127.0.0.1", port)) for _ in range(40)]
        await listener.leave_port()
        for connection in early:
            client = Client(*await asyncio.open_connection(sock=connection))
            assert await client.get("/early") == b"/early"
            client.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


def test_a_connection_that_was_made_is_accepted_though_no_new_one_begins() -> None:
    sock = bind(Address("127.0.0.1", 0), what="listen")
    with sock, begin(sock.getsockname()) as early:
        refuse_connections(sock)
        late = begin(sock.getsockname())
        accepted, address = sock.accept()
        accepted.close()
        assert address == early.getsockname()
        with pytest.raises(BlockingIOError):
            sock.accept()
        late.close()


def test_sockets_of_one_port_share_it_and_nobody_else_does() -> None:
    socks = bind_shared(Address("127.0.0.1", 0), 3, what="--listen")
    try:
        address = Address("127.0.0.1", socks[0].getsockname()[1])
        assert {sock.getsockname()[1] for sock in socks} == {address.port}
        with pytest.raises(MachineError, match="is taken by another program"):
            bind_shared(address, 2, what="--listen")
    finally:
        for sock in socks:
            sock.close()
