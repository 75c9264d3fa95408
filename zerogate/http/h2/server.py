"""The client's side of HTTP/2: one connection on its transport; its streams are `server_stream`'s.

The state is `connection.Connection`'s; here are the transport, the clock, the sweep and the exchanges. Whatever a turn
of the loop brings is written at its end, in one piece. A connection comes to be here by ALPN, or because its first
bytes are the preface of HTTP/2 (`take_over`).
"""

import asyncio
from typing import Any, Final

from zerogate.clock import now
from zerogate.errors import Refusal
from zerogate.http.h1 import peer
from zerogate.http.h1.linger import Linger
from zerogate.http.h1.peer import address
from zerogate.http.h2 import frames as f
from zerogate.http.h2.connection import Connection
from zerogate.http.h2.frames import ViolationError
from zerogate.http.h2.limits import Limits
from zerogate.http.h2.outgoing import HIGH_BYTES
from zerogate.http.h2.server_stream import ServerStream
from zerogate.http.h2.streams import Stream
from zerogate.http.server import HEAD_TIMEOUT_S, KEEP_ALIVE_S, Server
from zerogate.http.server import Connection as AnyConnection
from zerogate.http.sides import PLAIN, Arrival
from zerogate.http.sweep import NEVER

LIMITS: Final = Limits()
LOOK_S: Final = 15.0
"""How often a connection with streams is looked at: for answers that nobody takes, heads that do not end."""
GOAWAY_S: Final = 1.0
"""Between the two words of leaving: a round trip, for the requests that were on their way."""
PATIENCE_S: Final = 10.0
"""How long the word of leaving waits for an instant without a stream: clients by the Python library `h2`, httpx among
them, take nothing after a GOAWAY and fail all streams that still run. Those that never rest (gRPC) need it to move."""
_ONE_TOO_MANY: Final = "too many connections"
_NO_ROOM: Final = "no memory for a head that does not come in one piece"
"""Said where nothing else runs: a head of HTTP/2 cannot be let go of without its connection."""


class ServerConnection(asyncio.Protocol):
    """See the module's text."""

    __slots__ = (
        "_begun_bytes", "_counted_bytes", "_is_blocked", "_is_closing", "_leave_s", "_linger", "_loop", "_transport",
        "arrival", "core", "peer", "server", "tick", "visit_s",
    )  # fmt: skip

    def __init__(self, server: Server, *, arrival: Arrival = PLAIN, peer: bytes = b"", limits: Limits = LIMITS) -> None:
        """`peer`: the client's address where it is not the transport's."""
        self.server = server
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self.arrival = arrival
        self.peer = peer
        """The client's address, as text."""
        self._is_blocked = False
        self._counted_bytes = 0
        """What was written and the client has not taken, of all streams together, as far as it counts."""
        self._begun_bytes = 0
        """What has come of a frame or a head that is not whole, as far as it counts."""
        self._is_closing = False
        self._linger: Linger | None = None
        self._leave_s: float | None = None
        """When the client is told of the last stream that is taken, acknowledged or not."""
        self.tick = 0
        self.visit_s = NEVER
        self.core = Connection(
            self, self._stream, is_server=True, limits=limits, now_s=now(), settings={f.ENABLE_CONNECT_PROTOCOL: 1}
        )

    def _stream(self, id: int, receive_window: int, send_window: int) -> Stream:  # noqa: A002
        return ServerStream(self, id, receive_window, send_window)

    # The transport

    def connection_made(self, transport: Any) -> None:
        self.peer = self.peer or address(transport)
        self._begin(transport)
        if self.server.enter(self, self.peer) is not None or self.server.judge(self) is not None:
            self.core.fail(f.ENHANCE_YOUR_CALM, _ONE_TOO_MANY)
        self._flush()

    def take_over(self, old: AnyConnection, transport: Any, data: bytes) -> None:
        """Go on with a connection that `old` has begun to read: `data` is all that came."""
        transport.set_protocol(self)
        self.server.replace(old, self)
        self._begin(transport)
        if self.server.judge(self) is not None:
            self.core.fail(f.ENHANCE_YOUR_CALM, _ONE_TOO_MANY)
            self._flush()
            return
        self.data_received(data)

    def _begin(self, transport: Any) -> None:
        self._transport = transport
        self.server.sweep.watch(self, now() + HEAD_TIMEOUT_S)
        if self.server.is_draining:
            self.core.finish_goaway()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        self._is_blocked = False
        self.server.leave(self, self.peer)
        self._count_waiting()
        self._count_begun(0)
        self.server.sweep.forget(self)
        self.core.close("the connection was closed")

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            if self._linger is not None:
                self._linger.take(len(data))
            return
        core = self.core
        core.receive(data, now())
        if core.begun_bytes or self._begun_bytes:
            self._count_begun(core.begun_bytes)
            if self.server.memory.is_out_of_heads and not core.streams:
                core.fail(f.ENHANCE_YOUR_CALM, _NO_ROOM)
                self._count_begun(0)
        self._flush()

    def _count_begun(self, size: int) -> None:
        self._begun_bytes = self.server.memory.recount_head(self._begun_bytes, size)

    def pause_writing(self) -> None:
        self._is_blocked = True
        self.core.block()
        self._count_waiting()

    def resume_writing(self) -> None:
        self._is_blocked = False
        self._count_waiting()
        self.core.unblock()
        self._flush()

    def _count_waiting(self) -> None:
        """What the transport has, and what is to be written; the streams' queues count by themselves."""
        size = self._transport.get_write_buffer_size() + self.core.look_back() if self._is_blocked else 0
        self._counted_bytes = self.server.memory.recount_answer(self._counted_bytes, size)

    def _flush(self) -> None:
        core = self.core
        now_s = now()
        while core.has_output and not self._is_blocked and not self._is_closing:
            self._transport.write(core.take(now_s))
        if self._is_blocked:
            self._count_waiting()  # heads and resets, which no window holds back
        if self._leave_s is not None and not core.goaway_sent and not core.streams:
            self._leave(now_s)
            self.server.sweep.watch(self, self._leave_s)
            return  # asked for again by the word that was given
        if core.failure is not None or (core.has_left and not core.streams):
            self._close(now_s)

    def _close(self, now_s: float) -> None:
        """The last word is written: let the client read it."""
        if self._is_closing:
            return
        last_word = self.core.take(now_s)
        if last_word:
            self._transport.write(last_word)
        self.core.close("the connection could not go on")
        self._is_closing = True
        self._linger = Linger(self._transport, now_s)
        self.server.sweep.watch(self, self._linger.until_s)

    def watch_line(self) -> None:
        """One of the streams may be silent for hours."""
        peer.watch_line(self._transport)

    # What the core tells

    def on_output(self) -> None:
        self._loop.call_soon(self._flush)

    def on_settings(self) -> None:
        """Nothing here depends on them."""

    def on_pong(self, payload: bytes) -> None:
        """What it was for is the core's."""

    def on_goaway(self, last_stream: int, code: int, reason: bytes) -> None:
        """The client opens no further stream: close once those that run have ended."""
        self.core.finish_goaway()

    def on_failed(self, error: ViolationError) -> None:
        self.server.bad_requests += 1
        self._loop.call_soon(self._flush)

    # Idling, leaving

    def abort(self) -> None:
        """Cut whatever is on its way."""
        self._is_closing = True
        self._transport.abort()

    def turn_away(self, refusal: Refusal) -> None:
        """What was to be said was said as soon as it came."""
        self.abort()

    def squeeze(self, is_short: bool) -> None:
        """Let less, or as much as usual, of each answer wait."""
        self.core.high_bytes = 0 if is_short else HIGH_BYTES
        self._transport.set_write_buffer_limits(high=0 if is_short else None)

    def close_if_idle(self) -> None:
        """Tell the client that we leave; its streams are answered, and the connection is closed after the last."""
        for stream in tuple(self.core.streams.values()):
            if isinstance(stream, ServerStream):
                stream.leave_tunnel()
        self.let_go()

    def let_go(self) -> None:
        """The same for what has an end of its own: WebSockets stay."""
        if self._leave_s is None and not self._is_closing:
            self._leave_s = now() + PATIENCE_S
            self._leave(now())
            self.server.sweep.watch(self, self._next_look(now()) or NEVER)

    def _leave(self, now_s: float) -> None:
        """The next step of leaving, where it is time for it."""
        core = self.core
        if self._leave_s is None or core.has_left:
            return
        if core.goaway_sent:
            if now_s >= self._leave_s:
                core.finish_goaway()
        elif not core.streams or now_s >= self._leave_s:
            core.begin_goaway()
            self._leave_s = now_s + GOAWAY_S

    def due(self, now_s: float) -> float | None:
        """The sweep's visit: the connection's own timers."""
        if self._linger is not None:
            return self._linger.due(now_s)
        if self._is_closing:
            return None
        core = self.core
        self._leave(now_s)
        self._check_slow(now_s)
        core.reap(now_s)
        if core.idle_since_s is not None and now_s >= core.idle_since_s + self._patience_s:
            core.finish_goaway()
        self._flush()
        return self._next_look(now_s)

    def _check_slow(self, now_s: float) -> None:
        since_s = self.core.block_since_s
        if since_s is not None and now_s >= since_s + HEAD_TIMEOUT_S:
            self.core.fail(f.ENHANCE_YOUR_CALM, "a field block that did not end in time")

    @property
    def _patience_s(self) -> float:
        return KEEP_ALIVE_S if self.core.has_settings else HEAD_TIMEOUT_S

    def _next_look(self, now_s: float) -> float | None:
        if self._is_closing:
            return self._linger.until_s if self._linger is not None else None
        idle_since_s = self.core.idle_since_s
        next_s = now_s + LOOK_S if idle_since_s is None else idle_since_s + self._patience_s
        if self.core.block_since_s is not None:
            next_s = min(next_s, self.core.block_since_s + HEAD_TIMEOUT_S)
        if self._leave_s is not None and not self.core.has_left:
            next_s = min(next_s, self._leave_s)
        return next_s

    @property
    def buffered_bytes(self) -> int:
        """Bytes of answers that the client has not taken yet."""
        return int(self._transport.get_write_buffer_size()) + self.core.queued_bytes
