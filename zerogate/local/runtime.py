"""The local runtime: replicas are child processes of zerogate. The hands of `zerogate.runtime.conductor`.

Owns the processes of one instance, the lock that makes it the only owner, and the threads in which everything that
may block happens: spawning (`launches`), reading /proc, copying logs. The rules (whom to stop, when to start again)
are the conductor's. Used by `zerogate up`; all methods are called on the event loop.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from zerogate import clock
from zerogate.local import logs, processes
from zerogate.local.adoption import as_launched, can_adopt, unknown
from zerogate.local.definition import LocalDefinition
from zerogate.local.kill import kill_marked
from zerogate.local.launch import Launched, LaunchFailure
from zerogate.local.launches import Launches
from zerogate.local.leftovers import Leftover, find_leftovers
from zerogate.local.lock import InstanceLock
from zerogate.local.mark import Mark
from zerogate.local.ports import Ports
from zerogate.local.replica import LocalReplica
from zerogate.local.spawn import become_subreaper, check_kernel
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

SWEEP_S: Final = 10.0
"""How often logs are bounded and strays reaped."""

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
        self._is_killing = False
        self._changed = asyncio.Event()
        self._ports = Ports()
        self._nursery = Nursery()
        self._scanner = processes.Scanner()
        self._launches = Launches(self, instance=instance, ports=self._ports)
        self._strays: set[int] = set()

    async def start(self) -> None:
        """Become the owner of the instance's processes; adopt or stop what an earlier one left behind.

        Raises MachineError where another zerogate owns them or the machine lacks something.
        """
        self._loop = asyncio.get_running_loop()
        check_kernel()
        self._lock.acquire()
        become_subreaper()
        leftovers = find_leftovers(await self._scanner.table(), self._instance)
        fit = await asyncio.gather(*(can_adopt(one, self._definitions.get(one.mark.service)) for one in leftovers))
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
        self._launches.close()
        self._scanner.close()
        self._lock.release()

    def kill_now(self) -> None:
        """End every process at once, without draining; blocks until they are dead, at most a few seconds.

        For the second Ctrl-C. `aclose` still has to be called, and returns soon then.
        """
        self._is_killing = True
        self._conductor.close(clock.now())
        self._launches.wait(2.0)
        for replica in list(self._replicas.values()):
            replica.kill()
        leaders = {replica.pid for replica in self._replicas.values()}
        for _ in range(20):
            try:
                if not kill_marked(self._instance, leaders):
                    return
            except OSError as error:
                log.error("not sure that every process was killed: %s", error.strerror)

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
        self._launches.ask(service)

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

    # starting (Starter)

    def take_start(self, service: str) -> LocalDefinition | None:
        definition = self._definitions.get(service)
        wanted = definition is not None and self._conductor.take_start(service, clock.now())
        return definition if wanted else None

    def used_logs(self) -> set[Path]:
        return {replica.log_path for replica in self._replicas.values()}

    def on_launched(self, mark: Mark, definition: LocalDefinition, result: Launched | LaunchFailure) -> None:
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

    def _take_over(self, leftover: Leftover, *, adopt: bool) -> None:
        mark = leftover.mark
        definition = self._definitions.get(mark.service) or unknown(mark)
        launched = as_launched(leftover, definition)
        self._ports.hold(mark.port)
        replica = self._own(mark, definition, launched, is_child=False)
        if adopt and launched.leader is not None:
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
            if await self._launches.run(partial(logs.trim, replica.log_path)):
                replica.log_offset = 0

    async def _until_empty(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                while self._replicas or self._launches.are_under_way:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True


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
