"""By which way a request goes into the replica: its gateway's, or that of those that came without one.

All of them are the same replica and the same connections; what differs is whose slots they take (`queueproxy.grants`).
A gateway that has gone keeps its way as long as something of it is inside. Owned by `queueproxy.slots`.
"""

from queueproxy.grants import Grants, Holder
from zerogate.http.upstream import ReplicaPool, Upstream


class Ways:
    """See the module's text. `own`: of those without a gateway."""

    def __init__(self, service: str, pool: ReplicaPool, grants: Grants) -> None:
        self._service = service
        self._pool = pool
        self._grants = grants
        self.own = self._make(grants.own)
        self._by_name: dict[bytes, Upstream] = {}

    def of(self, name: bytes) -> Upstream:
        """The way of the gateway that says this name; who is not known is nobody's."""
        return self._by_name.get(name, self.own)

    def holder(self, name: bytes) -> Holder:
        """Of a gateway that has come; the one that it had, if it has come again."""
        self.forget_gone()
        way = self._by_name.get(name)
        if way is None:
            way = self._by_name[name] = self._make(Holder(self._grants.gate, self._grants, stands=True))
        assert isinstance(way.gate, Holder)
        return way.gate

    def forget_gone(self) -> None:
        """Gateways that are gone and have nothing inside."""
        there = self._grants.holders
        self._by_name = {
            name: way for name, way in self._by_name.items() if way.gate in there or way.gate.in_flight
        }  # fmt: skip

    def _make(self, holder: Holder) -> Upstream:
        return Upstream(service=self._service, id=str(self._pool.address), gate=holder, pool=self._pool)
