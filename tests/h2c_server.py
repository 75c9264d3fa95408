"""An ordinary HTTP server that speaks HTTP/2 without TLS and nothing else, for tests. Not ours: the `h2` library's.

`python tests/h2c_server.py --port 5000`. Each request is answered by its body, or its path where it has none, with what
came as fields of its own: `x-method`, `x-length`, `x-trailer` (of the request's trailers), and a trailer `x-done`.
"""

import argparse
import asyncio
import os
import sys
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, TrailersReceived, WindowUpdated

H2C_SERVER: Final = (sys.executable, os.path.abspath(__file__), "--port", "{port}")
"""The command of a service of zerogate."""


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self) -> None:
        self.core = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.asked: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.left: dict[int, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.core.initiate_connection()
        self.write()

    def write(self) -> None:
        self.transport.write(self.core.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self.core.receive_data(data):
            if isinstance(event, RequestReceived):
                self.asked[event.stream_id] = dict(event.headers)  # type: ignore[arg-type]
                self.bodies[event.stream_id] = b""
            elif isinstance(event, DataReceived):
                self.bodies[event.stream_id] += event.data
                self.core.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, TrailersReceived):
                self.asked[event.stream_id].update(event.headers)  # type: ignore[arg-type]
            elif isinstance(event, StreamEnded):
                self.answer(event.stream_id)
            elif isinstance(event, WindowUpdated):
                for stream in list(self.left):
                    self.go_on(stream)
        self.write()

    def answer(self, stream: int) -> None:
        asked, body = self.asked.pop(stream), self.bodies.pop(stream)
        fields = [
            (":status", "200"), ("x-method", asked[":method"]), ("x-length", str(len(body))),
            ("x-trailer", asked.get("x-trailer", "-")),
        ]  # fmt: skip
        self.core.send_headers(stream, fields)
        self.left[stream] = body or asked[":path"].encode()
        self.go_on(stream)

    def go_on(self, stream: int) -> None:
        """Send what the window allows, and the end behind it."""
        while body := self.left[stream]:
            room = min(self.core.local_flow_control_window(stream), self.core.max_outbound_frame_size)
            if room <= 0:
                return
            self.core.send_data(stream, body[:room])
            self.left[stream] = body[room:]
        del self.left[stream]
        self.core.send_headers(stream, [("x-done", "1")], end_stream=True)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", parser.parse_args().port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
