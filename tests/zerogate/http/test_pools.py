"""A head is shared by all requests with the same fields: what is remembered of it is never of somebody else."""

import itertools
import random
import ssl
from typing import Any

import pytest

from tests.zerogate.http.dialogue import Sides, exchange_of, request
from zerogate.http.dial import Secured
from zerogate.http.h2.pool import SharedPool
from zerogate.http.sides import PLAIN, SECURE, Arrival
from zerogate.http.sweep import Sweep
from zerogate.http.upstream import Pool
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery

CLIENTS = (b"192.0.2.1", b"192.0.2.2")
ARRIVALS = (
    PLAIN, SECURE, *(Arrival(b"https", b"X-Forwarded-Client-Cert: Hash=%b\r\n" % name) for name in (b"aa", b"bb")),
)  # fmt: skip


def http1() -> tuple[list[Any], Any]:
    sweep, nursery, where = Sweep(), Nursery(), Address("127.0.0.1", 1)
    ways: list[dict[str, Any]] = [{}, {"host": b"one"}, {"host": b"two"}, {"holder": b"me"}]
    return [Pool(where, sweep, nursery, **way) for way in ways], Pool.request_bytes


def http2() -> tuple[list[Any], Any]:
    sweep, nursery, where = Sweep(), Nursery(), Address("127.0.0.1", 1)
    secured = Secured(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "replica.test")
    ways: list[dict[str, Any]] = [{}, {"host": b"one"}, {"host": b"two"}, {"secured": secured}]
    return [SharedPool(where, sweep, nursery, **way) for way in ways], SharedPool.request_fields


@pytest.mark.parametrize("make", [http1, http2], ids=["http1", "http2"])
async def test_what_is_remembered_of_a_head_is_of_the_same_client_and_the_same_way(make: Any) -> None:
    pools, asked = make()
    shared = request(accept="a")
    cases = list(itertools.product(pools, CLIENTS, ARRIVALS)) * 2
    random.Random(1).shuffle(cases)
    said = set()
    for pool, client, arrival in cases:
        sides = Sides()
        sides.peer, sides.arrival = client, arrival
        sent = asked(pool, exchange_of(sides, shared))
        assert sent == asked(pool, exchange_of(sides, request(accept="a")))
        said.add(sent if isinstance(sent, bytes) else tuple(sent))
    assert len(said) == len(cases) // 2, "each of them is told apart by its replica"
