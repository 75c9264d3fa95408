"""Launches that are due and under way: one after the other, in threads, a few at a time.

Who wants a start asks; whether it is still wanted is settled only when its turn has come, so that a start that was
taken back meanwhile never happens. Invariants: a service that wants several gets one per turn, behind the others; no
two launches write to the same log. Owned by `zerogate.local.runtime`; called on the event loop.
"""

import asyncio
import functools
import secrets
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from pathlib import Path
from typing import Final, Protocol, TypeVar

from zerogate import clock
from zerogate.local import logs
from zerogate.local.definition import LocalDefinition
from zerogate.local.launch import Launched, LaunchFailure, launch
from zerogate.local.mark import Mark
from zerogate.local.ports import Ports

T = TypeVar("T")

LAUNCH_SPACING_S: Final = 0.007
"""Between two launches: a hundred take 0.7 s. Each brings a process that wants a core at once; let loose together on
two cores, a hundred small servers held a warm stream up for 48 ms, spaced for 15 ms (10 of them the stream's own)."""

LAUNCHES_AT_ONCE: Final = 8
"""A spawn waits until its child was scheduled. Fewer threads fall behind when the cores are busy."""


class Starter(Protocol):
    """Who wants the launches."""

    def take_start(self, service: str) -> LocalDefinition | None:
        """One start of the service is taken: what is to be started; None where none is wanted any more."""

    def used_logs(self) -> set[Path]:
        """Files to which replicas that run write."""

    def on_launched(self, mark: Mark, definition: LocalDefinition, result: Launched | LaunchFailure) -> None:
        """A launch is over."""


class Launches:
    """See the module's text."""

    def __init__(self, starter: Starter, *, instance: str, ports: Ports) -> None:
        self._starter = starter
        self._instance = instance
        self._ports = ports
        self._due: dict[str, None] = {}
        self._timer: asyncio.Handle | None = None
        self._next_s = 0.0
        self._under_way: dict[str, tuple[LocalDefinition, Path, Future[tuple[Mark, Launched | LaunchFailure]]]] = {}
        self._threads = ThreadPoolExecutor(LAUNCHES_AT_ONCE, "zerogate-spawn")

    @property
    def are_under_way(self) -> bool:
        """Whether a launch has begun and is not over."""
        return bool(self._under_way)

    def ask(self, service: str) -> None:
        """The service wants to start."""
        self._due[service] = None
        self._plan()

    def run(self, blocking: Callable[[], T]) -> asyncio.Future[T]:
        """Something else that blocks, in one of the threads."""
        return asyncio.get_running_loop().run_in_executor(self._threads, blocking)

    def wait(self, timeout_s: float) -> None:
        """Block until those under way are over, but not for longer."""
        wait_for_futures([future for _, _, future in self._under_way.values()], timeout=timeout_s)

    def close(self) -> None:
        """Begin nothing more; does not wait."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _plan(self) -> None:
        if self._timer is None and self._due and len(self._under_way) < LAUNCHES_AT_ONCE:
            loop, wait_s = asyncio.get_running_loop(), self._next_s - clock.now()
            later = functools.partial(loop.call_later, wait_s) if wait_s > 0 else loop.call_soon
            self._timer = later(self._begin_next)

    def _begin_next(self) -> None:
        """One at a time, so that a hundred wakes at once leave room for everybody else."""
        self._timer = None
        service = next(iter(self._due))
        del self._due[service]
        definition = self._starter.take_start(service)
        if definition is not None:
            self._next_s = clock.now() + LAUNCH_SPACING_S
            self._begin(definition)
            self._due[service] = None  # behind the others, in case it wants several
        self._plan()

    def _begin(self, definition: LocalDefinition) -> None:
        replica_id = f"{definition.service}-{secrets.token_hex(4)}"
        log_path = self._free_log(definition)
        future = self._threads.submit(launch, definition, self._instance, replica_id, log_path, self._ports)
        self._under_way[replica_id] = (definition, log_path, future)
        loop = asyncio.get_running_loop()
        done = functools.partial(loop.call_soon_threadsafe, self._on_over, replica_id)
        future.add_done_callback(lambda _: done())

    def _free_log(self, definition: LocalDefinition) -> Path:
        """A file that no other replica writes to: the last lines of a crash must be its own."""
        taken = self._starter.used_logs()
        taken.update(path for _, path, _ in self._under_way.values())
        slot = 1
        while (path := logs.slot_path(definition.log_file, slot)) in taken:
            slot += 1
        return path

    def _on_over(self, replica_id: str) -> None:
        definition, _, future = self._under_way.pop(replica_id)
        self._plan()
        mark, result = future.result()
        self._starter.on_launched(mark, definition, result)
