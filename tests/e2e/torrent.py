"""Bodies of gigabytes, on blocking sockets in threads: a model server and a client that stop when they are told to.

Nothing is kept of what is sent or read: one block of zeros goes out again and again, one buffer takes what comes, so
that memory that grows is zerogate's. How far both ends are is in plain counters that a test looks at.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Self

MIB = 1 << 20
BLOCK = bytes(MIB)
CHUNK = b"%x\r\n%b\r\n" % (MIB, BLOCK)
LONGEST_S = 100


class Torrent:
    """A server of zeros: GET answers with `size` of them, POST reads all that comes and answers how much it was.

    A POST is not read while `reads` is not set. `sent` and `read` are bytes of bodies, as the kernel took or gave them.
    """

    def __init__(self, size: int, *, chunked: bool = False) -> None:
        self.size = size
        self.chunked = chunked
        self.sent = self.read = 0
        self.reads = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        """Serve until `close`."""
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self._open.append(sock)
            self._threads.append(_thread(self._serve, sock))

    def close(self) -> None:
        """End every connection and wait for its thread."""
        self.reads.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self._open:
            _shut(sock)
        for thread in self._threads:
            thread.join(LONGEST_S)

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(LONGEST_S)
        try:
            while head := _head(sock):
                method, fields = head[0].split(b" ")[0], head[1]
                if method == b"POST":
                    self._take(sock, fields)
                else:
                    self._give(sock)
        except OSError:
            pass
        finally:
            sock.close()

    def _give(self, sock: socket.socket) -> None:
        if self.chunked:
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        else:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.size)
        for taken in pour(sock, self.size, chunked=self.chunked):
            self.sent += taken

    def _take(self, sock: socket.socket, fields: dict[bytes, bytes]) -> None:
        self.reads.wait(LONGEST_S)
        if b"content-length" in fields:
            for piece in drink(sock, int(fields[b"content-length"])):
                self.read += piece
        else:
            for piece in drink_chunks(sock):
                self.read += piece
        answer = b"%d" % self.read
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))


@contextmanager
def torrent(size: int, *, chunked: bool = False) -> Iterator[Torrent]:
    """A running one."""
    one = Torrent(size, chunked=chunked)
    thread = _thread(one.run)
    try:
        yield one
    finally:
        one.close()
        thread.join(LONGEST_S)


def pour(sock: socket.socket, size: int, *, chunked: bool) -> Iterator[int]:
    """Send so many zeros; yields how many went out with each call. Chunks are of 1 MiB, and end with the last one."""
    block = memoryview(CHUNK if chunked else BLOCK)
    for _ in range(size // MIB):
        left = block
        while left:
            taken = sock.send(left)
            left = left[taken:]
            yield taken
    if chunked:
        sock.sendall(b"0\r\n\r\n")


def drink(sock: socket.socket, size: int) -> Iterator[int]:
    """Read so many bytes and drop them; yields how many came with each call."""
    into = memoryview(bytearray(MIB))
    while size:
        got = sock.recv_into(into, min(size, MIB))
        if not got:
            raise ConnectionError(f"it ended {size} bytes early")
        size -= got
        yield got


def drink_chunks(sock: socket.socket) -> Iterator[int]:
    """Read a chunked body and drop it; yields the bytes of its data, not its framing."""
    while size := int(_line(sock), 16):
        yield from drink(sock, size)
        _line(sock)
    _line(sock)


class Client:
    """One request on a connection that ends with its `with`; `body_bytes` went through on this side."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.sock: socket.socket = socket.create_connection(("127.0.0.1", port), LONGEST_S)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="127.0.0.1")
        self.body_bytes = 0

    def begin(self, method: str, host: str, *fields: str) -> None:
        """Send the head."""
        self.sock.sendall("\r\n".join([f"{method} / HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode())

    def upload(self, size: int, *, chunked: bool) -> None:
        """Send a body of so many zeros."""
        for taken in pour(self.sock, size, chunked=chunked):
            self.body_bytes += taken

    def answer(self) -> tuple[int, dict[bytes, bytes]]:
        """The head of the answer: status and fields."""
        found = _head(self.sock)
        assert found is not None
        return int(found[0].split(b" ")[1]), found[1]

    def download(self, fields: dict[bytes, bytes]) -> int:
        """Read a whole body; its bytes."""
        pieces = drink_chunks(self.sock) if b"content-length" not in fields else None
        for got in pieces or drink(self.sock, int(fields[b"content-length"])):
            self.body_bytes += got
        return self.body_bytes

    def text(self, fields: dict[bytes, bytes]) -> bytes:
        """A short body."""
        found = b""
        while len(found) < int(fields[b"content-length"]):
            found += self.sock.recv(100)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


async def until_it_stops(one: "Torrent | Client") -> int:
    """Wait until not a byte was sent for a second; how many were until then."""
    before = -1
    async with asyncio.timeout(LONGEST_S):
        while (sent := one.sent if isinstance(one, Torrent) else one.body_bytes) != before or not sent:
            before = sent
            await asyncio.sleep(1)
    return sent


def _head(sock: socket.socket) -> tuple[bytes, dict[bytes, bytes]] | None:
    first = _line(sock)
    if not first:
        return None
    fields = {}
    while line := _line(sock):
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip()
    return first, fields


def _line(sock: socket.socket) -> bytes:
    """One byte at a time: nothing of a body is taken with it. Empty at the end of the connection, too."""
    line = b""
    while not line.endswith(b"\r\n"):
        byte = sock.recv(1)
        if not byte:
            return b""
        line += byte
    return line[:-2]


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _thread(work: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    return thread
