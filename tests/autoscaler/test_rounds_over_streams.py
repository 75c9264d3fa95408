"""A replica without a sidecar, shut by a leader in real gateways' holds over real streams of reports."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from autoscaler.quiescer import SidecarQuiescer
from tests.activator.test_bare import POD, SHORT, STREAM, Gateway, placed
from tests.autoscaler.ear import Ear
from tests.autoscaler.sidecars import Fleet
from zerogate.policy import Policy
from zerogate.reporting.sender import Target
from zerogate.runtime.interface import Address

pytestmark = pytest.mark.uvloop


def report(gateway: Gateway, name: str, port: int, *, workers: int = 1) -> None:
    target = Target(addresses=(Address("127.0.0.1", port),), source=name, kind="gateway", workers=workers)
    gateway.telling = gateway.make_telling(target)
    gateway.telling.start()


@asynccontextmanager
async def leader(holders: list[str]) -> AsyncIterator[tuple[Fleet, SidecarQuiescer, Ear]]:
    """Of a ready replica without a sidecar that these gateways hold."""
    fleet = Fleet(POD)
    quiescer = SidecarQuiescer(
        fleet, call_later=asyncio.get_running_loop().call_later, is_bare=lambda source: source == POD
    )  # fmt: skip
    ear = Ear(Policy(), listener=quiescer)
    await ear.open()
    quiescer.start(ear.receiver)
    fleet.all_ready()
    quiescer.set_holders(holders)
    yield fleet, quiescer, ear
    quiescer.close()
    await ear.close()


async def test_nothing_is_let_in_while_it_is_shut_and_what_was_inside_is_waited_for() -> None:
    async with leader(["a", "b"]) as (fleet, quiescer, ear), placed() as place:
        both = [await place.gateway(), await place.gateway()]
        for name, gateway in zip("ab", both, strict=True):
            gateway.show(place.pod())
            report(gateway, name, ear.port)
        await ear.until(lambda: {"a", "b"} <= set(ear.receiver.streams))
        streams = [await place.send(gateway, STREAM) for gateway in both]
        for gateway in both:
            gateway.telling.note(["chat"])
        await ear.until(lambda: ear.traffic.in_flight == 2)
        await ear.until(lambda: quiescer.busy(f"r-{POD}") == 2)
        quiescer.close_gate(f"r-{POD}")
        await ear.until(lambda: both[0].bare.is_shut(POD) and both[1].bare.is_shut(POD))
        waiting = await place.send(both[1], SHORT, is_in=False)
        streams[0].abort()
        await both[0].until(in_flight=0)
        assert not fleet.idle
        streams[1].abort()
        await ear.until(lambda: bool(fleet.idle))
        assert both[1].told.held == 1
        quiescer.reopen_gate(f"r-{POD}")
        assert (await waiting.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        for gateway in both:
            await gateway.telling.close()


async def test_a_worker_whose_sibling_has_not_come_yet_does_not_speak_for_both() -> None:
    async with leader(["sys/a"]) as (fleet, quiescer, ear), placed() as place:
        both = [await place.gateway(), await place.gateway()]
        for gateway in both:
            gateway.show(place.pod())
        report(both[0], "sys/a/1", ear.port, workers=2)
        await ear.until(lambda: "sys/a/1" in ear.receiver.streams)
        quiescer.close_gate(f"r-{POD}")
        await ear.until(lambda: both[0].bare.is_shut(POD))
        await asyncio.sleep(0.2)
        assert not fleet.idle
        report(both[1], "sys/a/2", ear.port, workers=2)
        await ear.until(lambda: bool(fleet.idle))
        assert both[1].bare.is_shut(POD)
        for gateway in both:
            await gateway.telling.close()
