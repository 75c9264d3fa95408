"""What an exchange has on its sides: a client, a replica's connection, an owner. Interfaces and their values only.

`zerogate.http.exchange` is written against these; `server` and `client` of `zerogate.http.h1` and `h2` are the ends,
`activator.hold` and `queueproxy.slots` are owners, the recorders in the tests are all of them.
"""

import sys
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from zerogate.errors import Refusal
from zerogate.gate import Gate
from zerogate.http.heads import Field, ResponseHead
from zerogate.http.memory import BufferMemory

if TYPE_CHECKING:
    from zerogate.http.tunnel import Tunnel

ExchangeT = TypeVar("ExchangeT", contravariant=True)


class RequestTerms(msgspec.Struct, frozen=True, kw_only=True):
    """On which terms a request is served: its timers in seconds, of which `total` runs from dispatch, the most of its
    body, and what else its owner decides about it once for all. How long it is held is for its owner alone."""

    connect_s: float = 5.0
    first_byte_s: float = 600.0
    idle_s: float = 300.0
    total_s: float | None = None
    heartbeat_s: float | None = None
    """How often a held request for a stream of events is sent a comment; None: never."""
    retries_stale: bool = False
    """Send non-idempotent requests again too when their connection broke before a byte of the answer."""
    quiet_s: float | None = None
    """A WebSocket without a data frame for so long is told to the owner as quiet; None: it counts as busy for ever."""
    body_limit_bytes: int = sys.maxsize
    """Most bytes of a request's body."""
    grace_s: float = 0.0
    """Time beyond the deadline of a client of gRPC, where somebody in front keeps it too and is to be the first."""


DEFAULT_TERMS: Final = RequestTerms()


class Timeouts(Protocol):
    """The timers as users set them, in seconds: a policy's, or a sidecar's."""

    @property
    def connect_timeout_s(self) -> float: ...
    @property
    def first_byte_timeout_s(self) -> float: ...
    @property
    def idle_stream_timeout_s(self) -> float: ...
    @property
    def total_timeout_s(self) -> float | None: ...


def with_timeouts(terms: RequestTerms, timeouts: Timeouts) -> RequestTerms:
    """The same terms with these timers."""
    return replace(
        terms,
        connect_s=timeouts.connect_timeout_s,
        first_byte_s=timeouts.first_byte_timeout_s,
        idle_s=timeouts.idle_stream_timeout_s,
        total_s=timeouts.total_timeout_s,
    )


def behind(terms: RequestTerms, grace_s: float) -> RequestTerms:
    """The same for requests of somebody who keeps the same timers and is to be the first to end them."""
    return replace(
        terms,
        first_byte_s=terms.first_byte_s + grace_s,
        idle_s=terms.idle_s + grace_s,
        total_s=terms.total_s + grace_s if terms.total_s is not None else None,
        grace_s=grace_s,
    )


class Arrival(msgspec.Struct, frozen=True):
    """How a client's connection came in, as replicas are told. `identity`: the header line of its verified certificate,
    with its end of line, or nothing."""

    scheme: bytes
    identity: bytes = b""


PLAIN: Final = Arrival(b"http")
SECURE: Final = Arrival(b"https")


class Downstream(Protocol[ExchangeT]):
    """The client's side of an exchange: one HTTP/1.1 connection, or one stream of a later version."""

    @property
    def memory(self) -> BufferMemory: ...
    @property
    def visit_s(self) -> float:
        """When `exchange.due` will be called at the latest."""

    @property
    def peer(self) -> bytes:
        """The client's address, as text."""

    @property
    def arrival(self) -> Arrival:
        """How its connection came in."""

    @property
    def http_version(self) -> str:
        """What is spoken with it, as traces call it: 1.1 (for 1.0 too), 2."""

    def send_informational(self, status: int, reason: bytes, lines: bytes) -> None: ...
    def send_head(self, head: ResponseHead, *, extra: bytes, has_body: bool) -> None: ...
    def send_data(self, data: bytes) -> None: ...
    @property
    def takes_chunks(self) -> bool:
        """Whether the answer whose head was sent goes out in chunks of HTTP/1.1."""

    def send_chunks(self, chunks: bytes) -> None:
        """Write some, framed as they are; for one that takes them, and after `flush`."""

    def send_end(self, trailers: list[Field]) -> None: ...
    def send_whole(self, head: ResponseHead, body: bytes, extra: bytes) -> None:
        """`send_head`, `send_data` and `send_end` for an answer with a length whose body is all there."""

    def flush(self) -> None:
        """Write what `send_head` and `send_data` have been given; the others write at once."""

    def send_refusal(self, refusal: Refusal, *, extra: bytes) -> None: ...
    def send_answer(self, status: int, headers: tuple[Field, ...], body: bytes) -> None: ...

    def reset(self) -> None:
        """Cut the answer so that the client can tell it is not complete."""

    @property
    def tunnel_side(self) -> "TunnelClient":
        """The client once its WebSocket is open."""

    def pause_body(self) -> None: ...
    def resume_body(self) -> None: ...
    def watch(self, deadline_s: float) -> None:
        """Call `exchange.due` at the deadline or a little later."""

    def on_ended(self, exchange: ExchangeT) -> None: ...


class TunnelClient(Protocol):
    """The client's side of a WebSocket."""

    def send_switch(self, head: ResponseHead, tunnel: "Tunnel", *, extra: bytes) -> None:
        """Tell the client that its WebSocket is open; what it sends from now on is the tunnel's."""

    def send_frames(self, data: bytes) -> None:
        """Bytes of a tunnel, at once."""

    def end_tunnel(self, *, lingers: bool) -> None:
        """Send what was written, then end; no more is given to the tunnel. `lingers`: the client may be sending still,
        and what it sends must not destroy what it was sent. The exchange ends after that."""


class UpstreamConnection(Protocol[ExchangeT]):
    """The replica's side: one connection that carries this exchange alone for now, or its part of a shared one."""

    may_refuse: bool
    """Whether `exchange.on_refused` may come after the request was sent: then its body is kept while it is short."""

    @property
    def is_full(self) -> bool:
        """Whether the replica has not taken all that was sent, so that `count_waiting` may find something."""

    def send_head(self, exchange: ExchangeT) -> None: ...
    def send_data(self, data: bytes) -> None: ...
    def send_end(self, trailers: list[Field]) -> None: ...
    def send_whole(self, exchange: ExchangeT, body: bytes) -> None:
        """`send_head`, `send_data` and `send_end` for a request with a length whose body is all there."""

    def count_waiting(self) -> None:
        """Count anew what waits for the replica: as long as its exchange keeps the body, that counts there."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def finish(self) -> None:
        """Send what was written, then close; report nothing more."""

    def abort(self) -> None:
        """Close at once and report nothing more."""


class Owner(Protocol[ExchangeT]):
    """Who placed the exchange: holds it, gives it a replica, and takes the slot back.

    One that never sends anything to a replica inherits the methods about WebSockets.
    """

    terms: RequestTerms

    def on_unsent(self, exchange: ExchangeT, cause: str, now_s: float) -> None:
        """Nothing of the request took effect on its replica: place it elsewhere, hold it again, or refuse it."""

    def on_turned_away(self, exchange: ExchangeT, now_s: float) -> None:
        """The sidecar of its replica had no place for it, and the replica saw nothing of it: hold it again."""

    def on_hold_timeout(self, exchange: ExchangeT, now_s: float) -> None:
        """The deadline for holding has passed: refuse it."""

    def on_tunnel(self, exchange: ExchangeT, now_s: float) -> None:
        """It has become a WebSocket, and stays inside its replica until that is closed."""
        return

    def on_quiet(self, exchange: ExchangeT, now_s: float) -> None:
        """The WebSocket has had no data frame for `terms.quiet_s`."""
        return

    def on_roused(self, exchange: ExchangeT, now_s: float) -> None:
        """A data frame came by a WebSocket that was quiet."""
        return

    def on_ended(self, exchange: ExchangeT, now_s: float) -> None:
        """It is over: whatever was taken for it is given back here and nowhere else."""


class BodyReader(Protocol):
    """Who reads the request's body before there is a route (the model's name is inside)."""

    def on_chunk(self, chunk: bytes, now_s: float) -> None: ...
    def on_end(self, now_s: float) -> None: ...


class Connections(Protocol[ExchangeT]):
    """The way to one replica. `may_turn_away`: a sidecar is there, which may have no place for a request."""

    may_turn_away: bool

    def take(self, exchange: ExchangeT, now_s: float) -> "UpstreamConnection[ExchangeT] | None":
        """A connection for the exchange; or None, and the exchange is told when there is one or there can be none."""


class Destination(Protocol[ExchangeT]):
    """The replica that an exchange was given: a slot in its gate, and the way there."""

    rests_until_s: float

    @property
    def gate(self) -> Gate: ...
    @property
    def service(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def start_s(self) -> float | None:
        """Seconds from its spawn to its readiness; None where that is not known."""

    @property
    def pool(self) -> Connections[ExchangeT]: ...
