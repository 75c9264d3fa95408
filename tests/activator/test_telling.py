"""What a holder does with the words of autoscalers. What it tells them is in `test_bare.py`."""

import asyncio

from activator.bare import Bare
from activator.holds import Holds
from activator.slot_locks import slot_file
from activator.telling import Telling
from zerogate.clock import now
from zerogate.http.exchange import Exchange
from zerogate.http.sweep import Sweep
from zerogate.policy import Policy
from zerogate.reporting.sender import Target
from zerogate.tasks import Nursery


class Listener:
    def on_wake(self, service: str) -> None: ...
    def on_idle(self, replica_id: str) -> None: ...
    def on_exchange_ended(self, service: str, exchange: Exchange) -> None: ...


async def test_why_a_wake_came_to_nothing_is_kept_for_who_waits_and_forgotten_when_it_is_over() -> None:
    loop, nursery = asyncio.get_running_loop(), Nursery()
    sweep = Sweep(loop)
    holds = Holds(
        Listener(), sweep=sweep, nursery=nursery, choose=lambda _: 0, call_later=loop.call_later, clock=now
    )  # fmt: skip
    holds.amend({"chat": Policy(), "other": Policy()}, ())
    telling = Telling(
        holds, Target(addresses=(), source="g", kind="gateway"), nursery=nursery, jitter=lambda: 0.5,
        on_unacknowledged=lambda _: None, bare=Bare(holds, sweep=sweep, nursery=nursery, slot_file=slot_file()),
    )  # fmt: skip
    for why in ("it may not write", ""):
        telling._sender._on_refused("chat", why)
        telling._sender._on_refused("gone", why)
        assert [holds[service].refused_wake for service in ("chat", "other")] == [why, ""]
    await nursery.aclose()
