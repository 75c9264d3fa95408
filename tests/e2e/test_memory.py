"""Memory while more comes than can be served, or comes and goes without being served."""

from pathlib import Path

import pytest

from bench.idle import MIB, resident_bytes
from bench.soak import missing, overload, slope
from tests.e2e.crowd import crowd
from tests.e2e.harness import stub, zerogate

pytestmark = [pytest.mark.slow, pytest.mark.may_block]


async def test_memory_is_flat_while_a_held_crowd_comes_and_goes(tmp_path: Path) -> None:
    async with zerogate({"chat": stub("--never-ready", queue_limit=1000)}, tmp_path) as box:
        after_wave = []
        for _ in range(6):
            async with crowd(box, 500, "chat", fields="X-Filler: " + "y" * 2000 + "\r\n"):
                await box.until("chat", lambda status: status["held"] == 500)
            await box.until("chat", lambda status: status["held"] == 0)
            after_wave.append(resident_bytes(box.process.pid) / MIB)
        assert after_wave[-1] - after_wave[1] < 1.5, after_wave


async def test_b7_an_overload_of_the_full_ratio_leaves_memory_flat_and_loses_nothing(tmp_path: Path) -> None:
    service = stub(concurrency_limit=1, target_concurrency=1, hold_timeout="3s", queue_limit=200)
    async with zerogate({"chat": service}, tmp_path) as box:
        outcome = await overload(box, "chat", duration_s=24)
        assert outcome.statuses["no answer"] == 0
        assert outcome.statuses.total() == outcome.offered > 3000
        assert outcome.most_held == 200
        assert outcome.statuses["429"] > 1000
        assert outcome.statuses["503"] > 500
        # the allocator's pools still wander by some pages in so short a time
        assert slope(outcome.memory, settled_s=8) < 50 * 1024, outcome.memory
        assert await missing(box, "chat") == 0
