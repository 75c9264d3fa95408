"""How an exchange ends, and what it gives back then. Pure: `now_s` is an argument.

Served, refused with a reason, abandoned by its client, or cut: each exactly once, by way of `_end`, which gives back
what it kept of its body and tells owner and client. What zerogate says in its own name is said here: a refusal, a
health check, a list of models. After the first byte of an answer nothing can be said any more, and it is cut so that
the client can tell. Subclassed by `zerogate.http.exchange`, by way of `kept_body`; every object of it is an exchange.
"""

from typing import TYPE_CHECKING

from zerogate.counters import Result
from zerogate.errors import Refusal
from zerogate.http.deadlines import Overdue
from zerogate.http.heads import Field, ResponseHead
from zerogate.http.phases import ANSWERING, ENDED, PHASES, TUNNEL, IllegalTransitionError
from zerogate.http.record import Record

if TYPE_CHECKING:
    pass


class Endings(Record):
    """See the module's text."""

    __slots__ = ()

    # In zerogate's own name

    def _check_unanswered(self) -> None:
        if self.phase >= ANSWERING:
            raise IllegalTransitionError(f"an exchange that is {PHASES[self.phase]} has had its answer")

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

    def end_over_limit(self, now_s: float) -> None:
        """Refuse it for its length; an answer that has begun is cut."""
        if self.phase == ANSWERING:
            self.break_off("body_over_limit", now_s)
        elif self.phase < ANSWERING:
            detail = f"The body is longer than {self.terms.body_limit_bytes} bytes, the most that is taken here."
            self.refuse(Refusal(status=413, code="body_over_limit", detail=detail, hopeless=True), now_s)

    def break_off(self, code: str, now_s: float) -> None:
        """Cut its answer, which has begun; `code`: why."""
        self._drop_connection()
        self._cut(code, now_s)

    def withdraw(self) -> None:
        """It turned out to be no request, before anybody was asked to place it: nobody is told."""
        self._to(ENDED)
        if self.chunks is not None:
            self._forget_body()

    # Of a WebSocket

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

    # Of any

    def _bad_gateway(self, cause: str) -> Refusal:
        where = f"A replica of {self.upstream.service}" if self.upstream is not None else "The replica"
        return Refusal(status=502, code="replica_lost", detail=f"{where} broke off before it answered: {cause}.")

    def _time_out(self, timer: Overdue, now_s: float) -> None:
        self._drop_connection()
        if self.phase == ANSWERING:
            self._cut(timer.code, now_s)
        else:
            where = self.upstream.service if self.upstream is not None else "the service"
            detail = f"The request to {where} was ended: {timer.why}."
            self.refuse(Refusal(status=504, code=timer.code, detail=detail), now_s)

    def _cut(self, code: str, now_s: float) -> None:
        self.code = code
        self.downstream.reset()
        self._end(Result.CUT, now_s)

    def _forget_body(self) -> None:
        self.chunks = None
        self.downstream.memory.used_bytes -= self.buffered_bytes
        self.buffered_bytes = 0
        if self.connection is not None and self.connection.is_full:
            self.connection.count_waiting()  # what the replica has not taken of it stays until it does

    def _drop_connection(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()

    def _count_hold(self, now_s: float) -> None:
        if self.held_at_s is not None:
            self.hold_s += now_s - self.held_at_s
            if self.trace is not None:
                self.trace.held(self.held_at_s, now_s)
            self.held_at_s = None

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
            self.owner.on_ended(self, now_s)  # type: ignore[arg-type]
        self.downstream.on_ended(self)  # type: ignore[arg-type]
