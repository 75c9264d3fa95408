"""Holds and links of a worker, fitted to services that change."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from activator.bare import Bare
from activator.bare_replica import BareReplica
from activator.hold import Hold
from activator.holds import Holds
from gateway.file import GatewayFile, Service
from gateway.fleet import Fleet
from zerogate.clock import now
from zerogate.http.exchange import Exchange
from zerogate.http.sweep import Sweep
from zerogate.policy import Policy
from zerogate.runtime.interface import Address, Trouble
from zerogate.tasks import Nursery

HOPELESS = Trouble("container model: InvalidImageName", is_hopeless=True)


class Fitted:
    """A fleet without anybody at its addresses."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.nursery, self.watched = Nursery(), list[str]()
        sweep = Sweep(loop)
        self.holds = Holds(
            self, sweep=sweep, nursery=self.nursery, choose=lambda _: 0, call_later=loop.call_later, clock=now
        )  # fmt: skip
        self.fleet = Fleet(
            self.holds, "gateway-1", sweep=sweep, nursery=self.nursery, jitter=lambda: 0.5, watch=self._watch,
            bare=Bare(self.holds, sweep=sweep, nursery=self.nursery, slot_file=None),
        )  # fmt: skip

    def _watch(self, hold: Hold) -> None:
        self.watched.append(hold.service)

    def show(self, **services: Service) -> None:
        self.fleet.fit(GatewayFile(services))

    def on_wake(self, service: str) -> None: ...
    def on_idle(self, replica_id: str) -> None: ...
    def on_exchange_ended(self, service: str, exchange: Exchange) -> None: ...


@pytest.fixture
async def fitted() -> AsyncIterator[Fitted]:
    it = Fitted()
    yield it
    it.fleet.close()
    await it.nursery.aclose()


def service(trouble: Trouble | None = None, *addresses: str, **policy: object) -> Service:
    replicas = tuple(Address(address, 9) for address in addresses)
    return Service(policy=Policy(**policy), replicas=replicas, trouble=trouble)  # type: ignore[arg-type]


async def test_a_hold_lives_as_long_as_its_service(fitted: Fitted) -> None:
    fitted.show(a=service(), b=service())
    first = fitted.holds["a"]
    fitted.show(a=service(None, "127.0.0.9", queue_limit=3), c=service())
    assert fitted.holds["a"] is first
    assert first.policy.queue_limit == 3
    assert fitted.holds.get("b") is None
    fitted.show(b=service())
    assert fitted.watched == ["a", "b", "c", "b"]


async def test_replicas_without_a_sidecar_are_those_of_a_service_that_comes_back(fitted: Fitted) -> None:
    pod = BareReplica(name="ml/a-1", uid="u", address=Address("127.0.0.1", 9))
    for services, ready in (({"a": Service(policy=Policy(), bare=(pod,))}, 1), ({}, 0)) * 2:
        fitted.show(**services)
        assert sum(hold.ready for hold in fitted.holds) == ready


async def test_what_is_left_out_of_a_change_stays_as_it_is(fitted: Fitted) -> None:
    fitted.show(a=service(), b=service())
    held = fitted.holds["b"]
    file = GatewayFile({**fitted.fleet.file.services, "a": service(queue_limit=1)})
    fitted.fleet.take(file, {"a": file.services["a"]}, ())
    assert fitted.holds["b"] is held
    assert fitted.holds["a"].policy.queue_limit == 1


async def test_where_waiting_is_in_vain_it_is_refused_until_a_replica_may_start(fitted: Fitted) -> None:
    told: list[tuple[bool, str]] = []
    for trouble in (HOPELESS, Trouble("not scheduled: no GPU"), None):
        fitted.show(a=service(trouble))
        told.append((fitted.holds["a"].is_blocked, fitted.holds["a"].obstacle))
    assert told == [(True, HOPELESS.detail), (False, "not scheduled: no GPU"), (False, "")]


async def test_a_service_that_comes_back_has_no_trouble_left(fitted: Fitted) -> None:
    for services in ({"a": service(HOPELESS)}, {}, {"a": service()}):
        fitted.show(**services)
    assert not fitted.holds["a"].is_blocked
