"""What passes between a client and a replica after a WebSocket's 101. Pure: `now_s` is an argument.

Bytes go through as they come; a `FrameFollower` for each way knows where frames end. So a Close of our own can be put
between two frames when one side has to leave (1001), and what is no frame is not passed on: whoever sent it is told
1002. No Close is ever invented for a side that vanished: the other one sees its connection end without one, which its
API shows as 1006. No timer cuts a tunnel; with `quiet_s` its owner is told when no data frame came for so long (pings
and pongs are none), and when one came again. Only once a side has said Close, the other one has `CLOSE_S` for its own.

    open ──► leaving (our Close is put in at the next boundary of each way) ──► over
      └──────────────────────────────────────────────────────────────────────►┘

Over is: both sides have sent a Close, or one of them is gone. Made by `zerogate.http.exchange`, which it tells of the
end exactly once; what a client's and a replica's connection get to hear comes as method calls.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from zerogate.counters import Result
from zerogate.http.handshake import mask_of
from zerogate.http.websocket import GOING_AWAY, PROTOCOL_ERROR, FrameFollower, close_frame

if TYPE_CHECKING:
    from zerogate.http.exchange import Exchange

LEAVE_S: Final = 30.0
"""For the rest of a frame and the Close of both sides, once we want to leave: the drain's own deadline on one box."""
CLOSE_S: Final = 10.0
"""For a side to answer the Close of the other one; Python's websockets, and so uvicorn, wait as long."""
HALF_CLOSED_S: Final = 2.0
"""The same for a replica whose client has stopped sending as well; a client gone altogether looks so too."""


class _Way:
    """One direction."""

    __slots__ = ("_farewell", "_is_leaving", "_write", "follower", "is_shut")

    def __init__(self, write: Callable[[bytes], None], *, masked: bool) -> None:
        self._write = write
        self.follower = FrameFollower(masked=masked)
        self._is_leaving = False
        self._farewell = b""
        self.is_shut = False
        """Our Close went this way: what comes is followed and dropped."""

    def take(self, data: bytes) -> None:
        follower = self.follower
        if self.is_shut:
            follower.feed(data)
            return
        passed = follower.feed(data, to_boundary=self._is_leaving)
        if passed:
            self._write(data if passed == len(data) else data[:passed])
        if self._is_leaving and follower.is_at_boundary:
            self._shut()
            follower.feed(data[passed:])

    def leave(self, farewell: bytes) -> None:
        """Put in a Close as soon as a frame ends, unless one has gone this way."""
        if self.follower.is_over or self.is_shut:
            return
        self._farewell = farewell
        self._is_leaving = True
        if self.follower.is_at_boundary:
            self._shut()

    def _shut(self) -> None:
        self.is_shut = True
        if not self.follower.is_over:
            self._write(self._farewell)


class Tunnel:
    """See the module's text. Attributes are for reading."""

    __slots__ = (
        "_closing_until_s", "_exchange", "_mask", "_quiet_s", "_to_client", "_to_replica", "data_s", "entered_s",
        "is_leaving", "is_quiet",
    )  # fmt: skip

    def __init__(
        self, exchange: "Exchange", key: bytes, now_s: float, *,
        write_to_client: Callable[[bytes], None], write_to_replica: Callable[[bytes], None],
    ) -> None:  # fmt: skip
        self._exchange = exchange
        self._mask = mask_of(key)
        self._quiet_s = exchange.terms.quiet_s
        self._to_client = _Way(write_to_client, masked=False)
        self._to_replica = _Way(write_to_replica, masked=True)
        self._closing_until_s: float | None = None
        self.data_s = now_s
        """When the last data frame was seen, or a piece of one."""
        self.entered_s = exchange.dispatched_s
        """Since when it has counted as in flight; the owner's."""
        self.is_leaving = False
        self.is_quiet = False

    @property
    def close_codes(self) -> tuple[int | None, int | None]:
        """The codes with which client and replica closed, as far as they did."""
        return self._to_replica.follower.close_code, self._to_client.follower.close_code

    # What the sides tell

    def on_client_data(self, data: bytes, now_s: float) -> None:
        self._exchange.bytes_in += len(data)
        self._take(self._to_replica, data, now_s)

    def on_replica_data(self, data: bytes, now_s: float) -> None:
        self._exchange.bytes_out += len(data)
        self._take(self._to_client, data, now_s)

    def _take(self, way: _Way, data: bytes, now_s: float) -> None:
        way.take(data)
        follower = way.follower
        if follower.has_data:
            follower.has_data = False
            self._on_data_frame(now_s)
        if follower.violation and not way.is_shut:
            self._violated(way, now_s)
        elif follower.is_over:
            if self._to_client.follower.is_over and self._to_replica.follower.is_over:
                self._end(Result.SERVED, "", now_s)
            elif self._closing_until_s is None:
                self._end_by(now_s + CLOSE_S)

    def _end_by(self, until_s: float) -> None:
        """Wait so long for the Close that is missing, or as long as was said before."""
        if self._closing_until_s is None or until_s < self._closing_until_s:
            self._closing_until_s = until_s
            self._exchange.downstream.watch(until_s)

    def _on_data_frame(self, now_s: float) -> None:
        self.data_s = now_s
        if self.is_quiet and not self.is_leaving:
            self.is_quiet = False
            exchange = self._exchange
            if exchange.owner is not None:
                exchange.owner.on_roused(exchange, now_s)
            if self._quiet_s is not None:
                exchange.downstream.watch(now_s + self._quiet_s)

    def _violated(self, way: _Way, now_s: float) -> None:
        """Tell whoever sent it, where a Close can be put in; the other side just loses its connection."""
        if way is self._to_replica:
            self._to_client.leave(close_frame(PROTOCOL_ERROR))
        else:
            self._to_replica.leave(close_frame(PROTOCOL_ERROR, mask=self._mask))
        self._end(Result.CUT, "websocket_violation", now_s)

    def on_client_end(self, now_s: float) -> None:
        """The client sends no more: it is gone, unless it has closed in order and waits for the replica's Close."""
        if self._to_replica.follower.close_code is None or self._to_client.follower.is_over:
            self.on_client_lost(now_s)
            return
        self._end_by(now_s + HALF_CLOSED_S)

    def on_client_lost(self, now_s: float) -> None:
        """The client's connection is gone."""
        is_in_order = self.is_leaving or self._to_replica.follower.close_code is not None
        self._end(Result.SERVED if is_in_order else Result.ABANDONED, "", now_s, lingers=False)

    def on_replica_lost(self, now_s: float) -> None:
        """The replica's connection has ended or is gone."""
        if self.is_leaving or self._to_client.follower.close_code is not None:
            self._end(Result.SERVED, "", now_s)
        else:
            self._end(Result.CUT, "replica_lost", now_s)

    # What we want

    def leave(self, now_s: float) -> None:
        """Close it with 1001 on both sides, between frames, and wait a while for their own Close."""
        if self.is_leaving:
            return
        self.is_leaving = True
        self._end_by(now_s + LEAVE_S)
        self._to_client.leave(close_frame(GOING_AWAY))
        self._to_replica.leave(close_frame(GOING_AWAY, mask=self._mask))

    def due(self, now_s: float) -> float | None:
        """Fire what is due; returns the next deadline."""
        if self._closing_until_s is not None:
            if now_s < self._closing_until_s:
                return self._closing_until_s
            self._end(Result.CUT, "close_timeout", now_s)
            return None
        if self._quiet_s is None or self.is_quiet:
            return None
        quiet_at_s = self.data_s + self._quiet_s
        if now_s < quiet_at_s:
            return quiet_at_s
        self.is_quiet = True
        exchange = self._exchange
        if exchange.owner is not None:
            exchange.owner.on_quiet(exchange, now_s)
        return self._closing_until_s

    def _end(self, result: Result, code: str, now_s: float, *, lingers: bool = True) -> None:
        if not code and self.is_leaving:
            code = "going_away"
        lingers = lingers and self._to_replica.follower.close_code is None
        self._exchange.end_tunnel(result, code, now_s, lingers=lingers)
