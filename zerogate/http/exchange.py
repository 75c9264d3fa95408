"""One request and its answer: the state machine between a client and a replica. Pure: `now_s` is an argument.

An exchange is made when a request head has been read and ends exactly once, as one of `Result`. Events come in as
method calls (from the downstream connection, the upstream connection, the pool and the timer sweep); what is to be
done goes out as calls on the `Downstream`, the `UpstreamConnection` and the `Owner` that it was given. It never waits,
so nothing it does can be interleaved with anything else. Its phases, and which may follow which, stand in `phases`.

Here is what leads from phase to phase: what its owner does, what its two sides tell, and time. What is known of a
request is `record`, how it ends `endings`, its body `kept_body`; they are one class in the end, because a call between
them would be one for each request or chunk.
"""

from collections.abc import Callable

from zerogate.counters import ABANDONED, SERVED
from zerogate.errors import Refusal
from zerogate.http.deadlines import NO_CONNECTION, Overdue, exceeded, running
from zerogate.http.heads import Field, ResponseHead, has_no_body
from zerogate.http.heartbeat import HeldStream, asks_for_stream
from zerogate.http.kept_body import REPLAY_BYTES, KeptBody
from zerogate.http.phases import (
    ANSWERING,
    CONNECTING,
    ENDED,
    HELD,
    PHASES,
    ROUTING,
    SENT,
    TUNNEL,
    IllegalTransitionError,
)
from zerogate.http.record import BUFFER_BYTES, NEVER
from zerogate.http.sides import DEFAULT_TERMS, Destination, Owner, RequestTerms, UpstreamConnection
from zerogate.http.tunnel import Tunnel


class Exchange(KeptBody):
    """See the module's text. Attributes are for reading; only methods change them."""

    __slots__ = ()

    # What an owner does with it

    def give_to(self, owner: "Owner[Exchange]", terms: RequestTerms | None = None) -> None:
        """From now on `owner` places it and is told of its end; `terms`: other than its usual ones."""
        self.owner = owner
        self.terms = owner.terms if terms is None else terms

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

    # What the client's side tells

    def on_downstream_gone(self, now_s: float) -> None:
        """The client is not there any more."""
        if self.phase == ENDED:
            return
        if self.phase == TUNNEL and self.tunnel is not None:
            self.tunnel.on_client_lost(now_s)
            return
        self._drop_connection()
        self._end(ABANDONED, now_s)

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

    def on_response_chunks(self, chunks: bytes, size: int, now_s: float) -> None:
        """Whole chunks of the answer, for a client that takes them; `size`: bytes of the body in them."""
        self.last_byte_s = now_s
        self.bytes_out += size
        self.downstream.send_chunks(chunks)

    def on_response_end(self, trailers: list[Field], now_s: float) -> None:
        """The answer is complete; the connection was already given back or closed by its own side."""
        self.connection = None
        self.downstream.send_end(trailers)
        self._end(SERVED, now_s)

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
        self.downstream.send_whole(head, body, self.timing() if self.ticket is not None else b"")
        self._end(SERVED, now_s)

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
        self._to(TUNNEL)
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


Placer = Callable[[Exchange, float], None]
"""What a server does with a new exchange: `place(exchange, now_s)`."""
