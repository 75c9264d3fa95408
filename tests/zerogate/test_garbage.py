"""What full collections look at, and that garbage is found all the same."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator

import pytest

from zerogate import garbage
from zerogate.garbage import ShortCollections


class Knot:
    """Part of a cycle."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
async def collections() -> AsyncIterator[ShortCollections]:
    """Started, and ended whatever happens."""
    short = ShortCollections()
    short.start()
    yield short
    short.close()


async def test_what_survived_a_full_collection_is_not_looked_at_again(collections: ShortCollections) -> None:
    kept = [[number] for number in range(1000)]
    assert any(one is kept for one in gc.get_objects())
    gc.collect()
    assert not any(one is kept for one in gc.get_objects())
    assert gc.get_freeze_count() > 1000


async def test_cycles_that_became_garbage_later_are_found_when_everything_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(garbage, "WHOLE_S", 0.05)
    short, knot = ShortCollections(), Knot()
    gone = weakref.ref(knot)
    short.start()
    del knot
    gc.collect()
    assert gone() is not None
    async with asyncio.timeout(30):
        while gone() is not None:
            await asyncio.sleep(0.01)
    short.close()


async def test_after_its_end_everything_is_as_before() -> None:
    before = gc.get_threshold(), len(gc.callbacks)
    short = ShortCollections()
    short.start()
    assert (gc.get_threshold(), len(gc.callbacks)) != before
    short.close()
    short.close()
    assert (gc.get_threshold(), len(gc.callbacks)) == before
    assert gc.get_freeze_count() == 0
