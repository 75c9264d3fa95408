"""The state of one HTTP/2 connection, for both roles. Pure: bytes in, calls on streams, bytes out.

Here is what the peer's frames mean. Heads, which may come in many frames, are `blocks`; which streams there are is
`lifetimes`, what is sent is `outgoing`. Invariants:
- What the peer sends is counted against its windows.
- Everything that a peer can send without end is bounded (`limits`); whoever exceeds a bound gets GOAWAY.
- After `receive` found a violation of the connection, nothing is read or sent any more but the last GOAWAY.

`server` and the replicas' side own the transport: they call `receive`, and write `take` whenever `on_output` asked.
"""

from collections.abc import Callable
from typing import Protocol

from zerogate.http.h2 import frames as f
from zerogate.http.h2.blocks import Blocks
from zerogate.http.h2.frames import ViolationError
from zerogate.http.h2.lifetimes import RESET_BY_PEER, RESET_BY_US, StreamMaker
from zerogate.http.h2.limits import RESETS, Budget, Limits
from zerogate.http.h2.outgoing import Asked
from zerogate.http.h2.streams import CLOSED, GET_DATA, NEXT, RESET, Stream


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


class Connection(Blocks):
    """See the module's text."""

    __slots__ = (
        "_expects_preface", "_handlers", "_resets", "_rest", "begun_bytes", "has_settings",
        "peer_connect_protocol", "peer_head_bytes",
    )  # fmt: skip

    def __init__(
        self, sink: Sink, make_stream: StreamMaker, *, is_server: bool, limits: Limits, now_s: float,
        settings: dict[int, int] | None = None,
    ) -> None:  # fmt: skip
        """`settings`: announced besides those that follow from `limits`, such as ENABLE_CONNECT_PROTOCOL."""
        super().__init__(sink, make_stream, is_server=is_server, limits=limits, now_s=now_s)
        self._sink: Sink = sink
        self.has_settings = False
        """The peer's first SETTINGS have come."""
        self.peer_head_bytes: int | None = None
        self.peer_connect_protocol = False
        """RFC 8441."""
        self._expects_preface = len(f.PREFACE) if is_server else 0
        self._rest = b""
        self.begun_bytes = 0
        """Of a frame and of a field block that have begun to come and are not whole."""
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
        self.begun_bytes = end - at + self._block_bytes

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

    def _spend_reset(self) -> None:
        if not self._resets.spend(self.now_s):
            raise ViolationError(f.ENHANCE_YOUR_CALM, "too many streams that were reset (section 10.5)")

    # Frames of streams

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
        self._forget(stream, RESET_BY_PEER)
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
                self._forget(stream, RESET_BY_US)
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
            self._remember(error.stream, RESET_BY_US)
            return
        stream.step(RESET)
        self._forget(stream, RESET_BY_US)
        stream.on_reset(error.code, error.reason, by_peer=False)

    def _fail(self, error: ViolationError) -> None:
        self.failure = error
        self._rest = b""
        self._block = []
        self.begun_bytes = 0
        self._emit(f.goaway_frame(self.last_stream, error.code, error.reason.encode()))
        self._sink.on_failed(error)

    def close(self, reason: str) -> None:
        """The transport is gone: tell every stream that it is over."""
        if self.failure is None:
            self.failure = ViolationError(f.CONNECT_ERROR, reason)
        for stream in tuple(self.streams.values()):
            if stream.state != CLOSED:
                stream.step(RESET)
                self._forget(stream, RESET_BY_PEER)
                stream.on_reset(f.CONNECT_ERROR, reason, by_peer=True)

    def fail(self, code: int, reason: str) -> None:
        """Say GOAWAY with an error and take nothing more; the owner closes."""
        if self.failure is None:
            self._fail(ViolationError(code, reason))

    def ping(self, payload: bytes) -> None:
        """Ask for an `on_pong`; eight bytes."""
        self._emit(f.frame(f.PING, 0, 0, payload))
