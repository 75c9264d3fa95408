"""One raw HTTP/1.1 connection, for what an HTTP library hides: hanging up, 1xx, trailers, bytes at their own time.

async with wire(box.listen) as one:
    await one.send(request("GET", "/lines", host="chat"))
    answer = await one.answer()
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec

LONGEST_S = 30


class Head(msgspec.Struct, frozen=True):
    """A response head; names of fields in lower case."""

    status: int
    fields: dict[str, str]


class Answer(msgspec.Struct, frozen=True):
    """A whole answer; names of fields and trailers in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes
    trailers: dict[str, str]


def request(method: str, target: str, *, host: str, body: bytes | None = None, **fields: str) -> bytes:
    """A request as bytes; fields with `_` for `-`. A body is announced by its length."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode() + (body or b"")


def chunk(piece: bytes) -> bytes:
    """A chunk of a chunked body; an empty one is the last, without trailers."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


class Wire:
    """See the module's text. Each reading method gives up after `LONGEST_S`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Write all of it, as fast as it is taken."""
        self.writer.write(data)
        await self.writer.drain()

    async def line(self) -> bytes:
        """Up to the next line end, without it."""
        return (await asyncio.wait_for(self.reader.readuntil(b"\r\n"), LONGEST_S))[:-2]

    async def fields(self) -> dict[str, str]:
        """Fields up to an empty line."""
        found = {}
        while line := await self.line():
            name, _, value = line.decode().partition(":")
            found[name.lower()] = value.strip()
        return found

    async def head(self) -> Head:
        """The next response head, also a 1xx."""
        status = int((await self.line()).split(b" ")[1])
        return Head(status, await self.fields())

    async def chunks(self) -> AsyncIterator[bytes]:
        """The chunks of a chunked body as they come; its trailers are left to be read."""
        while size := int(await self.line(), 16):
            piece = await asyncio.wait_for(self.reader.readexactly(size + 2), LONGEST_S)
            yield piece[:-2]

    async def body(self, head: Head) -> tuple[bytes, dict[str, str]]:
        """What follows a head that has a body: the body and the trailers."""
        if head.fields.get("transfer-encoding") == "chunked":
            body = b"".join([piece async for piece in self.chunks()])
            return body, await self.fields()
        size = int(head.fields["content-length"])
        return await asyncio.wait_for(self.reader.readexactly(size), LONGEST_S), {}

    async def answer(self) -> Answer:
        """The next answer, heads of 1xx skipped."""
        head = await self.head()
        while head.status < 200:
            head = await self.head()
        body, trailers = await self.body(head)
        return Answer(head.status, head.fields, body, trailers)

    async def is_ended(self) -> bool:
        """Whether the other side has closed, with nothing left to read. Waits for one or the other."""
        return not await asyncio.wait_for(self.reader.read(1), LONGEST_S)

    def hang_up(self) -> None:
        """Close as a client does that is not interested any more."""
        self.writer.close()

    def reset(self) -> None:
        """Go with a TCP reset, which also reaches a server that does not read at the moment."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    """A connection to a port of this machine, closed at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
