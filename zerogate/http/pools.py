"""Which way a replica is spoken to: its pool of connections, by the policy's `protocol`."""

from zerogate.http.dial import Secured
from zerogate.http.sweep import Sweep
from zerogate.http.upstream import Pool, ReplicaPool, ReplicaProtocol
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery


def make_pool(
    protocol: ReplicaProtocol, address: Address, sweep: Sweep, nursery: Nursery, *, host: bytes | None = None,
    secured: Secured | None = None,
) -> ReplicaPool:  # fmt: skip
    """An empty pool. `host`: sent instead of the client's own; `secured`: TLS on the way."""
    if protocol != "http1":
        # not loaded where nobody asks for it: a sidecar is in every pod
        from zerogate.http.h2.pool import SharedPool

        return SharedPool(address, sweep, nursery, host=host, secured=secured)
    return Pool(address, sweep, nursery, host=host, secured=secured)
