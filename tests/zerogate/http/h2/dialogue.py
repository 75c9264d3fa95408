"""One connection of HTTP/2 without a socket: frames in, and what it says to its streams, its owner and its peer.

What was said reads as lines: `stream 1: head GET /` to a stream, `owner: settings` to the owner, `> HEADERS 1 end
:status=200` to the peer.
"""

from hpack import Decoder, Encoder

from zerogate.http.h2 import frames as f
from zerogate.http.h2.connection import Connection
from zerogate.http.h2.frames import ViolationError
from zerogate.http.h2.hpack import HpackField
from zerogate.http.h2.limits import Limits
from zerogate.http.h2.streams import Stream

GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"chat")]
POST = [(b":method", b"POST"), *GET[1:]]
OK = [(b":status", b"200", False)]


class HeardStream(Stream):
    """Writes down what it is told."""

    __slots__ = ("said",)

    def __init__(self, said: list[str], id: int, receive_window: int, send_window: int) -> None:  # noqa: A002
        super().__init__(id, receive_window=receive_window, send_window=send_window)
        self.said = said

    def _say(self, what: str) -> None:
        self.said.append(f"stream {self.id}: {what}")

    def on_head(self, fields: list[HpackField], ended: bool) -> None:
        named = {name: value for name, value, _ in fields}
        if named.get(b"content-length", b"").isdigit():
            self.body_left = int(named[b"content-length"])
        first = " ".join(value.decode() for name, value, _ in fields if name in (b":method", b":path", b":status"))
        self._say(f"head {first}{' end' if ended else ''}")

    def on_informational(self, fields: list[HpackField]) -> None:
        self._say(f"informational {fields[0][1].decode()}")

    def on_data(self, data: bytes) -> None:
        self._say(f"data {len(data)}")

    def on_end(self, trailers: list[HpackField]) -> None:
        self._say(" ".join(["end", *(f"{name.decode()}={value.decode()}" for name, value, _ in trailers)]))

    def on_reset(self, code: int, reason: str, *, by_peer: bool) -> None:
        self._say(f"{'reset by the peer' if by_peer else 'reset'} {f.error_name(code)}")

    def count_waiting(self) -> None:
        self.counted_bytes = self.queued_bytes

    def on_writable(self, writable: bool) -> None:
        self._say("writable" if writable else "not writable")


class Talk:
    """A connection and its peer's scripted side."""

    def __init__(self, *, is_server: bool = True, limits: Limits | None = None, greet: bool = True) -> None:
        self.said: list[str] = []
        self.now_s = 1000.0
        self.connection = Connection(
            self, self._make, is_server=is_server, limits=limits or Limits(), now_s=self.now_s
        )  # fmt: skip
        self.encoder = Encoder()
        self.decoder = Decoder()
        self._rest = b""
        if greet:
            self.send((f.PREFACE if is_server else b"") + f.settings_frame({}))
            self.send(f.frame(f.SETTINGS, f.ACK, 0))
            self.said.clear()

    def _make(self, id: int, receive_window: int, send_window: int) -> Stream:  # noqa: A002
        return HeardStream(self.said, id, receive_window, send_window)

    # The owner

    def on_output(self) -> None:
        self.said.append("owner: output")

    def on_settings(self) -> None:
        self.said.append("owner: settings")

    def on_goaway(self, last_stream: int, code: int, reason: bytes) -> None:
        self.said.append(f"owner: goaway {last_stream} {f.error_name(code)}")

    def on_pong(self, payload: bytes) -> None:
        self.said.append(f"owner: pong {payload.decode()}")

    def on_failed(self, error: ViolationError) -> None:
        self.said.append(f"owner: failed {f.error_name(error.code)}")

    # The peer

    def send(self, data: bytes) -> None:
        """Bytes of the peer; what is to be written goes out at once."""
        self.connection.receive(data, self.now_s)
        self.flush()

    def headers(self, stream: int, fields: list[tuple[bytes, bytes]], *, end: bool = True) -> None:
        """A head of the peer."""
        self.send(f.header_frames(stream, self.encoder.encode(fields), end=end))

    def data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        self.send(f.frame(f.DATA, f.END_STREAM if end else 0, stream, data))

    def stream(self, stream: int) -> Stream:
        return self.connection.streams[stream]

    def flush(self) -> None:
        """Write what there is, as frames."""
        while self.connection.has_output:
            self._rest += self.connection.take(self.now_s)
        self._rest = self._rest.removeprefix(f.PREFACE)
        while len(self._rest) >= f.HEADER_BYTES:
            word, flags, stream = f.HEADER.unpack_from(self._rest)
            end = f.HEADER_BYTES + (word >> 8)
            self._hear(word & 0xFF, flags, stream, self._rest[f.HEADER_BYTES : end])
            self._rest = self._rest[end:]

    def _hear(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        words = [">", f.RULES[kind].name]
        if stream:
            words.append(str(stream))
        if kind in (f.SETTINGS, f.PING) and flags & f.ACK:
            words.append("ack")
        elif kind == f.HEADERS:
            words += [f"{name.decode()}={value.decode()}" for name, value in self.decoder.decode(payload, raw=True)]
        elif kind == f.DATA:
            words.append(str(len(payload)))
        elif kind == f.RST_STREAM:
            words.append(f.error_name(f.WORD.unpack(payload)[0]))
        elif kind == f.WINDOW_UPDATE:
            words.append(str(f.WORD.unpack(payload)[0]))
        elif kind == f.GOAWAY:
            last, code, _ = f.read_goaway(payload)
            words += [str(last), f.error_name(code)]
        if kind in (f.DATA, f.HEADERS) and flags & f.END_STREAM:
            words.append("end")
        self.said.append(" ".join(words))

    def hear(self) -> list[str]:
        """What was said since the last call."""
        said, self.said[:] = list(self.said), []
        return said
