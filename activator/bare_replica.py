"""A replica without a sidecar that is ready: where it is, and what this process may use of it. Pure."""

import msgspec

from zerogate.http.upstream import ReplicaProtocol
from zerogate.runtime.interface import Address


class BareReplica(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One that may be sent to now. `name`: NAMESPACE/POD; `uid`: unlike that of any other pod."""

    name: str
    uid: str
    address: Address
    """Where its model server takes requests."""
    protocol: ReplicaProtocol = "http1"
    slots: int | None = None
    """Requests inside at once, of all processes of this gateway together; None: no limit. 0: it may have none."""
    release: int = 1
    """Held requests let in at a time, by each process."""
    via: Address | None = None
    """The gateway that takes requests for it, where `slots` is 0; None there: they are held."""

    @property
    def notice(self) -> str:
        """What becomes of its slots here, as a sentence."""
        if self.slots is None:
            return f"{self.name} has no sidecar: gateways count what is inside."
        if self.slots:
            return f"{self.name} has no sidecar: {self.slots} of its slots are this gateway's."
        what = f"requests for it go to the gateway {self.via}" if self.via else "requests for it wait"
        return f"{self.name} has no sidecar, and none of its slots is this gateway's: {what}."
