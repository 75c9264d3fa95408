"""HTTP/2 without sockets: what one unary exchange costs the server's side, in our state machine and in the library
`h2`, on the same bytes: `python -m bench http2`. And what a head of twelve fields costs in the two HPACK coders.

Figures are the best of several runs, because the machine is shared.
"""

import time
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import hpack

from bench.table import Figure, at_most
from zerogate.http.h2 import frames as f
from zerogate.http.h2.connection import Connection
from zerogate.http.h2.hpack import Decoder, Encoder, HpackField
from zerogate.http.h2.limits import Limits
from zerogate.http.h2.streams import Stream

EXCHANGES = 2000
RUNS = 7
US = 1e6

REQUEST = [
    (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/v1/chat/completions"), (b":authority", b"chat:8080"),
    (b"content-type", b"application/json"), (b"accept", b"application/json"), (b"user-agent", b"OpenAI/Python 1.50.0"),
    (b"authorization", b"Bearer sk-0123456789"), (b"x-stainless-lang", b"python"), (b"x-stainless-os", b"Linux"),
    (b"accept-encoding", b"gzip, deflate, br"), (b"content-length", b"512"),
]  # fmt: skip
BODY = b"x" * 512
ANSWER = [(b":status", b"200"), (b"content-type", b"application/json"), (b"content-length", b"1024")]
CONTENT = b"y" * 1024


def best(run: Callable[[], Any], count: int) -> float:
    """Processor seconds of one of `count` in the best of the runs."""
    times = []
    for _ in range(RUNS):
        began_s = time.process_time()
        run()
        times.append(time.process_time() - began_s)
    return min(times) / count


def requests() -> list[bytes]:
    """What a client sends: its beginning, then one read per request."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
    client.initiate_connection()
    client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**20})
    client.increment_flow_control_window(2**30)
    reads = [client.data_to_send()]
    encoder = hpack.Encoder()
    for number in range(EXCHANGES):
        stream = 1 + 2 * number
        head = f.header_frames(stream, encoder.encode(REQUEST), end=False)
        reads.append(head + f.frame(f.DATA, f.END_STREAM, stream, BODY))
    return reads


class _Answering(Stream):
    """Answers as soon as the request is there."""

    __slots__ = ("connection",)
    connection: Connection

    def on_head(self, fields: list[HpackField], ended: bool) -> None:
        self.body_left = int(fields[-1][1])

    def on_end(self, trailers: list[HpackField]) -> None:
        connection = self.connection
        connection.send_head(self, [(name, value, False) for name, value in ANSWER])
        connection.send_data(self, CONTENT)
        connection.send_end(self, [])


class _Owner:
    def on_output(self) -> None: ...
    def on_settings(self) -> None: ...
    def on_pong(self, payload: bytes) -> None: ...
    def on_goaway(self, last_stream: int, code: int, reason: bytes) -> None: ...
    def on_failed(self, error: Exception) -> None:
        raise error


def ours(reads: list[bytes]) -> int:
    """Bytes of the answers."""

    def make(id: int, receive_window: int, send_window: int) -> Stream:  # noqa: A002
        stream = _Answering(id, receive_window=receive_window, send_window=send_window)
        stream.connection = connection
        return stream

    connection = Connection(_Owner(), make, is_server=True, limits=Limits(), now_s=0.0)
    sent = 0
    for data in reads:
        connection.receive(data, 0.0)
        sent += len(connection.take(0.0))
    return sent


def theirs(reads: list[bytes]) -> int:
    """The same with the library."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    connection.initiate_connection()
    sent = 0
    for data in reads:
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                connection.send_headers(event.stream_id, ANSWER)
                connection.send_data(event.stream_id, CONTENT, end_stream=True)
        sent += len(connection.data_to_send())
    return sent


def run() -> list[Figure]:
    """The figures; the goal of ours is a tenth of the library's."""
    reads = requests()
    library = best(lambda: theirs(reads), EXCHANGES) * US
    own = best(lambda: ours(reads), EXCHANGES) * US
    return [
        Figure(name="unary exchange, library h2", value=f"{library:.1f} µs", note="state machine and HPACK, no socket"),
        at_most("unary exchange, ours", own, round(library / 10, 1), "µs", note=f"{library / own:.1f} times less"),
        *_coders(),
    ]


def _coders() -> list[Figure]:
    fields = [(name, value, False) for name, value in REQUEST]
    own, other = Encoder(), hpack.Encoder()
    first, steady = own.encode(fields), own.encode(fields)
    other.encode(REQUEST)
    reader, other_reader = Decoder(65_536), hpack.Decoder()
    reader.decode(first)
    other_reader.decode(first, raw=True)
    turns = range(5000)

    def times(call: Callable[[], Any]) -> float:
        def run() -> None:
            for _ in turns:
                call()

        return best(run, len(turns)) * US

    return [
        _pair(
            "head of 12 fields written again", times(lambda: own.encode(fields)), times(lambda: other.encode(REQUEST))
        ),
        _pair(
            "head of 12 fields read again",
            times(lambda: reader.decode(steady)),
            times(lambda: other_reader.decode(steady, raw=True)),
        ),
        _pair(
            "head of 12 fields written first",
            times(lambda: Encoder().encode(fields)),
            times(lambda: hpack.Encoder().encode(REQUEST)),
        ),
        _pair(
            "head of 12 fields read first",
            times(lambda: Decoder(65_536).decode(first)),
            times(lambda: hpack.Decoder().decode(first, raw=True)),
        ),
    ]


def _pair(name: str, own: float, other: float) -> Figure:
    return Figure(name=name, value=f"{own:.1f} µs", note=f"the library hpack: {other:.1f} µs")
