"""The state of one HTTP/2 connection, for both roles. Pure: bytes in, calls on streams, bytes out.

Here is what the peer's frames mean; the half that sends is `outgoing`. Invariants:
- What the peer sends is counted against its windows; a stream's window opens again only while its body is not paused.
- Everything that a peer can send without end is bounded (`limits`); whoever exceeds a bound gets GOAWAY.
- After `receive` found a violation of the connection, nothing is read or sent any more but the last GOAWAY.

`server` and the replicas' side own the transport: they call `receive`, and write `take` whenever `on_output` asked.
"""

from collections.abc import Callable
from typing import Final, Protocol

from zerogate.http.h2 import frames as f
from zerogate.http.h2.frames import ViolationError
from zerogate.http.h2.hpack import Decoder, HpackField
from zerogate.http.h2.limits import RESETS, WORTH, Budget, Limits
from zerogate.http.h2.outgoing import Asked, Outgoing
from zerogate.http.h2.streams import (
    CLOSED,
    GET_DATA,
    GET_END,
    GET_HEADERS,
    HALF_LOCAL,
    HALF_REMOTE,
    NEXT,
    RESET,
    SEND_END,
    IllegalTransitionError,
    Stream,
)

REMEMBERED: Final = 256
"""Streams that ended last: two times as many as run at once may still have frames on their way; a client that opens
more remembers more."""

_ENDED: Final = 0
_RESET_BY_US: Final = 1
_RESET_BY_PEER: Final = 2

StreamMaker = Callable[[int, int, int], Stream]
"""`make(id, receive_window, send_window)`"""


class Sink(Asked, Protocol):
    """What a connection tells its owner besides what it tells its streams."""

    def on_settings(self) -> None:
        """The peer's settings have changed."""

    def on_goaway(self, last_stream: int, code: int, reason: bytes) -> None:
        """The peer takes no new streams. Those beyond `last_stream` were reset with REFUSED_STREAM before."""

    def on_pong(self, payload: bytes) -> None:
        """A PING of ours came back."""

    def on_failed(self, error: ViolationError) -> None:
        """The connection cannot go on: write what is left to `take`, and close. The streams are told by `close`."""


class Connection(Outgoing):
    """See the module's text."""

    __slots__ = (
        "_block", "_block_bytes", "_block_count", "_block_flags", "_block_stream", "_closed", "_decoder",
        "_expects_preface", "_handlers", "_is_server", "_last_allowed", "_limits", "_make", "_next_id",
        "_receive_window", "_remembers", "_resets", "_rest", "block_since_s", "failure", "goaway_sent",
        "has_settings", "last_stream", "peer_connect_protocol", "peer_goaway", "peer_head_bytes",
        "peer_initial_window", "peer_streams",
    )  # fmt: skip

    def __init__(
        self, sink: Sink, make_stream: StreamMaker, *, is_server: bool, limits: Limits, now_s: float,
        settings: dict[int, int] | None = None,
    ) -> None:  # fmt: skip
        """`settings`: announced besides those that follow from `limits`, such as ENABLE_CONNECT_PROTOCOL."""
        super().__init__(sink, now_s)
        self._sink: Sink = sink
        self._make = make_stream
        self._is_server = is_server
        self._limits = limits
        self.last_stream = 0
        """The highest stream of the peer that was taken."""
        self._next_id = 2 if is_server else 1
        self._closed: dict[int, int] = {}
        self._remembers = REMEMBERED
        self.has_settings = False
        """The peer's first SETTINGS have come."""
        self.failure: ViolationError | None = None
        """Why the connection cannot go on."""
        self.peer_initial_window = f.DEFAULT_WINDOW
        self.peer_streams: int | None = None
        """Streams that the peer takes at a time; None where it did not say."""
        self.peer_head_bytes: int | None = None
        self.peer_connect_protocol = False
        """RFC 8441."""
        self.peer_goaway: int | None = None
        """The last stream that the peer will look at; None while it takes new ones."""
        self.goaway_sent = False
        self._last_allowed = f.MAX_WINDOW
        self.block_since_s: float | None = None
        """Since when a field block is incomplete."""
        self._expects_preface = len(f.PREFACE) if is_server else 0
        self._rest = b""
        self._decoder = Decoder(limits.head_bytes)
        self._block: list[bytes] = []
        self._block_stream = 0
        self._block_flags = 0
        self._block_bytes = 0
        self._block_count = 0
        self._receive_window = limits.connection_window_bytes
        self._resets = Budget(*RESETS, now_s)
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            f.DATA: self._on_data,
            f.HEADERS: self._on_headers,
            f.PRIORITY: self._on_priority,
            f.RST_STREAM: self._on_reset,
            f.SETTINGS: self._on_settings,
            f.PUSH_PROMISE: self._on_push,
            f.PING: self._on_ping,
            f.GOAWAY: self._on_goaway,
            f.WINDOW_UPDATE: self._on_window,
            f.CONTINUATION: self._on_continuation,
        }
        self._begin(settings or {})

    def _begin(self, settings: dict[int, int]) -> None:
        limits = self._limits
        announced = {f.MAX_HEADER_LIST_SIZE: limits.head_bytes, **settings}
        if self._is_server:
            announced[f.MAX_CONCURRENT_STREAMS] = limits.streams
        else:
            self._emit(f.PREFACE)
            announced[f.ENABLE_PUSH] = 0
        if limits.stream_window_bytes != f.DEFAULT_WINDOW:
            announced[f.INITIAL_WINDOW_SIZE] = limits.stream_window_bytes
        self._emit(f.settings_frame(announced))
        if limits.connection_window_bytes > f.DEFAULT_WINDOW:
            self._emit(f.window_frame(0, limits.connection_window_bytes - f.DEFAULT_WINDOW))

    # Bytes in

    def receive(self, data: bytes, now_s: float) -> None:
        """Bytes of the peer, cut anywhere. Raises nothing that the peer can cause; see `Sink.on_failed`."""
        self.now_s = now_s
        if self.failure is not None:
            return
        asked, self._asked = self._asked, True
        try:
            self._read(self._rest + data if self._rest else data)
            if self._is_blocked and self._out_bytes > self._limits.output_bytes:
                raise ViolationError(f.ENHANCE_YOUR_CALM, "replies that the peer does not read (section 10.5)")
        except ViolationError as error:
            self._fail(error)
        self._asked = asked
        self._note_idle()

    def _read(self, data: bytes) -> None:
        at = 0
        end = len(data)
        if self._expects_preface:
            at = self._read_preface(data)
        unpack = f.HEADER.unpack_from
        while end - at >= f.HEADER_BYTES:
            word, flags, stream = unpack(data, at)
            length = word >> 8
            if length > f.FRAME_BYTES:
                raise ViolationError(f.FRAME_SIZE_ERROR, f"a frame of {length} bytes (section 4.2)")
            after = at + f.HEADER_BYTES + length
            if after > end:
                break
            self._take_frame(word & 0xFF, flags, stream & f.MAX_WINDOW, data[at + f.HEADER_BYTES : after])
            if self.failure is not None:
                return
            at = after
        self._rest = data[at:] if at < end else b""

    def _read_preface(self, data: bytes) -> int:
        """Where the first frame begins (section 3.4)."""
        taken = min(self._expects_preface, len(data))
        begun = len(f.PREFACE) - self._expects_preface
        if data[:taken] != f.PREFACE[begun : begun + taken]:
            raise ViolationError(f.PROTOCOL_ERROR, "not the preface of HTTP/2 (section 3.4)")
        self._expects_preface -= taken
        return taken

    def _take_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._block_stream and kind != f.CONTINUATION:
            raise ViolationError(f.PROTOCOL_ERROR, "another frame inside a field block (section 6.10)")
        if not self.has_settings and kind != f.SETTINGS:
            raise ViolationError(f.PROTOCOL_ERROR, "the first frame is not SETTINGS (section 3.4)")
        handler = self._handlers.get(kind)
        if handler is None:
            self._spend_noise()
            return
        try:
            f.check(kind, stream, len(payload))
            handler(flags, stream, payload)
        except ViolationError as error:
            if not error.stream:
                raise
            self._reset_for(error)

    def _spend_noise(self) -> None:
        if not self._noise.spend(self.now_s):
            raise ViolationError(f.ENHANCE_YOUR_CALM, "too many frames that bring nothing (section 10.5)")

    def _spend_reset(self) -> None:
        if not self._resets.spend(self.now_s):
            raise ViolationError(f.ENHANCE_YOUR_CALM, "too many streams that were reset (section 10.5)")

    # Frames of streams

    def _find(self, stream_id: int, what: str) -> Stream | None:
        """The stream; None where the frame belongs to one that we have reset and is let pass. Raises ViolationError."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            return stream
        cause = self._closed.get(stream_id)
        if cause == _RESET_BY_US:
            return None
        if cause is None and self._is_idle(stream_id):
            raise ViolationError(f.PROTOCOL_ERROR, f"{what} on a stream that was never opened (section 5.1)")
        raise ViolationError(f.STREAM_CLOSED, f"{what} on a stream that is closed (section 5.1)")

    def _is_idle(self, stream_id: int) -> bool:
        if self._is_ours(stream_id):
            return stream_id >= self._next_id
        return stream_id > self.last_stream

    def _is_ours(self, stream_id: int) -> bool:
        return stream_id % 2 == 0 if self._is_server else stream_id % 2 == 1

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._count_received(size)
        data = f.without_padding(payload) if flags & f.PADDED else payload
        stream = self._find(stream_id, "DATA")
        if stream is None:
            if self._is_server or not size:  # what comes late of an answer is bounded by its window
                self._spend_noise()
            return
        if NEXT[stream.state][GET_DATA] is None:
            raise ViolationError(f.STREAM_CLOSED, "DATA after the end of the stream (section 5.1)", stream_id)
        if not stream.has_head:
            raise ViolationError(f.PROTOCOL_ERROR, "DATA before the head (section 8.1)", stream_id)
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise ViolationError(f.FLOW_CONTROL_ERROR, "DATA beyond the window (section 6.9.1)", stream_id)
        ended = flags & f.END_STREAM
        if not data and not ended:
            self._spend_noise()
        if stream.body_left is not None:
            self._count_body(stream, len(data), bool(ended))
        if data:
            stream.on_data(data)
        if ended:
            if stream.state != CLOSED:
                self._end_received(stream)
                stream.on_end([])
        elif size:
            stream.unreleased_bytes += size
            if not stream.is_paused and stream.unreleased_bytes * 2 >= self._limits.stream_window_bytes:
                self._open_window(stream)

    def _count_body(self, stream: Stream, size: int, ended: bool) -> None:
        assert stream.body_left is not None
        stream.body_left -= size
        if stream.body_left < 0 or (ended and stream.body_left):
            raise ViolationError(f.PROTOCOL_ERROR, "DATA does not match content-length (section 8.1.1)", stream.id)

    def _count_received(self, size: int) -> None:
        self._receive_window -= size
        if self._receive_window < 0:
            raise ViolationError(f.FLOW_CONTROL_ERROR, "DATA beyond the connection's window (section 6.9.1)")
        full = self._limits.connection_window_bytes
        if self._receive_window * 2 < full:
            self._emit(f.window_frame(0, full - self._receive_window))
            self._receive_window = full

    def _open_window(self, stream: Stream) -> None:
        size, stream.unreleased_bytes = stream.unreleased_bytes, 0
        if size and stream.state not in (HALF_REMOTE, CLOSED):
            stream.receive_window += size
            self._emit(f.window_frame(stream.id, size))

    def _end_received(self, stream: Stream) -> None:
        stream.step(GET_END)
        if stream.state == CLOSED:
            self._forget(stream, _ENDED)

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
            self._block_stream = 0
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

    def _accept(self, stream_id: int) -> Stream:
        """A new stream of the peer."""
        self.last_stream = stream_id
        if stream_id > self._last_allowed or len(self.streams) >= self._limits.streams:
            raise ViolationError(f.REFUSED_STREAM, "more streams than were allowed (section 5.1.2)", stream_id)
        stream = self._make(stream_id, self._limits.stream_window_bytes, self.peer_initial_window)
        self.streams[stream_id] = stream
        self.idle_since_s = None
        self._noise.give(WORTH)
        return stream

    def _on_trailers(self, stream: Stream, fields: list[HpackField], ended: bool) -> None:
        if not ended:
            raise ViolationError(f.PROTOCOL_ERROR, "trailers without the end of the stream (section 8.1)", stream.id)
        if stream.body_left:
            raise ViolationError(f.PROTOCOL_ERROR, "DATA does not match content-length (section 8.1.1)", stream.id)
        self._end_received(stream)
        stream.on_end(fields)

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._spend_noise()

    def _on_reset(self, flags: int, stream_id: int, payload: bytes) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id not in self._closed and self._is_idle(stream_id):
                raise ViolationError(f.PROTOCOL_ERROR, "RST_STREAM of a stream that was never opened (section 6.4)")
            self._spend_noise()
            return
        if self._is_server:  # a client's own streams are as many as it opens
            self._spend_reset()
        (code,) = f.WORD.unpack(payload)
        stream.step(RESET)
        self._forget(stream, _RESET_BY_PEER)
        stream.on_reset(code, f"the peer ended the stream ({f.error_name(code)})", by_peer=True)

    def _on_window(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._spend_noise()
        increment = f.WORD.unpack(payload)[0] & f.MAX_WINDOW
        if not increment:
            raise ViolationError(f.PROTOCOL_ERROR, "a window opened by nothing (section 6.9)", stream_id)
        if not stream_id:
            self.send_window += increment
            if self.send_window > f.MAX_WINDOW:
                raise ViolationError(f.FLOW_CONTROL_ERROR, "a window above 2^31-1 (section 6.9.1)")
            self._pump()
            return
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._widen(stream, increment)
            self._pump()
        elif stream_id not in self._closed and self._is_idle(stream_id):
            raise ViolationError(f.PROTOCOL_ERROR, "WINDOW_UPDATE of a stream that was never opened (section 5.1)")

    def _widen(self, stream: Stream, increment: int) -> None:
        stream.send_window += increment
        if stream.send_window > f.MAX_WINDOW:
            raise ViolationError(f.FLOW_CONTROL_ERROR, "a window above 2^31-1 (section 6.9.1)", stream.id)
        if stream.queue and stream.send_window > 0:
            self._ready[stream.id] = stream

    def _on_push(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ViolationError(f.PROTOCOL_ERROR, "PUSH_PROMISE, which is switched off (section 6.6)")

    # Frames of the connection

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._spend_noise()
        if flags & f.ACK:
            if payload:
                raise ViolationError(f.FRAME_SIZE_ERROR, "an acknowledgement with a payload (section 6.5)")
            if not self.has_settings:
                raise ViolationError(f.PROTOCOL_ERROR, "the first frame is an acknowledgement (section 3.4)")
            return
        for key, value in f.read_settings(payload):
            self._set(key, value)
        self.has_settings = True
        self._emit(f.frame(f.SETTINGS, f.ACK, 0))
        self._sink.on_settings()
        self._pump()

    def _set(self, key: int, value: int) -> None:
        if key == f.HEADER_TABLE_SIZE:
            self._encoder.resize(value)
        elif key == f.MAX_CONCURRENT_STREAMS:
            self.peer_streams = value
        elif key == f.MAX_HEADER_LIST_SIZE:
            self.peer_head_bytes = value
        elif key == f.ENABLE_CONNECT_PROTOCOL:
            if self.peer_connect_protocol and not value:
                raise ViolationError(f.PROTOCOL_ERROR, "ENABLE_CONNECT_PROTOCOL taken back (RFC 8441 section 3)")
            self.peer_connect_protocol = bool(value)
        elif key == f.ENABLE_PUSH and value and not self._is_server:
            raise ViolationError(f.PROTOCOL_ERROR, "a server cannot switch on push (section 6.5.2)")
        elif key == f.INITIAL_WINDOW_SIZE:
            change, self.peer_initial_window = value - self.peer_initial_window, value
            for stream in tuple(self.streams.values()):
                if stream.send_window + change > f.MAX_WINDOW:
                    raise ViolationError(f.FLOW_CONTROL_ERROR, "a window above 2^31-1 (section 6.9.2)")
                self._widen(stream, change)

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._spend_noise()
        if flags & f.ACK:
            self._sink.on_pong(payload)
        else:
            self._emit(f.frame(f.PING, f.ACK, 0, payload))

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._spend_noise()
        last, code, reason = f.read_goaway(payload)
        if self.peer_goaway is not None and last > self.peer_goaway:
            raise ViolationError(f.PROTOCOL_ERROR, "GOAWAY with more streams than before (section 6.8)")
        self.peer_goaway = last
        for stream in tuple(self.streams.values()):
            if stream.id > last and self._is_ours(stream.id) and stream.state != CLOSED:
                stream.step(RESET)
                self._forget(stream, _RESET_BY_US)
                stream.on_reset(f.REFUSED_STREAM, "the peer is going away", by_peer=True)
        self._sink.on_goaway(last, code, reason)

    # Ends

    def _reset_for(self, error: ViolationError) -> None:
        """End one stream because of what the peer did."""
        self._spend_reset()
        stream = self.streams.get(error.stream)
        if stream is None and error.stream not in self._closed and self._is_idle(error.stream):
            return  # PRIORITY of a wrong length on an idle stream: RST_STREAM must not be sent for it (section 6.4)
        self._emit(f.reset_frame(error.stream, error.code))
        if stream is None:
            self._remember(error.stream, _RESET_BY_US)
            return
        stream.step(RESET)
        self._forget(stream, _RESET_BY_US)
        stream.on_reset(error.code, error.reason, by_peer=False)

    def _forget(self, stream: Stream, cause: int) -> None:
        stream.state = CLOSED
        stream.queue = None
        stream.queued_bytes = 0
        if not stream.is_writable:
            stream.on_over()
        self._ready.pop(stream.id, None)
        self.streams.pop(stream.id, None)
        self._remember(stream.id, cause)

    def _remember(self, stream_id: int, cause: int) -> None:
        closed = self._closed
        closed[stream_id] = cause
        if len(closed) > self._remembers:
            del closed[next(iter(closed))]

    def _fail(self, error: ViolationError) -> None:
        self.failure = error
        self._rest = b""
        self._block = []
        self._emit(f.goaway_frame(self.last_stream, error.code, error.reason.encode()))
        self._sink.on_failed(error)

    def close(self, reason: str) -> None:
        """The transport is gone: tell every stream that it is over."""
        if self.failure is None:
            self.failure = ViolationError(f.CONNECT_ERROR, reason)
        for stream in tuple(self.streams.values()):
            if stream.state != CLOSED:
                stream.step(RESET)
                self._forget(stream, _RESET_BY_PEER)
                stream.on_reset(f.CONNECT_ERROR, reason, by_peer=True)

    def fail(self, code: int, reason: str) -> None:
        """Say GOAWAY with an error and take nothing more; the owner closes."""
        if self.failure is None:
            self._fail(ViolationError(code, reason))

    def begin_goaway(self) -> None:
        """Announce that we leave: what is on its way is still taken, until `finish_goaway` (section 6.8)."""
        if not self.goaway_sent:
            self.goaway_sent = True
            self._emit(f.goaway_frame(f.MAX_WINDOW, f.NO_ERROR))

    def finish_goaway(self) -> None:
        """No further stream is taken."""
        self.goaway_sent = True
        if self._last_allowed == f.MAX_WINDOW:
            self._last_allowed = self.last_stream
            self._emit(f.goaway_frame(self.last_stream, f.NO_ERROR))

    @property
    def has_left(self) -> bool:
        """Whether the peer was told of the last stream that is taken."""
        return self._last_allowed != f.MAX_WINDOW

    def reap(self, now_s: float) -> None:
        """Reset streams that wait for nothing but the peer since `Limits.stalled_s`: for a window for the rest of our
        message, or for the rest of a message that nobody reads."""
        self.now_s = now_s
        for stream in tuple(self.streams.values()):
            is_stalled = stream.is_ending if stream.queue else stream.is_stopping and stream.state == HALF_LOCAL
            if not is_stalled:
                continue
            if stream.stalled_since_s is None:
                stream.stalled_since_s = now_s
            elif now_s - stream.stalled_since_s >= self._limits.stalled_s:
                self.reset(stream, f.CANCEL if stream.queue else f.NO_ERROR)

    # What the streams' owners ask for

    @property
    def can_open(self) -> bool:
        """Whether one more stream of ours may be opened now."""
        return (
            self.failure is None
            and self.peer_goaway is None
            and not self.goaway_sent
            and (self.peer_streams is None or len(self.streams) < self.peer_streams)
            and self._next_id <= f.MAX_WINDOW
        )

    def open(self, fields: list[HpackField], *, end: bool) -> Stream:
        """Send a request's head on a new stream; `end`: it has no body. Raises IllegalTransitionError."""
        if not self.can_open:
            raise IllegalTransitionError("the connection takes no further stream")
        stream = self._make(self._next_id, self._limits.stream_window_bytes, self.peer_initial_window)
        self._next_id += 2
        self.streams[stream.id] = stream
        self._remembers = max(self._remembers, 2 * len(self.streams))
        self.idle_since_s = None
        self._noise.give(WORTH)
        self.send_head(stream, fields, end=end)
        return stream

    def stop(self, stream: Stream) -> None:
        """What the peer may still send of its message is of no use: end the stream once ours has been sent (8.1).

        A bounded rest is let come and dropped, up to `reap`: many a client takes the reset that would spare it for a
        failure, or waits for a window before it reads what it was told.
        """
        stream.is_stopping = True
        if self._is_bounded(stream):
            self.resume(stream)
            return
        stream.is_paused = True
        if stream.state == HALF_LOCAL:
            self.reset(stream, f.NO_ERROR)

    def _is_bounded(self, stream: Stream) -> bool:
        """Whether the rest of the peer's message is announced and no more than what may be read for nothing."""
        return stream.body_left is not None and stream.body_left <= self._limits.dropped_bytes

    def reset(self, stream: Stream, code: int) -> None:
        """End a stream at once. Nothing is told; of a stream that is closed nothing happens."""
        if stream.state != CLOSED:
            stream.step(RESET)
            self._forget(stream, _RESET_BY_US)
            if self.failure is None:
                self._emit(f.reset_frame(stream.id, code))

    def pause(self, stream: Stream) -> None:
        """The other side takes nothing of this body: do not open its window."""
        stream.is_paused = True

    def resume(self, stream: Stream) -> None:
        """The other side takes more."""
        if stream.is_paused:
            stream.is_paused = False
            if stream.unreleased_bytes * 2 >= self._limits.stream_window_bytes:
                self._open_window(stream)

    def ping(self, payload: bytes) -> None:
        """Ask for an `on_pong`; eight bytes."""
        self._emit(f.frame(f.PING, 0, 0, payload))

    def _end_sent(self, stream: Stream) -> None:
        stream.step(SEND_END)
        if stream.state == CLOSED:
            self._forget(stream, _ENDED)
        elif stream.is_stopping and not self._is_bounded(stream):
            self.reset(stream, f.NO_ERROR)


def _is_informational(fields: list[HpackField]) -> bool:
    return bool(fields) and fields[0][0] == b":status" and fields[0][1][:1] == b"1"
