"""Collections of garbage that stay short where many objects live long.

Python's full collection looks at every container that there is: 250,000 of them, which 5,000 services and their pods
are, take 90 ms in one piece. So what survived one full collection is set aside (`gc.freeze`) and not looked at again,
and a full collection is due after so few new objects that it takes some milliseconds. What is set aside and becomes a
cycle of garbage later is found once in `WHOLE_S`, when everything is looked at.

For processes that carry no traffic: those that do have few objects, and set them aside once.
"""

import asyncio
import gc
from typing import Any, Final

WHOLE_S: Final = 3600.0
"""0.1 to 0.2 s once an hour; what leaks until then are cycles of what had lived for long, of which we know none."""
_YOUNG, _MIDDLE, _OLD = 700, 10, 4
"""Python's own thresholds but for the last, 10: a full collection after 28,000 new containers, which take 10 ms."""


def set_aside() -> None:
    """What is there lives as long as the process, and is not worth looking at in every collection."""
    gc.collect()
    gc.freeze()


class ShortCollections:
    """From `start` to `close`, in the whole process. Owned by a composition root."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._before = gc.get_threshold()

    def start(self) -> None:
        """Set aside what is there, which are modules for the most part."""
        set_aside()
        gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
        gc.callbacks.append(self._on_collection)
        self._plan()

    def close(self) -> None:
        """As before."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            gc.callbacks.remove(self._on_collection)
            gc.set_threshold(*self._before)
            gc.unfreeze()

    @staticmethod
    def _on_collection(phase: str, info: dict[str, Any]) -> None:
        if phase == "stop" and info["generation"] == 2:
            gc.freeze()

    def _plan(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WHOLE_S, self._look_at_all)

    def _look_at_all(self) -> None:
        gc.unfreeze()
        gc.collect()
        self._plan()
