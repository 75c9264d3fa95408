"""The replicas of one service and which of them take requests: the takers. Pure: `now_s` and chance are arguments.

Of the ready ones those are left out that are in doubt (`activator.lookout`) and those that fail (`activator.health`):
somebody else is ready. A replica that became ready beside older ones, or comes back, gets little at first.

Invariants: where a replica is ready there is a taker; of the ready replicas at most half are out, those in doubt
counted, and never the only one. Owned by `activator.hold`, which says when a time is over.
"""

from collections.abc import Callable

from activator.affinity import in_order
from activator.balance import enter, enter_weighted, first_free, least_busy, that_release
from activator.health import RAMP_S, Health, weight
from activator.reach import Reach
from zerogate.http.exchange import Exchange
from zerogate.http.sides import Destination
from zerogate.http.upstream import Choose, Upstream


class Takers:
    """See the module's text."""

    def __init__(self, choose: Choose) -> None:
        self.by_id: dict[str, Upstream] = {}
        """All replicas with a gate, also those that drain."""
        self.ready: list[Upstream] = []
        self.list: list[Upstream] = []
        """The takers."""
        self.reach = Reach()
        self.ailing: dict[str, Health] = {}
        """By replica; empty as long as nothing is amiss, which is all that a warm request looks at."""
        self.ramps: dict[Upstream, float] = {}
        """Those that are trusted little by little, until when."""
        self.out: dict[Upstream, Health] = {}
        self._doubted: list[Upstream] = []
        self._since_s: dict[str, float] = {}
        """When each became ready."""
        self._choose = choose

    # Who is there

    def add(self, upstream: Upstream, now_s: float) -> None:
        """A replica is ready."""
        if any(self._since_s[one.id] + RAMP_S <= now_s for one in self.ready):
            self.ramps[upstream] = now_s + RAMP_S
        self.by_id[upstream.id] = upstream
        self._since_s[upstream.id] = now_s
        self.ready.append(upstream)
        self._settle()

    def close(self, upstream: Upstream) -> None:
        """Nothing new is sent to a replica."""
        if upstream in self.ready:
            self.ready.remove(upstream)
            self.out.pop(upstream, None)
            self._settle()

    def reopen(self, upstream: Upstream) -> None:
        """A replica that was closed takes requests again."""
        self.ready.append(upstream)
        self._settle()

    def remove(self, upstream: Upstream) -> None:
        """A closed replica is gone."""
        del self.by_id[upstream.id]
        del self._since_s[upstream.id]
        self.reach.forget(upstream)
        self.ramps.pop(upstream, None)
        self.ailing.pop(upstream.id, None)

    def doubt(self, upstream: Upstream) -> None:
        """It answers nothing."""
        self._doubted.append(upstream)
        self._settle()

    def trust(self, upstream: Upstream) -> None:
        """It answers again."""
        self._doubted.remove(upstream)
        self._settle()

    @property
    def doubted(self) -> frozenset[str]:
        """The ready ones that answer nothing, by id."""
        return frozenset(one.id for one in self._doubted if one in self.ready)

    @property
    def has_trusted(self) -> bool:
        """Whether a replica that is not in doubt is ready."""
        return any(upstream not in self._doubted for upstream in self.ready)

    def _settle(self) -> None:
        while self.out and not self._may_be_out(0):
            del self.out[min(self.out, key=lambda one: self.out[one].out_until_s)]
        trusted = [one for one in self.ready if one not in self._doubted and one not in self.out]
        self.list = trusted or self.ready

    def _may_be_out(self, more: int) -> bool:
        doubted = sum(one in self._doubted and one not in self.out for one in self.ready)
        return 2 * (len(self.out) + doubted + more) <= len(self.ready)

    # What their requests say

    def fail(self, upstream: Destination[Exchange], why: str, now_s: float) -> float | None:
        """One more failure of a replica; for how many seconds it is left out from now on, None if it is not."""
        known = self.by_id.get(upstream.id)
        if known is not upstream:
            return None  # it is gone
        health = self.ailing.setdefault(known.id, Health())
        health.fail(why)
        can_leave = health.is_failing and known in self.ready and known not in self.out
        if not can_leave or not self._may_be_out(0 if known in self._doubted else 1):
            return None
        self.out[known] = health
        out_s = health.leave(now_s)
        self._settle()
        return out_s

    def succeed(self, upstream: Destination[Exchange]) -> None:
        """An answer of its own: what it did before is forgotten. One that is out stays so until its time is over."""
        self.ailing.pop(upstream.id, None)

    def come_back(self, upstream: Destination[Exchange], out_until_s: float, now_s: float) -> None:
        """Its time is over, if it is still the one that it was left out for: it gets little at first."""
        known = self.by_id.get(upstream.id)
        health = self.out.get(known) if known is not None else None
        if known is not None and health is not None and health.out_until_s == out_until_s:
            del self.out[known]
            self.ramps[known] = now_s + RAMP_S
            self._settle()

    def hopeless(self) -> str | None:
        """Why no replica can be reached, where that is known of all; None otherwise.

        Where it is known of all others, those that are out come back at once.
        """
        cause = self.reach.hopeless(self.list)
        if cause is not None and self.out:
            self.out.clear()
            self._settle()
            cause = self.reach.hopeless(self.list)
        return cause

    def notices(self, now_s: float) -> tuple[str, ...]:
        """A sentence for each replica that fails."""
        return tuple(
            self._says(one, health, now_s)
            for one in self.ready
            if (health := self.out.get(one) or self.ailing.get(one.id)) is not None and health.is_failing
        )

    def _says(self, upstream: Upstream, health: Health, now_s: float) -> str:
        what = f"{upstream.id} failed {health.failures} requests in a row ({health.why})."
        if upstream in self.out:
            left_s = max(0.0, health.out_until_s - now_s)
            return f"{what} New requests go to other replicas for the next {left_s:.0f} s."
        return f"{what} It still gets requests: at most half of the replicas are left out, and never the only one."

    # Who takes a request

    def enter(self, key: int | None, now_s: float) -> Upstream | None:
        """Take a slot for a warm request, in the replica that its key likes best or in one of the less busy."""
        if key is not None:
            return first_free(in_order(self.list, key, self._weigher(now_s)), now_s)
        if not self.ramps or len(self.list) < 2:
            return enter(self.list, self._choose, now_s)
        return enter_weighted(self.list, self._choose, self._weigher(now_s), now_s)

    def may_release(self, now_s: float) -> list[Upstream]:
        """Those that may take a held request now."""
        return that_release(self.list, now_s)

    def release(self, some: list[Upstream], key: int | None, now_s: float) -> Upstream:
        """Take a slot for a held request in one of those that may take it: there is at least one."""
        weigh = self._weigher(now_s)
        best = least_busy(some, weigh) if key is None else in_order(some, key, weigh)[0]
        entered = best.gate.try_release()
        assert entered
        return best

    def _weigher(self, now_s: float) -> Callable[[Upstream], float]:
        self.ramps = {one: until_s for one, until_s in self.ramps.items() if now_s < until_s}
        ramps = self.ramps
        return lambda one: weight(ramps.get(one, 0.0), now_s)
