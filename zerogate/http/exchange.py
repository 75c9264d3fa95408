"""One request and its answer: the state machine between a client and a replica. Pure: `now_s` is an argument.

An exchange is made when a request head has been read and ends exactly once, as one of `Result`. Events come in as
method calls (from the downstream connection, the upstream connection, the pool and the timer sweep); what is to be
done goes out as calls on the `Downstream`, the `UpstreamConnection` and the `Owner` that it was given. It never waits,
so nothing it does can be interleaved with anything else. Its phases, and which may follow which, stand in `phases`.

The request's body is independent of them: chunks are kept while there is nowhere to send them (up to a mark, then the
client is not read any more), are passed on as they come afterwards, and stay a little longer where they may have to be
sent again.
"""

from collections.abc import Callable
from typing import Any, Final

from zerogate.counters import Result
from zerogate.errors import Refusal
from zerogate.http.deadlines import NO_CONNECTION, Overdue, exceeded, running
from zerogate.http.heads import Field, RequestHead, ResponseHead, has_no_body
from zerogate.http.heartbeat import HeldStream, asks_for_stream
from zerogate.http.phases import (
    ANSWERING,
    CONNECTING,
    ENDED,
    HELD,
    NEXT,
    PHASES,
    ROUTING,
    SENT,
    TUNNEL,
    IllegalTransitionError,
)
from zerogate.http.sides import DEFAULT_TERMS, BodyReader, Destination, Downstream, Owner, UpstreamConnection
from zerogate.http.trace import Trace
from zerogate.http.tunnel import Tunnel

NEVER: Final = float("inf")

BUFFER_BYTES: Final = 64 * 1024
"""Body kept while there is nowhere to send it, before the client is paused; uvloop's own high-water mark."""
REPLAY_BYTES: Final = 64 * 1024
"""Body kept after it was sent, where the request may be sent again."""
REFUSABLE_BYTES: Final = 16 * 1024 * 1024
"""The same until a sidecar has let it in, which takes a round trip."""

_NO_TRAILERS: Final[list[Field]] = []
"""Never changed: an exchange gets another list with the end of its request."""


class Exchange:
    """See the module's text. Attributes are for reading; only methods change them."""

    __slots__ = (
        "attempts",
        "avoids",
        "beat_at_s",
        "buffered_bytes",
        "bytes_in",
        "bytes_out",
        "chunks",
        "code",
        "connection",
        "deadline_s",
        "dispatched_s",
        "downstream",
        "ended_s",
        "first_byte_s",
        "head",
        "held_at_s",
        "hold_s",
        "is_cold",
        "is_request_done",
        "is_stalled",
        "keep_bytes",
        "last_byte_s",
        "owner",
        "phase",
        "reader",
        "received_s",
        "replay_bytes",
        "result",
        "status",
        "terms",
        "ticket",
        "trace",
        "trailers",
        "tunnel",
        "upstream",
    )  # fmt: skip

    def __init__(self, downstream: "Downstream[Exchange]", head: RequestHead, now_s: float) -> None:
        self.downstream: Downstream[Exchange] = downstream
        self.head = head
        self.received_s = now_s
        self.phase = ROUTING
        self.owner: Owner[Exchange] | None = None
        self.terms = DEFAULT_TERMS
        self.upstream: Destination[Exchange] | None = None
        self.connection: UpstreamConnection[Exchange] | None = None
        self.reader: BodyReader | None = None
        self.ticket: Any = None
        """The holder's own; not looked at here."""
        self.chunks: list[bytes] | None = None
        self.buffered_bytes = 0
        self.keep_bytes = BUFFER_BYTES
        self.replay_bytes = 0
        """How much of the body is kept after it was sent."""
        self.is_request_done = not head.has_body
        self.trailers = _NO_TRAILERS
        self.attempts = 0
        self.avoids: Destination[Exchange] | None = None
        """Where its last attempt failed; for whoever has a choice."""
        self.deadline_s = 0.0
        self.held_at_s: float | None = None
        self.hold_s = 0.0
        self.beat_at_s = NEVER
        """When a held client gets its next sign of life."""
        self.is_cold = False
        """It met a service without a ready replica."""
        self.dispatched_s = 0.0
        self.first_byte_s: float | None = None
        self.last_byte_s = now_s
        self.is_stalled = False
        """The client does not take more at the moment."""
        self.bytes_in = 0
        self.bytes_out = 0
        self.status = 0
        self.result: Result | None = None
        self.code = ""
        """The code of the refusal, or why it was cut."""
        self.tunnel: Tunnel | None = None
        """Set with the 101; what the connections hear goes straight to it."""
        self.trace: Trace | None = None
        """Set before it is placed, where it is traced."""

    def _to(self, phase: int) -> None:
        if phase not in NEXT[self.phase]:
            raise IllegalTransitionError(f"an exchange cannot go from {PHASES[self.phase]} to {PHASES[phase]}")
        self.phase = phase

    def _check_unanswered(self) -> None:
        if self.phase >= ANSWERING:
            raise IllegalTransitionError(f"an exchange that is {PHASES[self.phase]} has had its answer")

    # What an owner does with it

    def give_to(self, owner: "Owner[Exchange]") -> None:
        """From now on `owner` places it and is told of its end."""
        self.owner = owner
        self.terms = owner.terms

    def hold(self, ticket: object, *, deadline_s: float, now_s: float, keep_bytes: int = BUFFER_BYTES) -> None:
        """Wait for capacity until `deadline_s`, and keep so much of the body meanwhile."""
        self._to(HELD)
        if self.head.timeout_s is not None:
            deadline_s = min(deadline_s, self.received_s + self.head.timeout_s)
        self.keep_bytes = keep_bytes
        self.ticket = ticket
        self.held_at_s = now_s
        self.deadline_s = deadline_s
        beat_s = self.terms.heartbeat_s
        if beat_s is not None:
            self.beat_at_s = now_s + beat_s
            deadline_s = min(deadline_s, self.beat_at_s)
        self.downstream.watch(deadline_s)

    def dispatch(self, upstream: "Destination[Exchange]", now_s: float) -> None:
        """Send it to a replica in which the owner has taken a slot."""
        if self.held_at_s is not None:
            self._count_hold(now_s)
        if self.phase >= ANSWERING:
            self._to(CONNECTING)
        self.phase = CONNECTING
        self.upstream = upstream
        self.dispatched_s = now_s
        self.attempts += 1
        connection = upstream.pool.take(self, now_s)
        if connection is not None:
            self.on_connection(connection, now_s)
        else:
            self._run_until(now_s + self.terms.connect_s)

    def refuse(self, refusal: Refusal, now_s: float) -> None:
        """Answer in zerogate's own name that it is not served; before any byte of an answer only."""
        self._check_unanswered()
        self.code = refusal.code
        self.status = refusal.status
        self._drop_connection()
        if self.held_at_s is not None:
            self._count_hold(now_s)
        self.downstream.send_refusal(refusal, extra=self.timing())
        self._end(Result.REFUSED, now_s)

    def answer(self, status: int, headers: tuple[Field, ...], body: bytes, now_s: float) -> None:
        """Answer in zerogate's own name: a list of models, a health check."""
        self._check_unanswered()
        self.status = status
        self.downstream.send_answer(status, headers, body)
        self._end(Result.SERVED, now_s)

    def answer_grpc(self, body: bytes, now_s: float) -> None:
        """Answer in zerogate's own name as a service of gRPC does: 200, and the status of gRPC behind the body."""
        self._check_unanswered()
        self.status = 200
        head = ResponseHead(
            status=200, reason=b"OK", lines=b"Content-Type: application/grpc\r\n", content_length=None, chunked=True,
            keep_alive=True, field_count=1,
        )  # fmt: skip
        self.downstream.send_head(head, extra=b"", has_body=True)
        self.downstream.send_data(body)
        self.downstream.send_end([(b"grpc-status", b"0")])
        self._end(Result.SERVED, now_s)

    @property
    def is_over_limit(self) -> bool:
        """Whether its body is, or says that it will be, longer than its owner takes."""
        limit_bytes = self.terms.body_limit_bytes
        return self.bytes_in > limit_bytes or (self.head.content_length or 0) > limit_bytes

    def end_over_limit(self, now_s: float) -> None:
        """Refuse it for its length; an answer that has begun is cut."""
        if self.phase == ANSWERING:
            self._drop_connection()
            self._cut("body_over_limit", now_s)
        elif self.phase < ANSWERING:
            detail = f"The body is longer than {self.terms.body_limit_bytes} bytes, the most that is taken here."
            self.refuse(Refusal(status=413, code="body_over_limit", detail=detail, hopeless=True), now_s)

    def read_body(self, reader: BodyReader, now_s: float) -> None:
        """Hand `reader` what came of the body and what comes, until `stop_reading`; everything is kept meanwhile."""
        self.reader = reader
        if self.head.expects_continue and not self.bytes_in:
            self.downstream.send_informational(100, b"Continue", b"")
        for chunk in tuple(self.chunks or ()):
            if self.reader is not None:
                reader.on_chunk(chunk, now_s)
        if self.reader is not None:
            if self.is_request_done:
                reader.on_end(now_s)
            else:
                self.downstream.resume_body()

    def stop_reading(self) -> None:
        """The reader knows enough."""
        self.reader = None

    # What the client's side tells

    def on_request_data(self, data: bytes, now_s: float) -> None:
        """A piece of the request's body."""
        size = len(data)
        self.bytes_in += size
        self.last_byte_s = now_s
        if self.bytes_in > self.terms.body_limit_bytes:
            self.end_over_limit(now_s)
            return
        if self.phase == SENT or self.phase == ANSWERING:
            if self.connection is not None:
                self.connection.send_data(data)
            if self.chunks is not None:
                self._keep(data, size)
                if self.buffered_bytes > self.replay_bytes or self.downstream.memory.is_full:
                    self._forget_body()
            return
        if self.phase == ENDED:
            return
        if self.chunks is None:
            self.chunks = []
        self._keep(data, size)
        if self.reader is not None:
            self.reader.on_chunk(data, now_s)
        elif self.buffered_bytes >= self.keep_bytes or self.downstream.memory.is_full:
            self.downstream.pause_body()

    def _keep(self, data: bytes, size: int) -> None:
        if self.chunks is not None:
            self.chunks.append(data)
        self.buffered_bytes += size
        self.downstream.memory.used_bytes += size

    def on_request_end(self, trailers: list[Field], now_s: float) -> None:
        """The request's last byte has come."""
        self.is_request_done = True
        self.trailers = trailers
        if self.phase == SENT:
            if self.head.has_body and self.connection is not None:
                self.deadline_s = now_s + self.terms.first_byte_s
                self.connection.send_end(trailers)
        elif self.phase == ANSWERING:
            if self.connection is not None:
                self.connection.send_end(trailers)
        elif self.reader is not None:
            self.reader.on_end(now_s)

    def on_downstream_gone(self, now_s: float) -> None:
        """The client is not there any more."""
        if self.phase == ENDED:
            return
        if self.phase == TUNNEL and self.tunnel is not None:
            self.tunnel.on_client_lost(now_s)
            return
        self._drop_connection()
        self._end(Result.ABANDONED, now_s)

    def on_downstream_writable(self, writable: bool, now_s: float) -> None:
        """Whether the client takes more."""
        self.is_stalled = not writable
        self.last_byte_s = now_s
        if self.connection is not None:
            if writable:
                self.connection.resume()
                if self.phase == SENT:
                    self._run_until(now_s + self.terms.first_byte_s)  # what was sent meanwhile was not read
            else:
                self.connection.pause()

    # What the replica's side tells

    def on_connection(self, connection: "UpstreamConnection[Exchange]", now_s: float) -> None:
        """The pool has a connection. The phase is CONNECTING: the pool asks `wants_connection` first."""
        if self.phase != CONNECTING:
            self._to(SENT)
        self.phase = SENT
        self.connection = connection
        self.last_byte_s = now_s
        self._run_until(now_s + self.terms.first_byte_s)
        head, chunks = self.head, self.chunks
        if not head.has_body:
            connection.send_head(self)
        elif self.is_request_done and chunks is not None and len(chunks) == 1 and not head.chunked:
            connection.send_whole(self, chunks[0])
            self._keep_for_again(connection)
        else:
            connection.send_head(self)
            self._watch_silence(now_s)
            self._send_body(connection)
        if self.is_stalled and self.connection is connection:
            connection.pause()  # its client stopped taking while there was nobody to pause

    def _send_body(self, connection: "UpstreamConnection[Exchange]") -> None:
        """Send what has come of the body, and let the client send the rest."""
        if self.head.expects_continue and not self.bytes_in:
            self.downstream.send_informational(100, b"Continue", b"")
        for chunk in self.chunks or ():
            connection.send_data(chunk)
        self._keep_for_again(connection)
        if self.is_request_done:
            connection.send_end(self.trailers)
        else:
            self.downstream.resume_body()

    def _keep_for_again(self, connection: "UpstreamConnection[Exchange]") -> None:
        """Keep what was sent of the body where it may have to be sent again."""
        if self.upstream is not None and self.upstream.pool.may_turn_away:
            self.replay_bytes = REFUSABLE_BYTES
        else:
            self.replay_bytes = REPLAY_BYTES if self._may_repeat or connection.may_refuse else 0
        if self.buffered_bytes > self.replay_bytes or not self.replay_bytes:
            self._forget_body()
        elif self.chunks is None:
            self.chunks = []

    @property
    def wants_connection(self) -> bool:
        """Whether a connection that was asked for is still wanted."""
        return self.phase == CONNECTING

    def on_connect_failed(self, cause: str, now_s: float) -> None:
        """No connection to the replica could be made: nothing was sent."""
        if self.phase == CONNECTING:
            self._unsent(cause, now_s)

    def _unsent(self, cause: str, now_s: float) -> None:
        self.connection = None
        if self.trace is not None:
            self.trace.unsent(self, cause, now_s)
        if self.owner is not None:
            self.owner.on_unsent(self, cause, now_s)

    def on_upstream_writable(self, writable: bool) -> None:
        """Whether the replica takes more of the request's body."""
        if writable:
            self.downstream.resume_body()
        elif not self.is_request_done:
            self.downstream.pause_body()

    def on_informational(self, status: int, reason: bytes, lines: bytes) -> None:
        """A 1xx answer that is passed on; 100 is our own to give, and from a sidecar says that it was let in."""
        if status == 100:
            self.replay_bytes = REPLAY_BYTES if self._may_repeat else 0
            if self.buffered_bytes > self.replay_bytes:
                self._forget_body()
        elif not self.head.http_1_0:
            self.downstream.send_informational(status, reason, lines)

    def on_response_head(self, head: ResponseHead, now_s: float, *, is_whole: bool = False) -> bool:
        """The answer begins; `is_whole`: and is known to have no body. Returns whether a body follows."""
        if self.phase != SENT:
            self._to(ANSWERING)
        self.phase = ANSWERING
        if self.chunks is not None:
            self._forget_body()
        self.status = head.status
        self.first_byte_s = self.last_byte_s = now_s
        if not is_whole:
            self._watch_silence(now_s)
        has_body = not is_whole and not has_no_body(head.status, self.head.method)
        self.downstream.send_head(head, extra=self.timing() if self.ticket is not None else b"", has_body=has_body)
        return has_body

    def on_response_data(self, data: bytes, now_s: float) -> None:
        """A piece of the answer."""
        self.last_byte_s = now_s
        self.bytes_out += len(data)
        self.downstream.send_data(data)

    def on_response_end(self, trailers: list[Field], now_s: float) -> None:
        """The answer is complete; the connection was already given back or closed by its own side."""
        self.connection = None
        self.downstream.send_end(trailers)
        self._end(Result.SERVED, now_s)

    def on_response(self, head: ResponseHead, body: bytes, now_s: float) -> None:
        """The whole of a short answer: `on_response_head`, `on_response_data` and `on_response_end` in one.

        Fewer calls than the three: 1.2 µs of the 6 that a warm request took.
        """
        if self.phase != SENT:
            self._to(ANSWERING)
        self.phase = ANSWERING
        if self.chunks is not None:
            self._forget_body()
        self.connection = None
        self.status = head.status
        self.first_byte_s = self.last_byte_s = now_s
        self.bytes_out = len(body)
        self.downstream.send_whole(head, body, extra=self.timing() if self.ticket is not None else b"")
        self._end(Result.SERVED, now_s)

    @property
    def _may_repeat(self) -> bool:
        """Whether it may be sent again although it may have arrived."""
        return self.head.is_idempotent or self.terms.retries_stale

    def on_turned_away(self, now_s: float) -> None:
        """The sidecar had no place for it: the replica saw nothing of it."""
        self.connection = None
        if self.trace is not None:
            self.trace.unsent(self, "the sidecar had no place for it", now_s)
        if self.head.has_body and self.chunks is None:
            detail = "The replica that this request was for had no place for it, and its body is too long to be kept."
            self.refuse(Refusal(status=503, code="replica_full", detail=detail, retry_after_s=1.0), now_s)
        elif self.owner is not None:
            self.owner.on_turned_away(self, now_s)

    def on_refused(self, cause: str, now_s: float) -> None:
        """The replica says that it did nothing about the request: it may be sent again, whatever its method."""
        self.on_upstream_lost(cause, now_s, was_refused=self.phase == SENT)

    def on_upstream_lost(
        self, cause: str, now_s: float, *, was_refused: bool = False, is_final: bool = False
    ) -> None:  # fmt: skip
        """The replica's connection broke, or what it said has no meaning; `is_final`: it would say the same again."""
        self.connection = None
        if self.phase == SENT:
            may_repeat = was_refused or (not is_final and self._may_repeat)
            if may_repeat and (not self.head.has_body or self.chunks is not None):
                self._unsent(cause, now_s)
            else:
                self.refuse(self._bad_gateway(cause), now_s)
        elif self.phase == ANSWERING:
            self._cut("replica_lost", now_s)
        elif self.phase == TUNNEL and self.tunnel is not None:
            self.tunnel.on_replica_lost(now_s)

    # A WebSocket

    def on_switched(self, head: ResponseHead, now_s: float) -> Tunnel:
        """The replica has accepted the WebSocket: its 101 goes out, and frames follow on both sides.

        `head.websocket_key` is set, and the replica's answer to it was found right.
        """
        connection, key = self.connection, self.head.websocket_key
        if self.phase != SENT or connection is None or key is None:
            raise IllegalTransitionError(f"an exchange that is {PHASES[self.phase]} cannot become a tunnel")
        self.phase = TUNNEL
        if self.chunks is not None:
            self._forget_body()
        self.is_request_done = False
        self.status = head.status
        self.first_byte_s = now_s
        client = self.downstream.tunnel_side
        self.tunnel = tunnel = Tunnel(
            self, key, now_s, write_to_client=client.send_frames, write_to_replica=connection.send_data
        )
        if self.terms.quiet_s is not None:
            self.downstream.watch(now_s + self.terms.quiet_s)
        if self.owner is not None:
            self.owner.on_tunnel(self, now_s)
        client.send_switch(head, tunnel, extra=self.timing() if self.ticket is not None else b"")
        return tunnel

    def on_bad_switch(self, cause: str, now_s: float) -> None:
        """The replica's 101 is none: it has seen the request, and asking it again would bring the same."""
        where = self.upstream.service if self.upstream is not None else "the service"
        detail = f"A replica of {where} did not open the WebSocket: {cause}."
        self.refuse(Refusal(status=502, code="bad_handshake", detail=detail), now_s)

    def leave_tunnel(self, now_s: float) -> None:
        """Close the WebSocket with 1001, between frames; anything else goes on as it is."""
        if self.phase == TUNNEL and self.tunnel is not None:
            self.tunnel.leave(now_s)

    def end_tunnel(self, result: Result, code: str, now_s: float, *, lingers: bool) -> None:
        """The tunnel is over: what was written is sent to both sides, then their connections are closed.

        `lingers`: the client may be sending still.
        """
        if self.phase != TUNNEL:
            return
        self.code = code
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.finish()
        self.downstream.tunnel_side.end_tunnel(lingers=lingers)
        self._end(result, now_s)
        self.tunnel = None  # each holds the other, and memory should not wait for the collector

    def _bad_gateway(self, cause: str) -> Refusal:
        where = f"A replica of {self.upstream.service}" if self.upstream is not None else "The replica"
        return Refusal(status=502, code="replica_lost", detail=f"{where} broke off before it answered: {cause}.")

    # Time

    def due(self, now_s: float) -> float | None:
        """Fire the timer that is due, if one is; returns the next deadline."""
        phase = self.phase
        if phase == HELD:
            if now_s < self.deadline_s:
                if now_s >= self.beat_at_s:
                    self._beat(now_s)
                return min(self.deadline_s, self.beat_at_s)
            if self.head.timeout_s is not None and now_s >= self.received_s + self.head.timeout_s:
                self._time_out(exceeded(self.head.timeout_s), now_s)
            elif self.owner is not None:
                self.owner.on_hold_timeout(self, now_s)
            return None
        if phase in (CONNECTING, SENT, ANSWERING):
            found = running(self, now_s)
            if not isinstance(found, Overdue):
                return found
            if found.code == NO_CONNECTION:
                self._unsent(found.why, now_s)
            else:
                self._time_out(found, now_s)
            return None
        if phase == TUNNEL and self.tunnel is not None:
            return self.tunnel.due(now_s)
        if phase == ROUTING:
            deadline_s = self.last_byte_s + DEFAULT_TERMS.idle_s
            if now_s < deadline_s:
                return deadline_s
            detail = f"No byte of the request's body came for {DEFAULT_TERMS.idle_s:g} s."
            self.refuse(Refusal(status=408, code="body_timeout", detail=detail), now_s)
        return None

    def _beat(self, now_s: float) -> None:
        """Send the client a sign of life, if a stream of events is what it waits for."""
        stream = self.downstream
        if not isinstance(stream, HeldStream):
            if not self.is_request_done:
                self.beat_at_s = now_s + (self.terms.heartbeat_s or NEVER)
                return
            if not asks_for_stream(self.head, self.chunks):
                self.beat_at_s = NEVER
                return
            stream = self.downstream = HeldStream(stream, self.head)
        stream.beat()
        self.beat_at_s = now_s + (self.terms.heartbeat_s or NEVER)

    @property
    def left_s(self) -> float | None:
        """What is left of the time that a client of gRPC allows, at the last byte; None where it sets no deadline."""
        timeout_s = self.head.timeout_s
        return None if timeout_s is None else self.received_s + timeout_s - self.last_byte_s

    def _time_out(self, timer: Overdue, now_s: float) -> None:
        self._drop_connection()
        if self.phase == ANSWERING:
            self._cut(timer.code, now_s)
        else:
            where = self.upstream.service if self.upstream is not None else "the service"
            detail = f"The request to {where} was ended: {timer.why}."
            self.refuse(Refusal(status=504, code=timer.code, detail=detail), now_s)

    def _run_until(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        total_s = self.terms.total_s
        if total_s is not None and self.dispatched_s + total_s < deadline_s:
            deadline_s = self.dispatched_s + total_s
        timeout_s = self.head.timeout_s
        if timeout_s is not None and self.received_s + timeout_s < deadline_s:
            deadline_s = self.received_s + timeout_s
        if deadline_s < self.downstream.visit_s:
            self.downstream.watch(deadline_s)

    def _watch_silence(self, now_s: float) -> None:
        """From now on silence counts: be seen when it has lasted too long, which may be before the present visit."""
        deadline_s = now_s + self.terms.idle_s
        if deadline_s < self.downstream.visit_s:
            self.downstream.watch(deadline_s)

    # The end

    def timing(self) -> bytes:
        """The Server-Timing line of a request that waited, or nothing."""
        if not self.hold_s:
            return b""
        start_s = self.upstream.start_s if self.is_cold and self.upstream is not None else None
        start = b", start;dur=%.1f" % (start_s * 1000) if start_s is not None else b""
        return b"Server-Timing: hold;dur=%.1f%b\r\n" % (self.hold_s * 1000, start)

    def held_so_far_s(self, now_s: float) -> float:
        """Seconds that it has been held, in all: what `Server-Timing` says in the end."""
        return self.hold_s + (now_s - self.held_at_s if self.held_at_s is not None else 0.0)

    def _count_hold(self, now_s: float) -> None:
        if self.held_at_s is not None:
            self.hold_s += now_s - self.held_at_s
            if self.trace is not None:
                self.trace.held(self.held_at_s, now_s)
            self.held_at_s = None

    def _cut(self, code: str, now_s: float) -> None:
        self.code = code
        self.downstream.reset()
        self._end(Result.CUT, now_s)

    def _forget_body(self) -> None:
        self.chunks = None
        self.downstream.memory.used_bytes -= self.buffered_bytes
        self.buffered_bytes = 0

    def _drop_connection(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()

    def _end(self, result: Result, now_s: float) -> None:
        if self.phase == ENDED:
            self._to(ENDED)
        self.phase = ENDED
        self.result = result
        self.ended_s = now_s
        self.reader = None
        if self.chunks is not None:
            self._forget_body()
        if self.held_at_s is not None:
            self._count_hold(now_s)
        if self.owner is not None:
            self.owner.on_ended(self, now_s)
        self.downstream.on_ended(self)


Placer = Callable[[Exchange, float], None]
"""What a server does with a new exchange: `place(exchange, now_s)`."""
