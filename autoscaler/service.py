"""All that the autoscaler keeps of one service between two decisions. Pure: the time is an argument.

What an idle service does not need is not made: ten thousand of them cost little. Owned by `autoscaler.loop`; what
survives a restart is what `save` returns.
"""

from autoscaler.decision import Decision, Memory, Replicas
from autoscaler.journal import Journal
from autoscaler.replicas import ReplicaBook
from autoscaler.run_time import BootTimes, RunTime
from autoscaler.status import Saved
from zerogate.policy import Policy
from zerogate.runtime.interface import BackOff, Replica


class Service:
    """See the module's text. Attributes are for the loop to change. `standing`: what was asked for before."""

    __slots__ = (
        "asked", "back_off", "book", "decided_s", "decision", "gather_by_s", "journal", "memory", "pin", "policy",
    )  # fmt: skip

    def __init__(self, policy: Policy, saved: Saved, standing: int = 0) -> None:
        self.policy = policy
        self.pin = saved.pin
        self.book: ReplicaBook | None = ReplicaBook(BootTimes(saved.boots_s)) if saved.boots_s else None
        self.journal = Journal()
        self.memory: Memory | None = None
        self.decision: Decision | None = None
        self.back_off: BackOff | None = None
        self.asked: int | None = standing or None
        self.gather_by_s = 0.0
        """When a crowd that comes at zero has to be decided about; 0: nobody has come."""
        self.decided_s = float("-inf")

    def on_replica(self, replica: Replica) -> None:
        """A replica is new or changed."""
        if self.book is None:
            self.book = ReplicaBook(BootTimes())
        self.book.on_replica(replica)

    def replicas(self, now_s: float) -> Replicas:
        """What is known of its replicas, for a decision."""
        next_try_s = self.back_off.next_try_s if self.back_off else None
        if self.book is None:
            return Replicas(next_try_at_s=next_try_s)
        return self.book.summary(now_s, next_try_at_s=next_try_s)

    def drop_pin(self, wall_s: float) -> None:
        """Forget a pin whose time is over."""
        if self.pin is not None and self.pin.until_wall_s is not None and self.pin.until_wall_s <= wall_s:
            self.pin = None

    def save(self, learned: RunTime | None) -> Saved | None:
        """What should survive a restart; `learned`: how long its requests run, as far as that is known."""
        boots_s = self.book.boots.boots_s if self.book else ()
        if self.pin is None and learned is None and not boots_s:
            return None
        return Saved(
            pin=self.pin,
            boots_s=boots_s,
            completed_s=learned.completed_s if learned else 0.0,
            completions=learned.completions if learned else 0.0,
        )
