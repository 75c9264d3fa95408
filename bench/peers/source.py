"""The model server of a benchmark where nginx cannot be it: `python -m bench.peers.source PORT`, HTTP/1.1 on uvloop.

    GET  /events        an endless stream of server-sent events, 20 a second, each in a chunk of its own
    GET  /inside        how many requests are inside and never answered
    GET  (an upgrade)   a WebSocket that sends every message back (shorter than 126 bytes)
    GET  anything else  200
    POST anything       never answered

The streams are spread evenly over the 50 ms between two events of one, so that no burst is of this server's making.
"""

import asyncio
import base64
import gc
import hashlib
import sys
import time
from typing import Final

import uvloop

EVENTS_PER_S: Final = 20
SLICES: Final = 25
"""Of the time between two events of one stream: 2 ms each, with a thousand streams 40 writes."""
STAMP: Final = b'"t":'
"""Before the instant an event was made: 17 characters of CLOCK_MONOTONIC seconds."""
_TOKEN: Final = (
    b'data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1735689600,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}],"t":%17.6f}\n\n'
)
_WEBSOCKET: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s"
_EVENTS: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_SWITCH: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
)


class Source:
    """What all connections share."""

    def __init__(self) -> None:
        self.streams: list[set[asyncio.Transport]] = [set() for _ in range(SLICES)]
        self.opened = self.inside = 0

    async def run(self) -> None:
        """Send the events, slice by slice."""
        step_s = 1 / EVENTS_PER_S / SLICES
        next_s = time.monotonic()
        while True:
            for streams in self.streams:
                event = _TOKEN % time.monotonic()
                chunk = b"%x\r\n%s\r\n" % (len(event), event)
                for transport in streams:
                    transport.write(chunk)
                next_s += step_s
                await asyncio.sleep(max(0.0, next_s - time.monotonic()))


class Connection(asyncio.Protocol):
    """One client; requests arrive whole, as the proxies of a benchmark send them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._streams: set[asyncio.Transport] | None = None
        self._is_inside = self._is_websocket = False
        self._buffer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._streams is not None:
            self._streams.discard(self._transport)
        self._source.inside -= self._is_inside

    def data_received(self, data: bytes) -> None:
        if self._is_websocket:
            self._echo(data)
            return
        if self._is_inside:
            return
        self._buffer += data
        while b"\r\n\r\n" in self._buffer and not self._is_inside and not self._is_websocket:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        source = self._source
        if head.startswith(b"POST"):
            self._is_inside = True
            source.inside += 1
        elif head.startswith(b"GET /events"):
            self._streams = source.streams[source.opened % SLICES]
            source.opened += 1
            self._transport.write(_EVENTS)
            self._streams.add(self._transport)
        elif b"sec-websocket-key:" in head.lower():
            at = head.lower().index(b"sec-websocket-key:")
            key = head[at:].partition(b"\r\n")[0].partition(b":")[2].strip()
            self._is_websocket = True
            self._transport.write(_SWITCH % base64.b64encode(hashlib.sha1(key + _WEBSOCKET).digest()))
        else:
            body = b"%d\n" % source.inside if head.startswith(b"GET /inside") else b"hello world\n"
            self._transport.write(_OK % (len(body), body))

    def _echo(self, frame: bytes) -> None:
        opcode, length, mask = frame[0], frame[1] & 0x7F, frame[2:6]
        if opcode & 0x08:
            self._transport.close()
            return
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(frame[6 : 6 + length]))
        self._transport.write(bytes((opcode, length)) + payload)


async def _serve(port: int) -> None:
    source = Source()
    await asyncio.get_running_loop().create_server(lambda: Connection(source), "127.0.0.1", port, backlog=16384)
    gc.collect()
    gc.freeze()
    gc.disable()
    await source.run()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
