"""All holds of a process: what a changed file changes about the way to replicas."""

import asyncio
import random

from activator.holds import Holds
from zerogate.clock import now
from zerogate.http.certificates import replica_context
from zerogate.http.dial import Secured
from zerogate.http.exchange import Exchange
from zerogate.http.h2.pool import SharedPool
from zerogate.http.sweep import Sweep
from zerogate.http.upstream import EndpointWay, Pool
from zerogate.policy import Policy
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery


class Listener:
    def on_wake(self, service: str) -> None: ...
    def on_idle(self, replica_id: str) -> None: ...
    def on_exchange_ended(self, service: str, exchange: Exchange) -> None: ...


async def test_a_changed_protocol_is_spoken_from_then_on_to_the_replicas_that_run() -> None:
    loop = asyncio.get_running_loop()
    holds = Holds(
        Listener(), sweep=Sweep(), nursery=Nursery(), choose=random.Random(1).randrange, call_later=loop.call_later,
        clock=now,
    )  # fmt: skip
    endpoints = {"chat": EndpointWay(Address("192.0.2.1", 80), b"192.0.2.1")}
    holds.configure({"chat": Policy()}, endpoints)
    (upstream,) = holds["chat"].replicas.values()
    first = upstream.pool
    assert isinstance(first, Pool)
    holds.configure({"chat": Policy(protocol="h2c")}, endpoints)
    second = upstream.pool
    assert isinstance(second, SharedPool)
    assert (second.address, second.host) == (first.address, first.host)
    holds.configure({"chat": Policy(protocol="h2c", queue_limit=7)}, endpoints)
    assert upstream.pool is second


async def test_an_endpoint_over_tls_stays_so_when_its_protocol_changes() -> None:
    loop = asyncio.get_running_loop()
    holds = Holds(
        Listener(), sweep=Sweep(), nursery=Nursery(), choose=random.Random(1).randrange, call_later=loop.call_later,
        clock=now,
    )  # fmt: skip
    one, two = (Secured(replica_context(None, None, verify=False, http_2=http_2), "x") for http_2 in (False, True))
    holds.configure({"chat": Policy()}, {"chat": EndpointWay(Address("192.0.2.1", 443), b"x", one)})
    (upstream,) = holds["chat"].replicas.values()
    holds.configure({"chat": Policy(protocol="h2")}, {"chat": EndpointWay(Address("192.0.2.1", 443), b"x", two)})
    assert (upstream.pool.protocol, upstream.pool.is_secure) == ("h2", True)
