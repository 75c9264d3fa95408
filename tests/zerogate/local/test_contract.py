from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.zerogate.local.world import LocalWorld
from tests.zerogate.runtime.contract import OwnerContract

pytestmark = [pytest.mark.slow, pytest.mark.uvloop]


class TestLocalRuntime(OwnerContract):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[LocalWorld]:
        world = LocalWorld(tmp_path)
        await world.start()
        yield world
        world.runtime.kill_now()
        await world.runtime.aclose(drain_deadline_s=0)
        world.check()
