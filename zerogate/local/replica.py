"""One replica as processes: watched from its start until nothing of it is left.

Invariants: `gone` is told exactly once, and only when no process that belongs to the replica lives; its leader is
waited for at that moment and not before, so that the pid by which its session is recognised stays its own.
What belongs to it (`zerogate.local.members`) is looked up when it is ready, before it is stopped and after its leader
has ended. Ready is who answers *and* is not known to be somebody else on the replica's port (`listening`).
Owned by `zerogate.local.runtime`.
"""

import asyncio
import logging
import signal
from typing import Final, Protocol

from zerogate import clock
from zerogate.http.probe import Probe
from zerogate.local import logs
from zerogate.local.definition import PORT_PLACE, LocalDefinition
from zerogate.local.launch import Launched
from zerogate.local.listening import Stranger, is_listening, ports_of, stranger
from zerogate.local.mark import Mark
from zerogate.local.members import Members
from zerogate.local.processes import Handle, Scanner
from zerogate.runtime.interface import Address, EndCause, Ended
from zerogate.tasks import Nursery

log = logging.getLogger(__name__)

COUNT_EVERY_S: Final = 2.0
"""Replicas that became ready are looked at on the next multiple of it, so that a hundred of them share one reading of
/proc (10 ms with 300 processes) instead of asking for one each."""

FIRST_PAUSE_S: Final = 0.01
LONGEST_PAUSE_S: Final = 0.5


class Events(Protocol):
    """Who is told. Called on the loop."""

    def on_ready(self, replica_id: str) -> None: ...

    def on_failing(self, replica_id: str, ended: Ended) -> None:
        """It is lost: `on_gone` follows when nothing is left."""

    def on_gone(self, replica_id: str, ended: Ended) -> None: ...


class LocalReplica:
    """The processes of one replica. `begin` or `adopt` or `clear_away` once, then `stop` or `kill` at any time."""

    def __init__(
        self,
        mark: Mark,
        definition: LocalDefinition,
        launched: Launched,
        events: Events,
        *,
        scanner: Scanner,
        nursery: Nursery,
        is_child: bool = True,
    ) -> None:
        self.mark = mark
        self.definition = definition
        self.log_path = launched.log_path
        self.log_offset = launched.log_offset
        self.warning = launched.warning
        self.started_s = launched.started_s
        self.is_adopted = not is_child
        self._leader = launched.leader
        self._events = events
        self._scanner = scanner
        self._nursery = nursery
        self._loop = asyncio.get_running_loop()
        self._probe: Probe | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._members = Members(mark, launched.leader, scanner)
        self._has_exited = launched.leader is None
        self._ended: Ended | None = None
        self._was_ready = False
        self._is_stopping = False
        self._is_killing = False
        self._is_overdue = False
        self._burial: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        return self.mark.replica_id

    @property
    def pid(self) -> int | None:
        return None if self._leader is None else self._leader.pid

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.mark.port)

    # the ways to begin

    def begin(self) -> None:
        """A fresh child: ask it until it is ready, but not for ever."""
        self._watch()
        self._timer = self._loop.call_later(self.definition.start_timeout_s, self._on_start_timeout)
        self._probe = Probe(
            self.address, self.definition.ready_path, self._on_probe, ready_below=self.definition.ready_below,
            protocol=self.definition.protocol,
        )  # fmt: skip
        self._probe.start()

    def adopt(self) -> None:
        """It runs since an earlier zerogate and answers."""
        self._was_ready = True
        self._watch()
        self._count_soon()

    def clear_away(self) -> None:
        """It is left over from an earlier zerogate and not wanted."""
        if self._leader is not None:
            self._watch()
        self.stop()

    # the ways to end

    def stop(self) -> None:
        """SIGTERM to the whole group, SIGKILL to whatever is left after the grace. Without effect when it is dying."""
        if self._is_stopping:
            return
        self._is_stopping = True
        self._end_start()
        self._timer = self._loop.call_later(self.definition.stop_grace_s, self._on_grace_over)
        if self._has_exited:
            self._bury()
        else:
            self._nursery.start(self._terminate(), name=f"stop {self.id}")

    def kill(self) -> None:
        """SIGKILL now to all that is known of it; what is not known yet follows."""
        self._is_stopping = self._is_killing = True
        self._end_start()
        self._members.send(signal.SIGKILL)
        self._bury()

    def close(self) -> None:
        """Let go of what still lives: only for a runtime that gives up on it."""
        self._end_start()
        if self._leader is not None and not self._has_exited:
            self._loop.remove_reader(self._leader.fd)
        self._members.close()

    # while it runs

    def _watch(self) -> None:
        assert self._leader is not None
        self._loop.add_reader(self._leader.fd, self._on_exit)

    def _on_probe(self, is_ready: bool) -> None:
        if not is_ready or self._is_stopping or self._has_exited:
            return
        self._nursery.start(self._confirm(), name=f"confirm {self.id}")

    async def _confirm(self) -> None:
        """Somebody answers on the port. Is it the replica?"""
        other = await self._stranger()
        if self._is_stopping or self._has_exited:
            return
        if other is not None and other.is_thief:
            self._fail(self._taken(other, "It was stopped"))
            self.stop()
            return
        self._was_ready = True
        self._end_start()
        self._count_soon()
        self._events.on_ready(self.id)

    async def _stranger(self) -> Stranger | None:
        """Who listens on the port that is none of the replica's; None also where that cannot be found out."""
        assert self._leader is not None
        port, leader = self.mark.port, self._leader.pid
        try:
            if not self._has_exited and await self._scanner.run(lambda: is_listening(leader, port)):
                return None
            table = await self._scanner.table()
            members = [one.pid for one in table.members(mark=str(self.mark), leader=leader)]
            since_ticks = table.by_pid[leader].start_ticks
            return await self._scanner.run(lambda: stranger(port, members, table, since_ticks=since_ticks))
        except (OSError, KeyError) as error:
            log.warning("%s: whose port %d is could not be found out: %s", self.id, port, error)
            return None

    def _taken(self, other: Stranger, what: str) -> Ended:
        detail = f"{what}: before {self.id} listened on its port {self.mark.port}, {other} did."
        code = None if self._leader is None else self._leader.exit_code(reap=False)
        return Ended(cause=EndCause.PORT_TAKEN, detail=detail, exit_code=code, last_lines=self._last_lines())

    def _on_start_timeout(self) -> None:
        self._nursery.start(self._give_up(), name=f"give up {self.id}")

    async def _give_up(self) -> None:
        """It is not ready in time. Did it listen somewhere else?"""
        ports = await self._ports()
        if self._is_stopping or self._has_exited or self._was_ready:
            return
        last = self._probe.last if self._probe is not None else ""
        advice = "Raise start-timeout if it needs longer."
        if ports and self.mark.port not in ports:
            advice = f"It listens on {' and '.join(map(str, ports))} instead: {PORT_PLACE} in its command is its port."
        detail = (
            f"{self.id} was not ready within {self.definition.start_timeout_s:g} s: asked for "
            f"{self.definition.ready_path} on port {self.mark.port}, {last}. {advice}"
        )
        self._fail(Ended(cause=EndCause.START_TIMEOUT, detail=detail, last_lines=self._last_lines()))
        self.stop()

    async def _ports(self) -> list[int]:
        """Where its processes listen; none where that cannot be found out."""
        assert self._leader is not None
        try:
            table = await self._scanner.table()
            members = [one.pid for one in table.members(mark=str(self.mark), leader=self._leader.pid)]
            return await self._scanner.run(lambda: ports_of(members))
        except OSError:
            return []

    def _end_start(self) -> None:
        if self._probe is not None:
            self._probe.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_exit(self) -> None:
        assert self._leader is not None
        self._loop.remove_reader(self._leader.fd)
        self._has_exited = True
        if self._is_stopping:
            self._bury()
            return
        self._is_stopping = self._is_killing = True
        self._end_start()
        if self._was_ready or self._leader.exit_code(reap=False) in (None, 0):
            self._fail(self._end_by_itself(self._leader.exit_code(reap=False)))
            self._bury()
        else:
            self._nursery.start(self._fail_to_start(), name=f"cause of {self.id}")

    async def _fail_to_start(self) -> None:
        assert self._leader is not None
        other = await self._stranger()
        if self._burial is not None:
            return  # killed meanwhile
        ended = self._end_by_itself(self._leader.exit_code(reap=False))
        if other is not None and (other.is_thief or other.pid is None):
            ended = self._taken(other, ended.detail.rstrip("."))
        self._fail(ended)
        self._bury()

    def _fail(self, ended: Ended) -> None:
        self._ended = ended
        self._events.on_failing(self.id, ended)

    def _end_by_itself(self, code: int | None) -> Ended:
        after_s = clock.now() - self.started_s
        when = f"after {after_s:.1f} s" if self._was_ready else f"after {after_s:.1f} s, before it was ready"
        return Ended(
            cause=EndCause.CRASHED if self._was_ready else EndCause.START_FAILED,
            detail=f"{self.id} {_how(code)} {when}.",
            exit_code=code,
            last_lines=self._last_lines(),
        )

    def _last_lines(self) -> tuple[str, ...]:
        return () if self.warning else logs.tail(self.log_path, self.log_offset)

    # until nothing is left

    def _count_soon(self) -> None:
        wait_s = COUNT_EVERY_S - self._loop.time() % COUNT_EVERY_S
        self._timer = self._loop.call_later(wait_s, lambda: self._nursery.start(self._count(), name=f"count {self.id}"))

    async def _count(self) -> bool:
        """Look up what belongs to the replica; False where descriptors ran out on the way."""
        # the pid of an adopted leader that has ended may be somebody else's by now: we are not its parent
        return await self._members.count(is_leader_known=not (self.is_adopted and self._has_exited))

    async def _terminate(self) -> None:
        await self._count()
        if not self._is_killing:
            self._members.send_to_group(signal.SIGTERM)

    def _on_grace_over(self) -> None:
        self._timer = None
        self._is_overdue = True
        self.kill()

    def _bury(self) -> None:
        if self._burial is None:
            self._burial = self._nursery.start(self._end_all(), name=f"end {self.id}")

    async def _end_all(self) -> None:
        """End what the leader left behind: politely while the grace lasts, then not."""
        while True:
            is_complete = await self._count()
            living = self._members.living()
            if is_complete and self._has_exited and not living:
                break
            for handle in living:
                handle.signal(signal.SIGKILL if self._is_killing else signal.SIGTERM)
            await self._pause(living)
        self._end_start()
        ended = self._final()
        self._members.close()
        self._events.on_gone(self.id, ended)

    async def _pause(self, living: list[Handle]) -> None:
        """Until those have ended; but look for new ones now and then."""
        pause_s = FIRST_PAUSE_S
        while pause_s < LONGEST_PAUSE_S:
            await asyncio.sleep(pause_s)
            pause_s *= 2
            if self._has_exited and not any(handle.is_alive() for handle in living):
                return

    def _final(self) -> Ended:
        code = None if self._leader is None else self._leader.exit_code(reap=False)
        if self._ended is not None:
            return Ended(
                cause=self._ended.cause, detail=self._ended.detail, exit_code=code, last_lines=self._ended.last_lines
            )
        if self._is_overdue:
            detail = f"{self.id} was stopped; it did not end within {self.definition.stop_grace_s:g} s and was killed."
        else:
            detail = f"{self.id} was stopped."
        return Ended(cause=EndCause.STOPPED, detail=detail, exit_code=code)


def _how(code: int | None) -> str:
    if code is None:
        return "ended (how is not known: it was adopted from an earlier zerogate)"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "a signal"
    hint = " (if nobody did: out of memory? See dmesg.)" if -code == signal.SIGKILL else ""
    return f"was ended by {name} ({-code}){hint}"
