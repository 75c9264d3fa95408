"""The world of a hold: replicas that connect at once or never, and a clock that stands still."""

from collections.abc import Callable
from typing import Any

from activator.health import FAILURES, OUT_S
from activator.hold import Hold
from tests.zerogate.http.dialogue import Connection, Sides, request, response
from zerogate.gate import Gate
from zerogate.http.exchange import Exchange
from zerogate.policy import Policy


class World:
    """A hold with replicas that connect at once (or fail to), and a clock that stands still until it is told."""

    def __init__(self, **policy: Any) -> None:
        self.now_s = 100.0
        self.wakes = 0
        self.idle: list[str] = []
        self.ended: list[Exchange] = []
        self.later: list[Callable[[], None]] = []
        self.much_later: list[Callable[[], None]] = []
        self.hold = Hold(
            "chat", Policy(**policy), self, choose=lambda count: 0, call_later=self.call_later, clock=lambda: self.now_s
        )

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        (self.later if delay_s < OUT_S else self.much_later).append(call)

    def on_wake(self, service: str) -> None:
        self.wakes += 1

    def on_activity(self, service: str) -> None: ...

    def on_idle(self, replica_id: str) -> None:
        self.idle.append(replica_id)

    def on_exchange_ended(self, service: str, exchange: Exchange) -> None:
        self.ended.append(exchange)

    def replica(self, name: str = "a", *, connects: bool = True) -> Any:
        replica = Replica(name, self, connects=connects)
        self.hold.add(replica, self.now_s)  # type: ignore[arg-type]
        return replica

    def arrive(self, **fields: str) -> Exchange:
        exchange = Exchange(Sides(), request(**fields), self.now_s)  # type: ignore[arg-type]
        self.hold.place(exchange, self.now_s)
        return exchange

    def answer(self, exchange: Exchange, status: int = 204) -> None:
        exchange.on_response_head(response(status), self.now_s)
        exchange.on_response_end([], self.now_s)

    def end_pauses(self) -> None:
        """All short pauses are over."""
        later, self.later = self.later, []
        for call in later:
            call()

    def fail_often(self, replica: Any) -> None:
        """As many requests of the replica fail as it takes to be left out."""
        for _ in range(FAILURES):
            self.hold._setbacks.fail(replica, "status", "it answered 503", self.now_s)


class Replica:
    """Looks like an upstream and its pool."""

    def __init__(self, name: str, world: World, *, connects: bool) -> None:
        self.id = name
        self.service = "chat"
        self.start_s: float | None = 2.0
        self.rests_until_s = 0.0
        self.connects = connects
        self.gate = Gate(limit=world.hold.policy.concurrency_limit, release_limit=world.hold.release_limit)
        self.pool = self
        self.closed = False
        self.may_turn_away = False
        self.on_reached: Callable[[], None] | None = None

    def take(self, exchange: Exchange, now_s: float) -> Any:
        return Connection([]) if self.connects else None

    def close(self) -> None:
        self.closed = True
