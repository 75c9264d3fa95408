"""One stream of HTTP/2: its states as one table (RFC 9113 section 5.1), its windows, and what waits to be sent. Pure.

A stream is also what its connection calls: both ends of a proxy subclass it and are told of heads, data and ends. Push
is switched off by us and not used, so the two reserved states do not occur.
"""

from collections import deque
from typing import Final

from zerogate.errors import ZerogateError
from zerogate.http.h2.hpack import HpackField

IDLE: Final = 0
OPEN: Final = 1
HALF_LOCAL: Final = 2
"""We have sent our end."""
HALF_REMOTE: Final = 3
"""The peer has sent its end."""
CLOSED: Final = 4
STATES: Final = ("idle", "open", "half-closed (local)", "half-closed (remote)", "closed")

SEND_HEADERS: Final = 0
SEND_DATA: Final = 1
SEND_END: Final = 2
GET_HEADERS: Final = 3
GET_DATA: Final = 4
GET_END: Final = 5
RESET: Final = 6
"""In either direction."""
EVENTS: Final = ("send HEADERS", "send DATA", "send END_STREAM", "get HEADERS", "get DATA", "get END_STREAM", "reset")

NEXT: Final[tuple[tuple[int | None, ...], ...]] = (
    # SEND_HEADERS, SEND_DATA, SEND_END, GET_HEADERS, GET_DATA, GET_END, RESET
    (OPEN, None, None, OPEN, None, None, None),
    (OPEN, OPEN, HALF_LOCAL, OPEN, OPEN, HALF_REMOTE, CLOSED),
    (None, None, None, HALF_LOCAL, HALF_LOCAL, CLOSED, CLOSED),
    (HALF_REMOTE, HALF_REMOTE, CLOSED, None, None, None, CLOSED),
    (None, None, None, None, None, None, None),
)
"""The next state by state and event; None where the event is not legal."""


class IllegalTransitionError(ZerogateError):
    """A bug of ours: a frame that this stream must not send now. Nothing was sent."""


class Stream:
    """See the module's text. Attributes are for reading; its connection changes them, the hooks are overridden."""

    __slots__ = (
        "body_left", "counted_bytes", "has_head", "id", "is_ending", "is_paused", "is_stopping", "is_writable", "queue",
        "queued_bytes", "receive_window", "send_window", "stalled_since_s", "state", "trailers", "unreleased_bytes",
    )  # fmt: skip

    def __init__(self, id: int, *, receive_window: int, send_window: int) -> None:  # noqa: A002
        self.id = id
        self.state = IDLE
        self.receive_window = receive_window
        self.unreleased_bytes = 0
        """What came and was not given back to the peer's window yet."""
        self.is_paused = False
        """The other side of the proxy takes nothing: the window is not opened."""
        self.send_window = send_window
        """Bytes that the peer takes now; below zero after it made its windows smaller (section 6.9.2)."""
        self.queue: deque[bytes | memoryview] | None = None
        self.queued_bytes = 0
        """Body given to us that no window allows yet."""
        self.counted_bytes = 0
        """What of it the process's memory counts, as of the last `count_waiting`."""
        self.is_writable = True
        self.is_ending = False
        """The end was given to us; it follows the queue."""
        self.is_stopping = False
        """Once our end is sent, the peer's is not waited for."""
        self.trailers: list[HpackField] = []
        self.has_head = False
        """The peer's head has come: what follows are trailers."""
        self.body_left: int | None = None
        """Bytes of body that the peer's content-length still promises; None without one."""
        self.stalled_since_s: float | None = None

    def step(self, event: int) -> None:
        """The event was ours or was checked before."""
        state = NEXT[self.state][event]
        if state is None:
            raise IllegalTransitionError(f"stream {self.id} is {STATES[self.state]}: it cannot {EVENTS[event]}")
        self.state = state

    @property
    def has_sent_end(self) -> bool:
        """Whether our message is complete as far as its owner is concerned."""
        return self.is_ending or self.state in (HALF_LOCAL, CLOSED)

    # What the connection tells; a hook may raise ViolationError, and its stream is reset

    def on_head(self, fields: list[HpackField], ended: bool) -> None:
        """The request's or the final answer's head; sets `body_left`. `ended`: nothing follows, and no `on_end`: the
        hook itself refuses a content-length then."""

    def on_informational(self, fields: list[HpackField]) -> None:
        """A 1xx head (client's role only)."""

    def on_data(self, data: bytes) -> None:
        """A piece of the body, never empty."""

    def on_end(self, trailers: list[HpackField]) -> None:
        """The peer's message is complete."""

    def on_reset(self, code: int, reason: str, *, by_peer: bool) -> None:
        """The stream is over before both its messages were: reset by the peer, or because of what the peer did."""

    def count_waiting(self) -> None:
        """More lies in the queue than before, or, where some was counted, less."""

    def on_writable(self, writable: bool) -> None:
        """Whether more than what lies in the queue should be given."""
