"""Recorders for both sides of an exchange: what it asks of them is written down, line by line."""

from typing import Any

from zerogate.errors import Refusal
from zerogate.gate import Gate
from zerogate.http.exchange import Exchange
from zerogate.http.heads import Field, RequestHead, ResponseHead
from zerogate.http.memory import BufferMemory
from zerogate.http.parse_heads import parse_request, parse_response
from zerogate.http.sides import PLAIN, RequestTerms
from zerogate.http.tunnel import Tunnel


def request(method: str = "GET", *, body: int | None = None, chunked: bool = False, **fields: str) -> RequestHead:
    """A request head; `body` is its Content-Length."""
    all_fields = [(b"Host", b"chat")]
    if body is not None:
        all_fields.append((b"Content-Length", b"%d" % body))
    if chunked:
        all_fields.append((b"Transfer-Encoding", b"chunked"))
    all_fields += [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return parse_request(method.encode(), b"/v1/x", "1.1", all_fields, keep_alive=True)


def response(status: int = 200, *, length: int | None = None) -> ResponseHead:
    """A response head; without a length it is chunked."""
    framing = (b"Transfer-Encoding", b"chunked") if length is None else (b"Content-Length", b"%d" % length)
    return parse_response(status, b"OK", "1.1", [framing], keep_alive=True)


class Sides:
    """Downstream, upstream connection, pool, upstream and owner in one recorder: `said` is the dialogue."""

    def __init__(self, *, connected: bool = True, terms: RequestTerms | None = None) -> None:
        self.said: list[str] = []
        self.terms = terms or RequestTerms(connect_s=5, first_byte_s=60, idle_s=30)
        self.memory = BufferMemory()
        self.visit_s = float("inf")
        self.connected = connected
        self.service = "chat"
        self.id = "chat-1"
        self.start_s = 2.5
        self.gate = Gate(limit=0, release_limit=8)
        self.rests_until_s = 0.0
        self.pool = self
        self.may_turn_away = False
        self.peer = b"192.0.2.1"
        self.arrival = PLAIN
        self.http_version = "1.1"

    def take(self, exchange: Exchange, now_s: float) -> Any:
        self.said.append("pool: take")
        return Connection(self.said) if self.connected else None

    # Downstream
    def send_informational(self, status: int, reason: bytes, lines: bytes) -> None:
        self.said.append(f"client: {status}")

    def send_head(self, head: ResponseHead, *, extra: bytes, has_body: bool) -> None:
        self.said.append(f"client: {head.status}{' +body' if has_body else ''} {extra.decode().strip()}".rstrip())

    def send_data(self, data: bytes) -> None:
        self.said.append(f"client: data {data.decode()}")

    takes_chunks = False

    def send_chunks(self, chunks: bytes) -> None:
        self.said.append(f"client: chunks {chunks.decode()!r}")

    def send_end(self, trailers: list[Field]) -> None:
        self.said.append("client: end")

    def send_whole(self, head: ResponseHead, body: bytes, extra: bytes) -> None:
        self.said.append(f"client: {head.status} {body.decode()} {extra.decode().strip()}".rstrip())

    def flush(self) -> None:
        pass

    def send_refusal(self, refusal: Refusal, *, extra: bytes) -> None:
        self.said.append(f"client: refused {refusal.status} {refusal.code} {extra.decode().strip()}".rstrip())

    def send_answer(self, status: int, headers: tuple[Field, ...], body: bytes) -> None:
        self.said.append(f"client: answered {status}")

    def reset(self) -> None:
        self.said.append("client: reset")

    @property
    def tunnel_side(self) -> "Sides":
        return self

    def send_switch(self, head: ResponseHead, tunnel: Tunnel, *, extra: bytes) -> None:
        self.said.append(f"client: {head.status} {extra.decode().strip()}".rstrip())

    def send_frames(self, data: bytes) -> None:
        self.said.append(f"client: {data.hex()}")

    def end_tunnel(self, *, lingers: bool) -> None:
        self.said.append("client: finish, lingering" if lingers else "client: finish")

    def pause_body(self) -> None:
        self.said.append("client: pause")

    def resume_body(self) -> None:
        self.said.append("client: resume")

    def watch(self, deadline_s: float) -> None:
        self.visit_s = deadline_s

    # Owner
    def on_unsent(self, exchange: Exchange, cause: str, now_s: float) -> None:
        self.said.append(f"owner: unsent ({cause})")

    def on_turned_away(self, exchange: Exchange, now_s: float) -> None:
        self.said.append("owner: turned away")

    def on_hold_timeout(self, exchange: Exchange, now_s: float) -> None:
        self.said.append("owner: hold timeout")

    def on_tunnel(self, exchange: Exchange, now_s: float) -> None:
        self.said.append("owner: a tunnel")

    def on_quiet(self, exchange: Exchange, now_s: float) -> None:
        self.said.append("owner: quiet")

    def on_roused(self, exchange: Exchange, now_s: float) -> None:
        self.said.append("owner: roused")

    def on_ended(self, exchange: Exchange, now_s: float | None = None) -> None:
        if now_s is not None:
            self.said.append(f"owner: {exchange.result} {exchange.code}".rstrip())

    def hear(self) -> list[str]:
        """What was said since the last call."""
        said, self.said[:] = list(self.said), []
        return said


class Connection:
    """The recorder's connection to the replica."""

    may_refuse = False
    is_full = False

    def __init__(self, said: list[str]) -> None:
        self.said = said

    def send_head(self, exchange: Exchange) -> None:
        self.said.append(f"replica: {exchange.head.method.decode()}")

    def send_data(self, data: bytes) -> None:
        self.said.append(f"replica: data {data.decode()}" if data.isascii() else f"replica: {data.hex()}")

    def send_end(self, trailers: list[Field]) -> None:
        self.said.append("replica: end")

    def send_whole(self, exchange: Exchange, body: bytes) -> None:
        self.send_head(exchange)
        self.send_data(body)
        self.send_end([])

    def count_waiting(self) -> None: ...

    def pause(self) -> None:
        self.said.append("replica: pause")

    def resume(self) -> None:
        self.said.append("replica: resume")

    def finish(self) -> None:
        self.said.append("replica: finish")

    def abort(self) -> None:
        self.said.append("replica: abort")


def exchange_of(sides: Any, head: RequestHead | None = None, now_s: float = 0.0) -> Exchange:
    """An exchange between the sides, given to their owner."""
    exchange = Exchange(sides, head or request(), now_s)
    exchange.give_to(sides)
    return exchange


def dispatched(sides: Any, exchange: Exchange, now_s: float = 1.0) -> Exchange:
    """The same, sent to a replica, and what was said of that forgotten."""
    exchange.dispatch(sides, now_s)
    sides.hear()
    return exchange
