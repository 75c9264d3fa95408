"""Tasks with an owner, a name and an end: the only place where tasks are created.

A `Nursery` belongs to one long-lived object. Its tasks are cancelled and awaited by `aclose`; one that fails tells
`on_failure`, because a task that dies unseen is a part of the product that silently stopped.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)


def _log_failure(name: str, failure: BaseException) -> None:
    log.error("task %s ended with an error", name, exc_info=failure)


class Nursery:
    """Owner of background tasks.

    `on_failure(name, exception)` is called on the loop for a task that ended with an exception; by default it is
    logged.
    """

    def __init__(self, on_failure: Callable[[str, BaseException], None] = _log_failure) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_failure = on_failure

    def start(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Start `work` as a task called `name` that ends at the latest with `aclose`."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._on_failure(task.get_name(), failure)

    async def aclose(self) -> None:
        """Cancel what still runs and wait until it has ended."""
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
