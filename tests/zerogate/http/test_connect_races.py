"""Who gets which connection while several are on their way: whatever comes first goes to whoever waits longest."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import examples
from tests.zerogate.http.dialogue import Sides, exchange_of, request, response
from tests.zerogate.http.rig import echo, replica, rig
from tests.zerogate.http.test_dial import leaving_nothing_open, refusing, silent
from zerogate.http import upstream as upstream_module
from zerogate.http.exchange import Exchange
from zerogate.http.sides import RequestTerms
from zerogate.http.sweep import Sweep
from zerogate.http.upstream import MAX_IDLE, Pool, Upstream
from zerogate.policy import Policy
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery


class Connection:
    """Stands for one to the replica."""

    may_refuse = False
    was_streamed = False

    def __init__(self) -> None:
        self.idle_since_s = 0.0
        self.is_closed = False
        self.carries: Exchange | None = None

    def send_head(self, exchange: Exchange) -> None:
        assert self.carries is None, "one connection for two exchanges"
        self.carries = exchange

    def abort(self) -> None:
        self.carries = None
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.abort()


class World:
    """A pool whose connects come about, or fail, when the test says so; in the order in which they were asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nursery = Nursery()
        self.pool = Pool(Address("127.0.0.1", 1), Sweep(), self.nursery)
        self.asked: list[asyncio.Future[Any]] = []
        self.sides: dict[Exchange, Sides] = {}
        monkeypatch.setattr(upstream_module, "open_connection", self._open)
        monkeypatch.setattr(upstream_module, "now", lambda: 0.0)

    async def _open(self, address: object, secured: object, connection: object) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.append(future)
        return await future

    async def dispatch(self) -> Exchange:
        sides = Sides()
        exchange = exchange_of(sides, request("GET"))
        self.sides[exchange] = sides
        exchange.dispatch(Upstream(service="chat", id="chat-1", gate=sides.gate, pool=self.pool), 0.0)
        await asyncio.sleep(0)
        return exchange

    async def connected(self, number: int) -> Any:
        connection = Connection()
        self.asked[number].set_result(connection)
        await settled()
        return connection

    async def failed(self, number: int) -> None:
        self.asked[number].set_exception(ConnectionRefusedError(111, "Connection refused"))
        await settled()

    async def idle(self, connection: Connection | None = None) -> Any:
        connection = connection or Connection()
        connection.carries = None
        self.pool.give_back(connection, 0.0)  # type: ignore[arg-type]
        await settled()
        return connection

    def told(self, exchange: Exchange) -> list[str]:
        return [line for line in self.sides[exchange].said if line.startswith("owner: unsent")]


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


async def test_a_connection_that_becomes_idle_first_is_taken_and_the_new_one_stays_for_the_next(world: World) -> None:
    one = await world.dispatch()
    idle = await world.idle()
    assert one.connection is idle
    late = await world.connected(0)
    assert late.carries is None
    assert (await world.dispatch()).connection is late
    assert len(world.asked) == 1


async def test_of_two_that_wait_the_first_gets_the_connection_that_comes_first(world: World) -> None:
    one, two = await world.dispatch(), await world.dispatch()
    first = await world.connected(1)
    assert one.connection is first
    assert two.wants_connection
    assert two.connection is None
    assert two is (await world.connected(0)).carries


async def test_a_failure_is_told_to_who_asked_for_it(world: World) -> None:
    one, two = await world.dispatch(), await world.dispatch()
    await world.failed(1)
    assert (world.told(one), world.told(two)) == ([], ["owner: unsent (Connection refused)"])
    assert one is (await world.connected(0)).carries


async def test_who_gave_its_own_to_another_is_told_when_that_ones_fails(world: World) -> None:
    one, two = await world.dispatch(), await world.dispatch()
    assert one is (await world.connected(1)).carries
    await world.failed(0)
    assert world.told(two) == ["owner: unsent (Connection refused)"]


async def test_a_failure_of_one_that_is_not_needed_any_more_is_told_to_nobody(world: World) -> None:
    one = await world.dispatch()
    await world.idle()
    two = await world.dispatch()
    await world.failed(0)
    assert (world.told(one), world.told(two)) == ([], [])
    assert two is (await world.connected(1)).carries


async def test_who_is_gone_is_passed_over(world: World) -> None:
    one, two = await world.dispatch(), await world.dispatch()
    one.on_downstream_gone(0.0)
    assert two is (await world.connected(0)).carries
    assert (await world.connected(1)).carries is None
    assert not world.pool._waiting


async def test_what_comes_for_nobody_is_kept_up_to_the_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_module, "IDLE_S", 1e9)  # the pool is at second 0, its sweep at that of the machine
    gone = [await world.dispatch() for _ in range(MAX_IDLE + 3)]
    for exchange in gone:
        exchange.on_downstream_gone(0.0)
    late = [await world.connected(number) for number in range(len(gone))]
    assert sum(not connection.is_closed for connection in late) == MAX_IDLE
    world.pool.close()
    assert all(connection.is_closed for connection in late)


async def test_who_waits_is_told_when_the_pool_is_closed(world: World) -> None:
    one = await world.dispatch()
    world.pool.close()
    assert world.told(one) == ["owner: unsent (the replica is not used any more)"]
    late = await world.connected(0)
    assert late.is_closed


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "connect", "fail", "answer", "leave", "late"]), st.integers(min_value=0, max_value=5)
    ),
    max_size=30,
)


@pytest.mark.fuzz
@settings(max_examples=examples(150), deadline=None)
@given(steps=STEPS)
def test_whatever_happens_nobody_waits_for_nothing_and_no_connection_is_shared(steps: list[tuple[str, int]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert asyncio.run(_walk(monkeypatch, steps)) == []


async def _walk(monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, int]]) -> list[Exchange]:
    """Take these steps, then let every connection come; returns who waits all the same."""
    world = World(monkeypatch)
    asked: list[Exchange] = []
    for what, which in steps:
        open_ = [number for number, future in enumerate(world.asked) if not future.done()]
        busy = [one for one in asked if one.connection is not None]
        if what == "ask":
            asked.append(await world.dispatch())
        elif what == "connect" and open_:
            await world.connected(open_[which % len(open_)])
        elif what == "fail" and open_:
            await world.failed(open_[which % len(open_)])
        elif what == "answer" and busy:
            one = busy[which % len(busy)]
            connection: Any = one.connection
            connection.carries = None
            world.pool.give_back(connection, 0.0)
            one.on_response(response(length=0), b"", 0.0)
            await settled()
        elif what == "leave" and asked:
            asked[which % len(asked)].on_downstream_gone(0.0)
        elif what == "late" and asked and asked[which % len(asked)].wants_connection:
            asked[which % len(asked)].on_connect_failed("no connection within 5 s", 0.0)
        wanting = [one for one in asked if one.wants_connection and not world.told(one)]
        assert len(wanting) <= world.pool._connecting
        assert world.pool._connecting == sum(not future.done() for future in world.asked)
    for number, future in enumerate(world.asked):
        if not future.done():
            await world.connected(number)
    in_vain = [one for one in asked if one.wants_connection and not world.told(one)]
    world.pool.close()
    await world.nursery.aclose()
    return in_vain


# On real sockets


async def test_a_listener_that_never_accepts_holds_up_nobody_for_longer_than_the_connect_timeout() -> None:
    with silent() as dead:
        async with rig(Policy(connect_timeout_s=0.2)) as one, leaving_nothing_open():
            pool = Pool(Address(*dead.where), one.sweep, one.nursery)
            sides = Sides(terms=RequestTerms(connect_s=-0.8))  # the pool adds the second that the exchange is ahead
            exchange = exchange_of(sides)
            exchange.dispatch(Upstream(service="chat", id="chat-1", gate=sides.gate, pool=pool), 0.0)
            async with asyncio.timeout(30):
                while not any(line.startswith("owner: unsent") for line in sides.said):
                    await asyncio.sleep(0.01)
            assert pool._connecting == 0
            pool.close()


async def test_a_listener_that_refuses_is_told_of_at_once() -> None:
    async with rig() as one, leaving_nothing_open():
        pool = Pool(Address(*refusing().where), one.sweep, one.nursery)
        sides = Sides()
        exchange_of(sides).dispatch(Upstream(service="chat", id="chat-1", gate=sides.gate, pool=pool), 0.0)
        async with asyncio.timeout(30):
            while not any(line.startswith("owner: unsent (") for line in sides.said):
                await asyncio.sleep(0.005)
        (said,) = [line for line in sides.said if line.startswith("owner:")]
        assert "Connect call failed" in said
        assert pool._connecting == 0
        pool.close()


async def test_a_burst_leaves_no_more_connections_than_requests_and_each_has_its_answer() -> None:
    async with rig(Policy(concurrency_limit=0)) as one, replica(echo) as port:
        one.add_replica(port)
        clients = [await one.connect() for _ in range(20)]
        for _ in range(5):
            bodies = await asyncio.gather(*(client.get(f"/{number}") for number, client in enumerate(clients)))
            assert bodies == [b"/%d" % number for number in range(20)]
        pool: Any = one.hold.replicas["chat-1"].pool
        assert len(pool._idle) <= 20
        assert not pool._waiting
