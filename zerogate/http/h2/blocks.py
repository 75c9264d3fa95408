"""Field blocks of one HTTP/2 connection: heads and trailers, put together from their frames and decoded. Pure.

A block is one HEADERS and any number of CONTINUATION, with nothing between them. Invariants: every block is decoded,
whatever becomes of its stream, because the tables of both sides must stay the same; one that does not end is bounded in
frames, bytes and time (`block_since_s`; the owner's timer).
Between `lifetimes`, which knows the streams, and `connection`, which knows what all other frames mean.
"""

from zerogate.http.h2 import frames as f
from zerogate.http.h2.frames import ViolationError
from zerogate.http.h2.hpack import Decoder, HpackField
from zerogate.http.h2.lifetimes import Lifetimes, StreamMaker
from zerogate.http.h2.limits import Limits
from zerogate.http.h2.outgoing import Asked
from zerogate.http.h2.streams import GET_HEADERS, NEXT, Stream


class Blocks(Lifetimes):
    """See the module's text."""

    __slots__ = (
        "_block", "_block_bytes", "_block_count", "_block_flags", "_block_stream", "_decoder", "block_since_s",
    )  # fmt: skip

    def __init__(self, sink: Asked, make_stream: StreamMaker, *, is_server: bool, limits: Limits, now_s: float) -> None:
        super().__init__(sink, make_stream, is_server=is_server, limits=limits, now_s=now_s)
        self._decoder = Decoder(limits.head_bytes)
        self._block: list[bytes] = []
        self._block_stream = 0
        self._block_flags = 0
        self._block_bytes = 0
        self._block_count = 0
        self.block_since_s: float | None = None
        """Since when a field block is incomplete."""

    def _spend_noise(self) -> None:
        if not self._noise.spend(self.now_s):
            raise ViolationError(f.ENHANCE_YOUR_CALM, "too many frames that bring nothing (section 10.5)")

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = f.without_padding(payload) if flags & f.PADDED else payload
        if flags & f.HAS_PRIORITY:
            block = f.without_priority(block)
        if flags & f.END_HEADERS:
            self._on_block(stream_id, bool(flags & f.END_STREAM), block)
            return
        self._block_stream = stream_id
        self._block_flags = flags
        self._block = [block]
        self._block_bytes = len(block)
        self._block_count = 0
        self.block_since_s = self.now_s

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != self._block_stream:
            raise ViolationError(f.PROTOCOL_ERROR, "CONTINUATION without its HEADERS (section 6.10)")
        self._block_count += 1
        self._block_bytes += len(payload)
        if self._block_count > self._limits.continuations or self._block_bytes > self._limits.head_bytes:
            raise ViolationError(f.ENHANCE_YOUR_CALM, "a field block without end (section 10.5.1)")
        self._block.append(payload)
        if flags & f.END_HEADERS:
            block, self._block = b"".join(self._block), []
            self._block_stream = self._block_bytes = 0
            self.block_since_s = None
            self._on_block(stream_id, bool(self._block_flags & f.END_STREAM), block)

    def _on_block(self, stream_id: int, ended: bool, block: bytes) -> None:
        # decoded whatever becomes of it: both tables must stay the same
        fields = self._decoder.decode(block)
        stream = self.streams.get(stream_id)
        if stream is None:
            if not self._is_server or self._is_ours(stream_id) or not self._is_idle(stream_id):
                self._on_late_head(stream_id)
                return
            stream = self._accept(stream_id)
        elif NEXT[stream.state][GET_HEADERS] is None:
            raise ViolationError(f.STREAM_CLOSED, "HEADERS after the end of the stream (section 5.1)", stream_id)
        if stream.has_head:
            self._on_trailers(stream, fields, ended)
            return
        if not self._is_server and _is_informational(fields):
            if ended:
                raise ViolationError(f.PROTOCOL_ERROR, "an interim answer with an end (section 8.1)", stream_id)
            self._spend_noise()
            stream.on_informational(fields)
            return
        stream.has_head = True
        stream.step(GET_HEADERS)
        if not ended:
            stream.on_head(fields, False)
            return
        self._end_received(stream)
        stream.on_head(fields, True)

    def _on_late_head(self, stream_id: int) -> None:
        """HEADERS of a stream that is not there: let pass, or a violation."""
        if self._is_server and not self._is_ours(stream_id) and stream_id not in self._closed:
            raise ViolationError(f.PROTOCOL_ERROR, "a stream below the last one (section 5.1.1)")
        if self._find(stream_id, "HEADERS") is None:
            self._spend_noise()

    def _on_trailers(self, stream: Stream, fields: list[HpackField], ended: bool) -> None:
        if not ended:
            raise ViolationError(f.PROTOCOL_ERROR, "trailers without the end of the stream (section 8.1)", stream.id)
        if stream.body_left:
            raise ViolationError(f.PROTOCOL_ERROR, "DATA does not match content-length (section 8.1.1)", stream.id)
        self._end_received(stream)
        stream.on_end(fields)


def _is_informational(fields: list[HpackField]) -> bool:
    return bool(fields) and fields[0][0] == b":status" and fields[0][1][:1] == b"1"
