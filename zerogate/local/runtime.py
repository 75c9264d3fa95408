"""The local runtime: replicas are child processes of zerogate. The hands of `zerogate.runtime.conductor`.

Owns the processes of one instance, the lock that makes it the only owner, and the threads in which everything that
may block happens: spawning, reading /proc, copying logs. The rules (whom to stop, when to start again) are the
conductor's. Used by `zerogate up`; all methods are called on the event loop.
"""

import asyncio
import contextlib
import functools
import logging
import os
import secrets
import signal
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from zerogate import clock
from zerogate.errors import MachineError
from zerogate.http.probe import answers
from zerogate.local import logs, processes
from zerogate.local.definition import LocalDefinition
from zerogate.local.launch import Launched, LaunchFailure, launch
from zerogate.local.leftovers import Leftover, find_leftovers
from zerogate.local.lock import InstanceLock
from zerogate.local.mark import Mark
from zerogate.local.ports import Ports
from zerogate.local.replica import LocalReplica
from zerogate.local.spawn import become_subreaper
from zerogate.runtime.conductor import Conductor
from zerogate.runtime.interface import (
    Address,
    BackOff,
    EndCause,
    Ended,
    Quiescer,
    Replica,
    ReplicaState,
    RuntimeObserver,
    Scale,
)
from zerogate.tasks import Nursery

log = logging.getLogger(__name__)

LAUNCH_SPACING_S: Final = 0.007
"""Between two launches: a hundred take 0.7 s. Each brings a process that wants a core at once; let loose together on
two cores, a hundred small servers held a warm stream up for 48 ms, spaced for 15 ms (10 of them the stream's own)."""

LAUNCHES_AT_ONCE: Final = 8
"""A spawn waits until its child was scheduled. Fewer threads fall behind when the cores are busy."""

SWEEP_S: Final = 10.0
"""How often logs are bounded and strays reaped."""

ADOPTION_S: Final = 2.0
"""How long a replica left behind may take to answer before it is stopped instead."""

GIVE_UP_S: Final = 30.0
"""How long the end waits for processes that SIGKILL does not end: they hang in the kernel (a driver, a disk)."""


class ReplicaDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What only the local runtime knows of a replica, for status."""

    id: str
    service: str
    pid: int | None
    port: int
    started_s: float
    log: Path
    is_adopted: bool
    warning: str | None = None


class LocalRuntime:
    """Implements `zerogate.runtime.interface.Runtime` with child processes.

    `instance` names this zerogate among those of the machine; processes of other instances are never touched.
    `state_dir` holds its lock. Call `start` first, `aclose` last.
    """

    def __init__(self, definitions: Mapping[str, LocalDefinition], *, instance: str, state_dir: Path) -> None:
        self._definitions = dict(definitions)
        self._instance = instance
        self._lock = InstanceLock(state_dir)
        self._conductor = Conductor(self, _ceilings(definitions))
        self._replicas: dict[str, LocalReplica] = {}
        self._due: dict[str, None] = {}
        self._launch_timer: asyncio.Handle | None = None
        self._next_launch_s = 0.0
        self._launching: dict[str, tuple[LocalDefinition, Path, Future[tuple[Mark, Launched | LaunchFailure]]]] = {}
        self._is_killing = False
        self._changed = asyncio.Event()
        self._ports = Ports()
        self._nursery = Nursery()
        self._scanner = processes.Scanner()
        self._launchers = ThreadPoolExecutor(LAUNCHES_AT_ONCE, "zerogate-spawn")
        self._strays: set[int] = set()

    async def start(self) -> None:
        """Become the owner of the instance's processes; adopt or stop what an earlier one left behind.

        Raises MachineError where another zerogate owns them or the machine lacks something.
        """
        self._loop = asyncio.get_running_loop()
        _check_kernel()
        self._lock.acquire(self._instance)
        become_subreaper()
        leftovers = find_leftovers(await self._scanner.table(), self._instance)
        fit = await asyncio.gather(*(self._can_adopt(leftover) for leftover in leftovers))
        for leftover, is_fit in zip(leftovers, fit, strict=True):
            self._take_over(leftover, adopt=is_fit)
        self._nursery.start(self._sweep(), name="local runtime: sweep")

    def configure(self, definitions: Mapping[str, LocalDefinition]) -> None:
        """Replace all definitions at once.

        Replicas of services whose `definition_hash` is the same keep running; those of changed ones are drained and
        replaced by as many as were wanted; those of removed ones are drained and stopped.
        """
        old = self._definitions
        self._definitions = dict(definitions)
        changed = [
            name
            for name, new in definitions.items()
            if name in old and old[name].definition_hash != new.definition_hash
        ]
        for replica in self._replicas.values():
            new_definition = definitions.get(replica.mark.service)
            if new_definition is not None and new_definition.definition_hash == replica.mark.definition_hash:
                replica.definition = new_definition
        self._conductor.configure(_ceilings(definitions), changed, clock.now())

    # Runtime

    def subscribe(self, observer: RuntimeObserver) -> None:
        self._conductor.subscribe(observer)

    def set_quiescer(self, quiescer: Quiescer) -> None:
        self._conductor.set_quiescer(quiescer)

    def scale(self, effect: Scale) -> None:
        self._conductor.scale(effect, clock.now())

    def on_idle(self, replica_id: str) -> None:
        self._conductor.on_idle(replica_id)

    def clear_back_off(self, service: str) -> None:
        self._conductor.clear_back_off(service, clock.now())

    def replicas(self) -> list[Replica]:
        return self._conductor.replicas()

    async def aclose(self, *, drain_deadline_s: float) -> None:
        self._conductor.close(clock.now())
        if not await self._until_empty(drain_deadline_s):
            self._conductor.stop_all()
        grace_s = max((r.definition.stop_grace_s for r in self._replicas.values()), default=0.0)
        if not await self._until_empty(grace_s + GIVE_UP_S):
            left = ", ".join(f"{r.id} (pid {r.pid})" for r in self._replicas.values())
            log.error("gave up on processes that do not end although they were killed: %s", left)
        await self._nursery.aclose()
        for replica in self._replicas.values():
            replica.close()
        self._launchers.shutdown(wait=False, cancel_futures=True)
        self._scanner.close()
        self._lock.release()

    def kill_now(self) -> None:
        """End every process at once, without draining; blocks until they are dead, at most a few seconds.

        For the second Ctrl-C. `aclose` still has to be called, and returns soon then.
        """
        self._is_killing = True
        self._conductor.close(clock.now())
        wait_for_futures([future for _, _, future in self._launching.values()], timeout=2.0)
        for replica in list(self._replicas.values()):
            replica.kill()
        leaders = {replica.pid for replica in self._replicas.values()}
        for _ in range(20):
            try:
                if not self._kill_marked(leaders):
                    return
            except OSError as error:
                log.error("not sure that every process was killed: %s", error.strerror)

    def _kill_marked(self, leaders: Collection[int | None]) -> bool:
        """Kill whatever carries a mark of ours and wait for its end, but not for ever; whether there was any."""
        table = processes.read_table()
        marked = [pid for text, pids in table.by_mark.items() if self._is_ours(text) for pid in pids]
        handles = [handle for pid in marked if (handle := processes.Handle.of(table.by_pid[pid])) is not None]
        for handle in handles:
            handle.signal(signal.SIGKILL)
        processes.wait_for_end(handles, 0.5)
        for handle in handles:
            handle.close(reap=handle.pid not in leaders)  # those are waited for by their replica
        return bool(handles)

    # for status

    def log_path(self, service: str) -> Path | None:
        """Where the service's first replica writes; None for an unknown service."""
        definition = self._definitions.get(service)
        return None if definition is None else definition.log_file

    def back_off(self, service: str) -> BackOff | None:
        """Why and until when starts of the service are suspended; None where they are not."""
        return self._conductor.back_off(service)

    def details(self) -> list[ReplicaDetails]:
        """Of all replicas that have, or had, a process and are not gone."""
        return [
            ReplicaDetails(
                id=replica.id,
                service=replica.mark.service,
                pid=replica.pid,
                port=replica.mark.port,
                started_s=replica.started_s,
                log=replica.log_path,
                is_adopted=replica.is_adopted,
                warning=replica.warning,
            )
            for replica in self._replicas.values()
        ]

    # Hands

    def request_start(self, service: str) -> None:
        self._due[service] = None
        self._plan_launch()

    def stop(self, replica_id: str) -> None:
        self._replicas[replica_id].stop()

    def revisit(self, service: str, at_s: float) -> None:
        self._loop.call_later(max(0.0, at_s - clock.now()) + 0.001, self._revisit, service)

    def observer_failed(self, failure: Exception) -> None:
        log.error("an observer of the local runtime failed", exc_info=failure)

    # Events

    def on_ready(self, replica_id: str) -> None:
        self._conductor.became_ready(replica_id, clock.now())

    def on_failing(self, replica_id: str, ended: Ended) -> None:
        log.warning("%s", ended.detail)
        self._conductor.failing(replica_id, ended, clock.now())

    def on_gone(self, replica_id: str, ended: Ended) -> None:
        replica = self._replicas.pop(replica_id)
        self._ports.release(replica.mark.port)
        self._changed.set()
        self._conductor.gone(replica_id, ended, clock.now())

    # starting

    def _plan_launch(self) -> None:
        if self._launch_timer is None and self._due and len(self._launching) < LAUNCHES_AT_ONCE:
            wait_s = self._next_launch_s - clock.now()
            later = functools.partial(self._loop.call_later, wait_s) if wait_s > 0 else self._loop.call_soon
            self._launch_timer = later(self._launch_next)

    def _launch_next(self) -> None:
        """One at a time, so that a hundred wakes at once leave room for everybody else."""
        self._launch_timer = None
        service = next(iter(self._due))
        del self._due[service]
        definition = self._definitions.get(service)
        if definition is not None and self._conductor.take_start(service, clock.now()):
            self._next_launch_s = clock.now() + LAUNCH_SPACING_S
            self._launch(definition)
            self._due[service] = None  # behind the others, in case it wants several
        self._plan_launch()

    def _launch(self, definition: LocalDefinition) -> None:
        replica_id = f"{definition.service}-{secrets.token_hex(4)}"
        log_path = self._free_log(definition)
        future = self._launchers.submit(launch, definition, self._instance, replica_id, log_path, self._ports)
        self._launching[replica_id] = (definition, log_path, future)
        done = functools.partial(self._loop.call_soon_threadsafe, self._on_launched, replica_id)
        future.add_done_callback(lambda _: done())

    def _free_log(self, definition: LocalDefinition) -> Path:
        """A file that no other replica writes to: the last lines of a crash must be its own."""
        taken = {replica.log_path for replica in self._replicas.values()}
        taken.update(path for _, path, _ in self._launching.values())
        slot = 1
        while (path := logs.slot_path(definition.log_file, slot)) in taken:
            slot += 1
        return path

    def _on_launched(self, replica_id: str) -> None:
        definition, _, future = self._launching.pop(replica_id)
        self._plan_launch()
        mark, result = future.result()
        if isinstance(result, LaunchFailure):
            self._on_launch_failed(mark, result)
        else:
            self._on_spawned(mark, definition, result)
        self._changed.set()

    def _on_launch_failed(self, mark: Mark, failure: LaunchFailure) -> None:
        self._ports.release(mark.port)
        log.warning("%s: %s", mark.service, failure.detail)
        ended = Ended(cause=EndCause.START_FAILED, detail=failure.detail)
        replica = Replica(
            service=mark.service,
            id=mark.replica_id,
            state=ReplicaState.GONE,
            address=Address("127.0.0.1", mark.port),
            started_s=failure.at_s,
            ended=ended,
        )
        self._conductor.launch_failed(replica, clock.now())

    def _on_spawned(self, mark: Mark, definition: LocalDefinition, launched: Launched) -> None:
        if launched.warning:
            log.warning("%s: %s", mark.replica_id, launched.warning)
        current = self._definitions.get(mark.service)
        is_stale = current is None or current.definition_hash != mark.definition_hash
        replica = self._own(mark, definition if is_stale or current is None else current, launched)
        replica.begin()
        self._conductor.launched(_told(replica, ReplicaState.STARTING), clock.now(), is_stale=is_stale)
        if self._is_killing:
            replica.kill()

    def _own(
        self, mark: Mark, definition: LocalDefinition, launched: Launched, *, is_child: bool = True
    ) -> LocalReplica:
        replica = LocalReplica(
            mark, definition, launched, self, scanner=self._scanner, nursery=self._nursery, is_child=is_child
        )
        self._replicas[replica.id] = replica
        return replica

    def _revisit(self, service: str) -> None:
        self._conductor.revisit(service, clock.now())

    # what was left behind

    async def _can_adopt(self, leftover: Leftover) -> bool:
        mark = leftover.mark
        definition = self._definitions.get(mark.service)
        if leftover.leader is None or definition is None or definition.definition_hash != mark.definition_hash:
            return False
        address = Address("127.0.0.1", mark.port)
        return await answers(
            address, definition.ready_path, timeout_s=ADOPTION_S, ready_below=definition.ready_below,
            protocol=definition.protocol,
        )  # fmt: skip

    def _take_over(self, leftover: Leftover, *, adopt: bool) -> None:
        mark, process = leftover.mark, leftover.leader
        leader = None if process is None else processes.Handle.of(process)
        definition = self._definitions.get(mark.service) or _unknown(mark)
        launched = Launched(
            leader=leader,
            started_s=clock.now() if process is None else _started_s(process),
            log_path=_output_of(process) or definition.log_file,
        )
        self._ports.hold(mark.port)
        replica = self._own(mark, definition, launched, is_child=False)
        if adopt and leader is not None:
            log.info("%s goes on: it was left running by an earlier zerogate", mark.replica_id)
            replica.adopt()
            self._conductor.adopt(_told(replica, ReplicaState.READY), clock.now())
        else:
            log.info("%s is stopped: an earlier zerogate left it behind and it is of no use", mark.replica_id)
            self._conductor.adopt(_told(replica, ReplicaState.DRAINING), clock.now())
            replica.clear_away()

    # all along

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await self._bound_logs()
            if processes.has_dead_child():
                with contextlib.suppress(OSError):  # descriptors ran out: next time
                    await self._reap_strays()

    async def _reap_strays(self) -> None:
        table = await self._scanner.table()
        owned = {replica.pid for replica in self._replicas.values() if replica.pid is not None}
        self._strays = processes.reap_strays(table, ours=owned, seen=self._strays)

    async def _bound_logs(self) -> None:
        for replica in list(self._replicas.values()):
            if await self._loop.run_in_executor(self._launchers, logs.trim, replica.log_path):
                replica.log_offset = 0

    async def _until_empty(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                while self._replicas or self._launching:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _is_ours(self, text: str) -> bool:
        mark = Mark.parse(text)
        return mark is not None and mark.instance == self._instance


def _unknown(mark: Mark) -> LocalDefinition:
    """What can be known of a service that is no longer in the file."""
    known = LocalDefinition(
        service=mark.service, command=(), definition_hash=mark.definition_hash, log_file=Path(os.devnull)
    )
    return known if mark.stop_grace_s is None else replace(known, stop_grace_s=mark.stop_grace_s)


def _ceilings(definitions: Mapping[str, LocalDefinition]) -> dict[str, int]:
    return {name: definition.max_replicas for name, definition in definitions.items()}


def _told(replica: LocalReplica, state: ReplicaState) -> Replica:
    """As the conductor keeps it from now on."""
    return Replica(
        service=replica.mark.service,
        id=replica.id,
        state=state,
        address=replica.address,
        started_s=replica.started_s,
        ready_s=clock.now() if state is ReplicaState.READY else None,
        pid=replica.pid,
    )


def _started_s(process: processes.Process) -> float:
    """Of a process that somebody else started, in `zerogate.clock.now`; a suspended machine makes it look older."""
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - process.start_ticks / os.sysconf("SC_CLK_TCK")
    return clock.now() - age_s


def _output_of(process: processes.Process | None) -> Path | None:
    """The file to which its stdout goes."""
    if process is None:
        return None
    try:
        path = Path(f"/proc/{process.pid}/fd/1").readlink()
    except OSError:
        return None
    return path if path.is_file() else None


def _check_kernel() -> None:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError) as error:
        raise MachineError(
            "Child processes cannot be watched: this kernel has no pidfd. zerogate up needs Linux 5.4 or newer."
        ) from error
