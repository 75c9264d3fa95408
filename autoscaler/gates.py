"""Which gates of sidecars this leader has shut, and what follows from their answers. Pure: `now_s` is an argument.

A gate that is in a sidecar is shut by a lease over the stream of reports (`Quiesce`), renewed as long as the replica
may be stopped. Events come in (what the runtime wants, what sources say, streams that come and go); `step` says for
which sources "nothing is inside" has become true or untrue, and `take_orders` gives what is to be sent.

A source is *idle* exactly while one of these holds:
- its last word is that nothing is inside, said on the stream that is open now and after it had heard of our lease, and
  the lease that it answered still runs, counted from when that order was made and not from when it arrived;
- its replica was never ready, and no stream is there that would say otherwise.

A ready one that cannot be asked is never idle: somebody may be inside, and no answer is cut for a decision of ours.
It goes when its sidecar is heard again, or when the platform ends it (a lost node's pods are deleted after minutes).

Invariant: who is idle and was ready has its gate shut at that moment, whatever was lost, repeated or late.
Called by `autoscaler.quiescer` and, for replicas without a sidecar, `autoscaler.rounds`.
"""

from typing import Final

import msgspec

from zerogate.reporting.wire import LEASE_S, Order, Quiesce, Quiesced, Reopen

RENEW_S: Final = LEASE_S / 3
AGAIN_S: Final = 1.0
"""For an order that was not answered: an answer takes a round trip."""
MARGIN_S: Final = 1.0
"""A lease ends here before it ends there, also where clocks run differently fast; those of machines differ by less than
a thousandth."""
NEVER: Final = float("inf")


class Tell(msgspec.Struct, frozen=True):
    """To be sent to a source."""

    source: str
    order: Order


class News(msgspec.Struct, frozen=True):
    """From now on the source is idle, or is not any longer."""

    source: str
    is_idle: bool


class _Shut:
    """One gate that shall be shut."""

    __slots__ = (
        "first", "incarnation", "inside", "is_told", "next_s", "sent_s", "sequence", "since_s", "sure_until_s",
        "was_ready",
    )  # fmt: skip

    def __init__(self, first: int, now_s: float, *, was_ready: bool) -> None:
        self.first = first
        """The number of the first order; answers to earlier ones are of an earlier time that it was shut."""
        self.was_ready = was_ready
        self.since_s = now_s
        """When the source was lost, or when we began to wait for one."""
        self.incarnation = ""
        self.sequence = -1
        self.inside: int | None = None
        """By the source's last word; None: it has said nothing."""
        self.sent_s: dict[int, float] = {}
        """When orders that are not answered were made, by their number."""
        self.sure_until_s = -NEVER
        """The gate is shut until then."""
        self.next_s = now_s
        """When the next order is due."""
        self.is_told = False
        """Whether it was said that the source is idle."""


class _Open:
    """One gate that is to open before its lease runs out."""

    __slots__ = ("end_s", "next_s", "number")

    def __init__(self, number: int, now_s: float) -> None:
        self.number = number
        """Of the first order; an answer to a later one is as good."""
        self.next_s = now_s
        self.end_s = now_s + LEASE_S


class Gates:
    """See the module's text. `asker`: unlike that of any other autoscaler and of any earlier process."""

    def __init__(self, asker: str) -> None:
        self._asker = asker
        self._number = 0
        self._shut: dict[str, _Shut] = {}
        self._opening: dict[str, _Open] = {}
        self._streams: dict[str, str] = {}
        """Incarnations of the sources that can be spoken with."""
        self._orders: list[Tell] = []
        self._is_new = False
        """Whether `step` may have news that no time is to be waited for."""

    # What happens

    def on_stream(self, source: str, incarnation: str, now_s: float) -> None:
        """The source can be spoken with: for the first time, again, or on a new stream."""
        self._streams[source] = incarnation
        shut = self._shut.get(source)
        if shut is not None:
            if shut.incarnation != incarnation:
                shut.incarnation, shut.sequence = incarnation, -1
            self._doubt(shut, now_s)
            shut.next_s = now_s
        opening = self._opening.get(source)
        if opening is not None:
            opening.next_s = now_s

    def on_lost(self, source: str, now_s: float) -> None:
        """It cannot be spoken with any more: what happens there is not known."""
        self._streams.pop(source, None)
        shut = self._shut.get(source)
        if shut is not None:
            self._doubt(shut, now_s)

    @staticmethod
    def _doubt(shut: _Shut, now_s: float) -> None:
        shut.since_s = now_s
        shut.inside, shut.sure_until_s = None, -NEVER
        shut.sent_s.clear()

    def close(self, source: str, now_s: float, *, was_ready: bool) -> None:
        """Shut the gate, and keep it shut; `step` says when the source is idle, which may be at once.

        `was_ready`: the replica ever was, so that somebody may be inside though the source cannot be asked.
        """
        self._opening.pop(source, None)
        shut = self._shut.get(source)
        if shut is None:
            shut = self._shut[source] = _Shut(self._number + 1, now_s, was_ready=was_ready)
            shut.incarnation = self._streams.get(source, "")
        shut.was_ready = shut.was_ready or was_ready
        shut.is_told = False
        self._is_new = True
        self._renew(source, shut, now_s)

    def on_ready(self, source: str) -> None:
        """The replica is ready: traffic may have come to it."""
        shut = self._shut.get(source)
        if shut is not None:
            shut.was_ready = self._is_new = True

    def reopen(self, source: str, now_s: float) -> None:
        """The gate may open."""
        if self._shut.pop(source, None) is not None:
            opening = self._opening[source] = _Open(self._number + 1, now_s)
            self._open(source, opening, now_s)

    def forget_all(self) -> None:
        """Somebody else leads. What is shut stays so until its lease ends: the next leader may want it so."""
        self._is_new = False
        self._shut.clear()
        self._opening.clear()
        self._orders.clear()

    def hear(self, source: str, incarnation: str, word: Quiesced, now_s: float) -> None:
        """The source says what is behind its gate. `incarnation`: of the stream on which it says so."""
        if word.asker != self._asker or self._streams.get(source) != incarnation:
            return
        opening = self._opening.get(source)
        if opening is not None and word.number >= opening.number:
            del self._opening[source]
        shut = self._shut.get(source)
        if shut is None or word.number < shut.first or word.sequence <= shut.sequence:
            return
        shut.sequence = word.sequence
        shut.inside = word.inside
        sent_s = shut.sent_s.pop(word.number, None)
        if sent_s is not None:
            shut.sure_until_s = max(shut.sure_until_s, sent_s + LEASE_S - MARGIN_S)
            shut.sent_s = {number: at_s for number, at_s in shut.sent_s.items() if number > word.number}
            if not shut.sent_s:
                shut.next_s = sent_s + RENEW_S

    # What follows

    def step(self, now_s: float) -> list[News]:
        """Make the orders that are due, and say what has changed, each once."""
        for source, opening in list(self._opening.items()):
            if now_s >= opening.end_s:
                del self._opening[source]
            elif now_s >= opening.next_s:
                self._open(source, opening, now_s)
        self._is_new = False
        news: list[News] = []
        for source, shut in self._shut.items():
            if now_s >= shut.next_s:
                self._renew(source, shut, now_s)
            is_idle = self._is_idle(source, shut, now_s)
            if is_idle != shut.is_told:
                shut.is_told = is_idle
                news.append(News(source, is_idle))
        return news

    def take_orders(self) -> list[Tell]:
        """What is to be sent now, in order."""
        orders, self._orders = self._orders, []
        return orders

    @property
    def due_s(self) -> float | None:
        """When `step` has something to do although nothing happened; None: nothing is shut."""
        if self._is_new:
            return -NEVER
        times_s = [min(one.next_s, one.end_s) for one in self._opening.values()]
        for source, shut in self._shut.items():
            times_s.append(shut.next_s)
            if source in self._streams and shut.is_told:
                times_s.append(shut.sure_until_s)
        next_s = min(times_s, default=NEVER)
        return None if next_s == NEVER else next_s

    @property
    def shut(self) -> int:
        """Gates that shall be shut."""
        return len(self._shut)

    @property
    def streams(self) -> int:
        """Sources that can be spoken with."""
        return len(self._streams)

    @property
    def waiting(self) -> int:
        """Those of them that something is inside of, or that cannot be asked."""
        return sum(not shut.is_told for shut in self._shut.values())

    def sources(self) -> tuple[str, ...]:
        """Those of gates that shall be shut."""
        return tuple(self._shut)

    def why_not_idle(self, source: str, now_s: float) -> str:
        """Why a gate that is shut is not known to be idle, as a sentence; empty where it is, or is not shut."""
        shut = self._shut.get(source)
        if shut is None or self._is_idle(source, shut, now_s):
            return ""
        if source not in self._streams:
            return (
                f"The sidecar of {source} has not been heard for {now_s - shut.since_s:.0f} s: what is inside is not "
                "known, so it is not stopped. If nothing is, scale it down by hand."
            )
        if shut.inside:
            return f"{source} has {shut.inside} inside, which may finish; then it is stopped."
        return f"The sidecar of {source} has not answered yet."

    def _is_idle(self, source: str, shut: _Shut, now_s: float) -> bool:
        if source in self._streams:
            return shut.inside == 0 and now_s < shut.sure_until_s
        return not shut.was_ready

    def _renew(self, source: str, shut: _Shut, now_s: float) -> None:
        shut.next_s = now_s + AGAIN_S
        if source in self._streams:
            self._number += 1
            shut.sent_s = {number: at_s for number, at_s in shut.sent_s.items() if at_s > now_s - LEASE_S}
            shut.sent_s[self._number] = now_s
            self._orders.append(Tell(source, Quiesce(self._asker, self._number, LEASE_S)))
        else:
            shut.next_s = NEVER

    def _open(self, source: str, opening: _Open, now_s: float) -> None:
        opening.next_s = now_s + AGAIN_S
        if source in self._streams:
            self._number += 1
            self._orders.append(Tell(source, Reopen(self._asker, self._number)))
