"""The streams of one HTTP/2 connection: which there are, how each begins and ends, what may still come of it. Pure.

Invariants: at most `Limits.streams` of the peer's at once, and no more of ours than the peer takes; what comes for a
stream that has ended is told apart by how it ended; a stream's window opens again only while its body is not paused.
Between `outgoing`, which sends, and `blocks` and `connection`, which know what frames mean.
"""

from collections.abc import Callable
from typing import Final

from zerogate.http.h2 import frames as f
from zerogate.http.h2.frames import ViolationError
from zerogate.http.h2.hpack import HpackField
from zerogate.http.h2.limits import WORTH, Limits
from zerogate.http.h2.outgoing import Asked, Outgoing
from zerogate.http.h2.streams import (
    CLOSED,
    GET_END,
    HALF_LOCAL,
    HALF_REMOTE,
    RESET,
    SEND_END,
    IllegalTransitionError,
    Stream,
)

REMEMBERED: Final = 256
"""Streams that ended last: two times as many as run at once may still have frames on their way; a client that opens
more remembers more."""

ENDED: Final = 0
RESET_BY_US: Final = 1
RESET_BY_PEER: Final = 2

StreamMaker = Callable[[int, int, int], Stream]
"""`make(id, receive_window, send_window)`"""


class Lifetimes(Outgoing):
    """See the module's text."""

    __slots__ = (
        "_closed", "_is_server", "_last_allowed", "_limits", "_make", "_next_id", "_receive_window", "_remembers",
        "failure", "goaway_sent", "last_stream", "peer_goaway", "peer_initial_window", "peer_streams",
    )  # fmt: skip

    def __init__(self, sink: Asked, make_stream: StreamMaker, *, is_server: bool, limits: Limits, now_s: float) -> None:
        super().__init__(sink, now_s)
        self._make = make_stream
        self._is_server = is_server
        self._limits = limits
        self.last_stream = 0
        """The highest stream of the peer that was taken."""
        self._next_id = 2 if is_server else 1
        self._closed: dict[int, int] = {}
        self._remembers = REMEMBERED
        self.failure: ViolationError | None = None
        """Why the connection cannot go on."""
        self.peer_initial_window = f.DEFAULT_WINDOW
        self.peer_streams: int | None = None
        """Streams that the peer takes at a time; None where it did not say."""
        self.peer_goaway: int | None = None
        """The last stream that the peer will look at; None while it takes new ones."""
        self.goaway_sent = False
        self._last_allowed = f.MAX_WINDOW
        self._receive_window = limits.connection_window_bytes

    # Which there are

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

    def _find(self, stream_id: int, what: str) -> Stream | None:
        """The stream; None where the frame belongs to one that we have reset and is let pass. Raises ViolationError."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            return stream
        cause = self._closed.get(stream_id)
        if cause == RESET_BY_US:
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

    # When there are no more

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

    # What may still come

    def _count_received(self, size: int) -> None:
        """The connection's window is opened again at its half, which is more than a frame: it is never exceeded."""
        self._receive_window -= size
        full = self._limits.connection_window_bytes
        if self._receive_window * 2 < full:
            self._emit(f.window_frame(0, full - self._receive_window))
            self._receive_window = full

    def _count_body(self, stream: Stream, size: int, ended: bool) -> None:
        assert stream.body_left is not None
        stream.body_left -= size
        if stream.body_left < 0 or (ended and stream.body_left):
            raise ViolationError(f.PROTOCOL_ERROR, "DATA does not match content-length (section 8.1.1)", stream.id)

    def pause(self, stream: Stream) -> None:
        """The other side takes nothing of this body: do not open its window."""
        stream.is_paused = True

    def resume(self, stream: Stream) -> None:
        """The other side takes more."""
        if stream.is_paused:
            stream.is_paused = False
            if stream.unreleased_bytes * 2 >= self._limits.stream_window_bytes:
                self._open_window(stream)

    def _open_window(self, stream: Stream) -> None:
        size, stream.unreleased_bytes = stream.unreleased_bytes, 0
        if size and stream.state not in (HALF_REMOTE, CLOSED):
            stream.receive_window += size
            self._emit(f.window_frame(stream.id, size))

    # Ends

    def _end_received(self, stream: Stream) -> None:
        stream.step(GET_END)
        if stream.state == CLOSED:
            self._forget(stream, ENDED)

    def _end_sent(self, stream: Stream) -> None:
        stream.step(SEND_END)
        if stream.state == CLOSED:
            self._forget(stream, ENDED)
        elif stream.is_stopping and not self._is_bounded(stream):
            self.reset(stream, f.NO_ERROR)

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
            self._forget(stream, RESET_BY_US)
            if self.failure is None:
                self._emit(f.reset_frame(stream.id, code))

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

    def _forget(self, stream: Stream, cause: int) -> None:
        stream.queue = None
        stream.queued_bytes = 0
        if stream.counted_bytes:
            stream.count_waiting()
        self._ready.pop(stream.id, None)
        self.streams.pop(stream.id, None)
        self._remember(stream.id, cause)

    def _remember(self, stream_id: int, cause: int) -> None:
        closed = self._closed
        closed[stream_id] = cause
        if len(closed) > self._remembers:
            del closed[next(iter(closed))]
