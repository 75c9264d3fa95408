"""The gate of a replica whose slots are owned by its sidecar: what this process may use of them. Pure.

To the hold it is a gate like any other; its bound is the allowance that the sidecar told last. The sidecar's own gate
has the last word: a request that it turns away was not sent, and lowers the allowance here until the sidecar speaks
again.
"""

from collections.abc import Callable

from zerogate.control import Terms
from zerogate.gate import MOST_INSIDE, Gate


def _unheard() -> None:
    """Nobody asked to be told."""


class RemoteGate(Gate):
    """See the module's text. Closed until the sidecar says that the replica is ready.

    `on_use` is called whenever a request enters or leaves while others wait for the same replica.
    """

    __slots__ = ("_trusted", "is_contended", "is_told", "most", "on_use")

    def __init__(self, *, limit: int, release_limit: int) -> None:
        """`limit`, `release_limit`: by the policy; used only while the sidecar cannot be asked."""
        super().__init__(limit=limit, release_limit=release_limit)
        self.limit = self.release_limit = 0
        self.is_told = False
        """Whether the allowance is one that the sidecar told."""
        self.most = release_limit
        """Slots that there are to be had at best."""
        self.is_open = False
        self.is_contended = False
        """Others wait for this replica: the sidecar is to know what is on its way."""
        self.on_use: Callable[[], None] = _unheard

    def configure(self, *, limit: int, release_limit: int) -> None:
        """The policy changed; the bounds are the sidecar's, but for the time without it."""
        self._trusted = (limit, release_limit)

    def tell(self, terms: Terms) -> None:
        """The sidecar's word. Whether the gate is open is the hold's to change."""
        self.is_told = True
        self.limit = terms.limit
        self.release_limit = terms.allowance
        self.most = terms.most
        self.is_contended = terms.contended

    def trust(self) -> None:
        """The sidecar cannot be asked, and nothing says that it is gone: send, and let it refuse."""
        self.is_told = False
        self.limit, self.release_limit = self._trusted
        self.most = self.release_limit
        self.is_contended = False

    def try_enter(self) -> bool:
        # an allowance of 0 is nothing; without a limit there is none
        if not self.is_open or self.in_flight >= (self.release_limit if self.limit else MOST_INSIDE):
            return False
        self.in_flight += 1
        if self.is_contended:
            self.on_use()
        return True

    @property
    def may_release(self) -> bool:
        if not self.is_told:
            return super().may_release
        return self.is_open and self.in_flight < self.release_limit  # open WebSockets are part of an allowance

    def leave(self) -> None:
        super().leave()
        if self.is_contended:
            self.on_use()

    def turn_away(self) -> bool:
        if not self.is_told:
            return False
        self.release_limit = min(self.release_limit, self.in_flight)
        return True
