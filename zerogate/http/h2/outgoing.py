"""The sending half of an HTTP/2 connection: what is given to streams, cut by windows and turns into bytes. Pure.

Invariants: what the peer's windows and the transport do not allow yet lies in its stream's queue, at most what was
given after `on_writable(False)`; streams with something to send take turns, one frame each; one `take` has no more than
a turn. `Connection` is the other half, and the only one that knows what the end of a stream means.
"""

from abc import ABC, abstractmethod
from collections import deque
from typing import Final, Protocol

from zerogate.http.h2 import frames as f
from zerogate.http.h2.hpack import Encoder, HpackField
from zerogate.http.h2.limits import NOISE, Budget
from zerogate.http.h2.streams import CLOSED, NEXT, SEND_DATA, SEND_END, SEND_HEADERS, IllegalTransitionError, Stream

HIGH_BYTES: Final = 64 * 1024
LOW_BYTES: Final = 16 * 1024
"""Marks of a stream's queue; asyncio's and uvloop's own of a transport."""
TURN_BYTES: Final = 64 * 1024
"""Body per write: more would only move the queue into the transport's buffer."""
DRIBBLE_BYTES: Final = 256
"""A frame cut so small by the peer's window is not counted as work (CVE-2019-9511)."""


class Asked(Protocol):
    """Who writes."""

    def on_output(self) -> None:
        """There is something to `take`; asked once until it is taken. Not called inside of `receive`."""


class Outgoing(ABC):
    """See the module's text."""

    __slots__ = (
        "_asked", "_encoder", "_is_blocked", "_noise", "_out", "_out_bytes", "_ready", "_sink", "_tail_at",
        "_tail_stream", "high_bytes", "idle_since_s", "now_s", "send_window", "streams",
    )  # fmt: skip

    def __init__(self, sink: Asked, now_s: float) -> None:
        self._sink = sink
        self.now_s = now_s
        self.streams: dict[int, Stream] = {}
        """Those that are neither idle nor closed."""
        self.idle_since_s: float | None = now_s
        """Since when there is no stream; None while there is one."""
        self.high_bytes = HIGH_BYTES
        """Of a stream's queue, above which nothing more should be given to it."""
        self.send_window = f.DEFAULT_WINDOW
        self._encoder = Encoder()
        self._noise = Budget(*NOISE, now_s)
        """Spent by what the peer sends, given back by what we send."""
        self._ready: dict[int, Stream] = {}
        """Streams with a queue and a window: they wait for the connection's window, or for the transport."""
        self._is_blocked = False
        self._out: list[bytes | memoryview] = []
        self._out_bytes = 0
        self._asked = True
        """The owner knows that there is something to take; our settings are there from the beginning."""
        self._tail_stream = 0
        """Whose DATA frame was written last and may still be given END_STREAM."""
        self._tail_at = 0

    @abstractmethod
    def _end_sent(self, stream: Stream) -> None:
        """Our end of this stream is written: the other half's."""

    def _note_idle(self) -> None:
        if self.idle_since_s is None and not self.streams:
            self.idle_since_s = self.now_s

    def send_head(self, stream: Stream, fields: list[HpackField], *, end: bool = False) -> None:
        """Send a head, interim or final. Raises IllegalTransitionError."""
        stream.step(SEND_HEADERS)
        self._emit(f.header_frames(stream.id, self._encoder.encode(fields), end=end))
        if end:
            self._end_sent(stream)

    def send_data(self, stream: Stream, data: bytes) -> None:
        """Send a piece of body, or keep it until it may be sent. Raises IllegalTransitionError."""
        size = len(data)
        if not size:
            return
        if stream.is_ending or NEXT[stream.state][SEND_DATA] is None:
            stream.step(SEND_DATA)
            raise IllegalTransitionError(f"stream {stream.id} was given its end already")
        if (
            size <= f.FRAME_BYTES
            and size <= self.send_window
            and size <= stream.send_window
            and not stream.queue
            and not self._is_blocked
            and self._out_bytes < TURN_BYTES
        ):
            self._write(stream, data, size)
            self._noise.give(2)
            return
        if stream.queue is None:
            stream.queue = deque()
        stream.queue.append(data)
        stream.queued_bytes += size
        if stream.send_window > 0:
            self._ready[stream.id] = stream
            self._pump()
        if stream.queued_bytes:
            stream.count_waiting()
            if stream.queued_bytes > self.high_bytes and stream.is_writable:
                stream.is_writable = False
                stream.on_writable(False)

    def send_end(self, stream: Stream, trailers: list[HpackField]) -> None:
        """Our message is complete; the end follows what is queued. Raises IllegalTransitionError."""
        if stream.is_ending or NEXT[stream.state][SEND_END] is None:
            stream.step(SEND_END)
            raise IllegalTransitionError(f"stream {stream.id} was given its end already")
        stream.is_ending = True
        stream.trailers = trailers
        if not stream.queue:
            self._write_end(stream)

    def take(self, now_s: float) -> bytes:
        """What is to be written now. To be called after `receive`, `unblock` and `on_output`, until it is empty, and
        not while the transport is blocked."""
        self.now_s = now_s
        self._note_idle()
        if self._ready:
            self._pump()
        out, self._out = self._out, []
        self._out_bytes = 0
        self._tail_stream = 0
        self._asked = False
        return b"".join(out)

    def block(self) -> None:
        """The transport takes no more: body is kept in the streams."""
        self._is_blocked = True

    def look_back(self) -> int:
        """How much is there to be taken while the transport is blocked; `on_output` tells of what comes from now on."""
        self._asked = False
        return self._out_bytes

    def unblock(self) -> None:
        """The transport takes more."""
        self._is_blocked = False
        self._pump()

    def _emit(self, data: bytes) -> None:
        self._tail_stream = 0
        self._out.append(data)
        self._out_bytes += len(data)
        if not self._asked:
            self._asked = True
            self._sink.on_output()

    def _write(self, stream: Stream, data: bytes | memoryview, size: int) -> None:
        """One DATA frame; the caller has looked at the windows."""
        self.send_window -= size
        stream.send_window -= size
        out = self._out
        self._tail_stream = stream.id
        self._tail_at = len(out)
        out += (f.HEADER.pack(size << 8, 0, stream.id), data)
        self._out_bytes += size + f.HEADER_BYTES
        if not self._asked:
            self._asked = True
            self._sink.on_output()

    def _write_end(self, stream: Stream) -> None:
        if stream.trailers:
            self._emit(f.header_frames(stream.id, self._encoder.encode(stream.trailers), end=True))
        elif self._tail_stream == stream.id:
            word, _, stream_id = f.HEADER.unpack(self._out[self._tail_at])
            self._out[self._tail_at] = f.HEADER.pack(word, f.END_STREAM, stream_id)
        else:
            self._emit(f.frame(f.DATA, f.END_STREAM, stream.id))
        self._end_sent(stream)

    @property
    def has_output(self) -> bool:
        """Whether `take` would give something."""
        return bool(self._out) or bool(self._ready and self.send_window > 0)

    @property
    def queued_bytes(self) -> int:
        """Body that waits for a window or for the transport."""
        return sum(stream.queued_bytes for stream in self.streams.values())

    def _pump(self) -> None:
        """Let the streams that may send take turns, a frame each."""
        ready = self._ready
        while ready and self.send_window > 0 and self._out_bytes < TURN_BYTES and not self._is_blocked:
            stream = ready.pop(next(iter(ready)))
            if stream.send_window <= 0:
                continue  # the peer made it smaller
            self._send_queued(stream)
            if stream.queue and stream.send_window > 0:
                ready[stream.id] = stream

    def _send_queued(self, stream: Stream) -> None:
        """One frame of the queue, and the end behind its last."""
        queue = stream.queue
        assert queue
        data = queue.popleft()
        room = min(self.send_window, stream.send_window, f.FRAME_BYTES)
        if len(data) > room:
            rest = memoryview(data)  # a slice of bytes would copy the rest once per frame
            queue.appendleft(rest[room:])
            data = rest[:room]
        size = len(data)
        self._write(stream, data, size)
        stream.queued_bytes -= size
        stream.stalled_since_s = None
        if size >= DRIBBLE_BYTES or not queue:
            self._noise.give(2)
        if stream.counted_bytes:
            stream.count_waiting()
        if not queue and stream.is_ending:
            self._write_end(stream)
        if stream.queued_bytes <= LOW_BYTES and not stream.is_writable and stream.state != CLOSED:
            stream.is_writable = True
            stream.on_writable(True)
