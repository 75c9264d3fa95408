"""Gates of replicas without a sidecar, as one process of several has them. Pure, but for the locks that it is given.

`SharedGate` owns the slots together with the same gate in the other processes of the gateway: whoever has a slot holds
its lock. `PassGate` leads to another gateway, which has slots of the replica. What is inside is measured by the gate's
`meter`, because nobody in the pod does.
"""

from collections.abc import Callable
from typing import Protocol

from zerogate.gate import MOST_INSIDE, Gate
from zerogate.meter import Meter


class Slots(Protocol):
    """Slots of one replica, as one process takes them: `activator.slot_locks`, or a count where it is alone."""

    def take(self, most: int) -> int | None: ...
    def give_back(self) -> None: ...


class SharedGate(Gate):
    """See the module's text. The bounds are not the policy's, but this gateway's part of them: `share`.

    A held request is only looked for where it may enter, so `may_release` takes the slot, and gives it back in the next
    turn of the loop (`soon`) where nobody used it.
    """

    __slots__ = ("_has_spare", "_locked", "_meter", "_slots", "_soon")

    def __init__(self, meter: Meter, slots: Slots, *, soon: Callable[[Callable[[], None]], object]) -> None:
        super().__init__(limit=0, release_limit=1)
        self._meter = meter
        self._slots = slots
        self._soon = soon
        self._locked = 0
        """Slots that are taken here; who came while there was no limit has none."""
        self._has_spare = False

    @property
    def meter(self) -> Meter:
        return self._meter

    def configure(self, *, limit: int, release_limit: int) -> None:
        """The policy changed; what that comes to here is told by `share`."""

    def share(self, *, slots: int | None, release: int) -> None:
        """This gateway may have so many inside; None: no limit. What is inside stays."""
        self.limit = slots or 0
        self.release_limit = release

    def try_enter(self) -> bool:
        if not self.is_open or not self._take():
            return False
        self.in_flight += 1
        return True

    @property
    def may_release(self) -> bool:
        if not self.is_open or self.in_flight - self.lasting >= self.release_limit or not self._take():
            return False
        if self.limit:
            self._has_spare = True
            self._soon(self._drop_spare)
        return True

    def try_release(self) -> bool:
        if not self.may_release:
            return False
        self._has_spare = False
        self.in_flight += 1
        return True

    def close(self) -> None:
        super().close()
        self._drop_spare()

    def leave(self) -> None:
        super().leave()
        if self._locked > self.in_flight + self._has_spare:
            self._locked -= 1
            self._slots.give_back()

    def _take(self) -> bool:
        if not self.limit:
            return self.in_flight < MOST_INSIDE
        if self.in_flight >= self.limit:
            return False
        if self._has_spare:
            self._has_spare = False
            return True
        if self._slots.take(self.limit) is None:
            return False
        self._locked += 1
        return True

    def _drop_spare(self) -> None:
        if self._has_spare:
            self._has_spare = False
            self._locked -= 1
            self._slots.give_back()


class PassGate(Gate):
    """See the module's text: the other gateway has the slots, so all may go there; it holds what is too much."""

    __slots__ = ("_meter",)

    def __init__(self, meter: Meter) -> None:
        super().__init__(limit=0, release_limit=1)
        self._meter = meter

    @property
    def meter(self) -> Meter:
        return self._meter

    def configure(self, *, limit: int, release_limit: int) -> None:
        """No bound of the service applies here."""
        self.limit, self.release_limit = 0, 1

    @property
    def may_release(self) -> bool:
        return self.is_open and self.in_flight < MOST_INSIDE
