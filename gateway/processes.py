"""The processes of a gateway: forked, heard, told, and ended when they hang; the parent's only, and it has no loop.

Who is forked and replaced is decided in `gateway.crew`, who hangs in `gateway.vitals`; here is what both need of the
system. What a process says, and that it has ended, is given on to a `Listener`.
"""

import itertools
import logging
import select
import socket
from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.children import Child, fork
from gateway.crew import Crew, Effect, Fork, Restarted, TellToLeave
from gateway.messages import FromParent, Leave, Leaving, MessageError, Ready, ToParent
from gateway.vitals import Vitals
from zerogate.clock import now

log = logging.getLogger("gateway")


class Listener(Protocol):
    """Who is told of workers and of the other processes, by their numbers."""

    def on_begin(self, number: int) -> None:
        """A worker is forked."""

    def on_message(self, number: int, message: ToParent) -> None: ...
    def on_end(self, number: int) -> None: ...


class Lives(Protocol):
    """What a forked process does; each returns its exit code."""

    def worker(self, number: int, place: int, channel: socket.socket) -> int: ...
    def admin(self, channel: socket.socket) -> int: ...
    def cluster(self, channel: socket.socket) -> int: ...
    def let_go(self) -> None:
        """In the child, first of all: of what is the parent's own."""


class Processes:
    """See the module's text. `watches_cluster`: there is a process for that too, and no worker before `open`."""

    def __init__(
        self, count: int, lives: Lives, listener: Listener, *, hung_after_s: float, watches_cluster: bool = False
    ) -> None:
        numbers = itertools.count(1)
        self.workers = Crew(count, lambda: next(numbers))
        self.admins = Crew(1, lambda: next(numbers))
        self.clusters = Crew(1 if watches_cluster else 0, lambda: next(numbers))
        self._crews = {self.workers: "worker", self.admins: "the admin process", self.clusters: "the cluster process"}
        self._is_open = not watches_cluster
        self.hung = 0
        """Workers that were killed because they hung."""
        self._lives = lives
        self._listener = listener
        self._hung_after_s = hung_after_s
        self._vitals = Vitals(hung_after_s)
        self._children: dict[int, Child] = {}
        self._crew_by_number: dict[int, Crew] = {}

    @property
    def is_empty(self) -> bool:
        return not self._children

    @property
    def silent(self) -> int:
        """Workers that take requests, and were not heard for some reports."""
        return sum(map(self._vitals.is_silent, self.workers.present))

    @property
    def next_s(self) -> float | None:
        """When `look` has something to do."""
        times = (*(crew.next_s for crew in self._crews), self._vitals.next_s)
        return min((time_s for time_s in times if time_s is not None), default=None)

    def look(self, now_s: float) -> None:
        """Fork who is due, and end who hangs."""
        for crew in self._crews:
            if crew is not self.workers or self._is_open:
                self._perform(crew, crew.due(now_s))
        for number in self._vitals.look(now_s):
            self.hung += self._crew_by_number[number] is self.workers
            log.error(
                "%s has said nothing for %.0f s while others have: it hangs and is killed",
                self._who(number), self._hung_after_s,
            )  # fmt: skip
            self._children[number].kill()

    def open(self) -> None:
        """It is known what workers are to work by."""
        self._is_open = True

    def restart(self) -> None:
        """Replace the workers, one after the other."""
        self._perform(self.workers, self.workers.restart(now()))

    def leave(self) -> None:
        """The workers leave."""
        self._perform(self.workers, self.workers.leave())

    def leave_last(self) -> None:
        """The other processes leave, after the workers."""
        for crew in (self.admins, self.clusters):
            self._perform(crew, crew.leave())

    @property
    def others(self) -> tuple[int, ...]:
        """Numbers of all processes that are no workers."""
        return (*self.admins.present, *self.clusters.present)

    def say(self, number: int, message: FromParent) -> None:
        """Tell one of them, if it is still there."""
        child = self._children.get(number)
        if child is not None:
            child.say(message)

    def say_workers(self, message: FromParent) -> None:
        """Tell all workers."""
        for number in self.workers.present:
            self.say(number, message)

    def say_cluster(self, message: FromParent) -> None:
        """Tell the cluster process."""
        for number in self.clusters.present:
            self.say(number, message)

    def kill(self, numbers: Iterable[int]) -> None:
        """End those who do not leave."""
        for number in numbers:
            log.warning("process %d does not leave: it is killed", self._children[number].pid)
            self._children[number].kill()

    # The poll

    def register(self, poll: "select.poll") -> dict[int, Child]:
        """Have all of them polled; who stands behind which descriptor."""
        by_descriptor: dict[int, Child] = {}
        for child in self._children.values():
            poll.register(child.pidfd, select.POLLIN)
            by_descriptor[child.pidfd] = by_descriptor[child.channel.fileno()] = child
            if not child.is_mute:
                poll.register(child.channel, select.POLLIN | (select.POLLOUT if child.has_unsent else 0))
        return by_descriptor

    def hear(self, child: Child, *, has_ended: bool) -> None:
        """Something came from it, or it has ended, or takes more."""
        try:
            for message in child.read():
                self._on_message(child.number, message)
        except MessageError as error:
            log.error("process %d: %s; it is killed", child.pid, error)
            child.kill()
        if has_ended:
            self._on_end(child)
        else:
            child.write()

    def _on_message(self, number: int, message: ToParent) -> None:
        self._vitals.on_heard(number)
        crew = self._crew_by_number[number]
        if isinstance(message, Ready):
            self._vitals.on_ready(number)
            if crew is self.workers:
                log.info("%s takes requests", self._who(number))
            self._perform(crew, crew.on_ready(number, now()))
        elif isinstance(message, Leaving):
            log.info("%s was told to leave: another one takes its place", self._who(number))
            self._perform(crew, crew.on_leaving(number, now()))
        else:
            self._listener.on_message(number, message)

    def _on_end(self, child: Child) -> None:
        how, who, crew = child.reap(), self._who(child.number), self._crew_by_number[child.number]
        child.close()
        number, now_s, replaced = child.number, now(), crew.replaced
        del self._children[number]
        self._vitals.end(number)
        del self._crew_by_number[number]
        effects = crew.on_end(number, now_s)
        if crew.replaced > replaced:
            pause_s = max(0.0, (crew.next_s or now_s) - now_s)
            log.error("%s ended with %s; it is replaced %s", who, how, f"in {pause_s:.1f} s" if pause_s else "at once")
        self._listener.on_end(number)
        self._perform(crew, effects)

    def _who(self, number: int) -> str:
        crew = self._crew_by_number[number]
        name = f"worker {number}" if crew is self.workers else self._crews[crew]
        return f"{name} (process {self._children[number].pid})"

    # What a crew decided

    def _perform(self, crew: Crew, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Fork):
                self._fork(crew, effect)
            elif isinstance(effect, TellToLeave):
                self.say(effect.number, Leave(effect.is_last))
            else:
                _tell_restarted(effect)

    def _fork(self, crew: Crew, effect: Fork) -> None:
        number, place = effect.number, effect.place
        live: Callable[[socket.socket], int]
        self._crew_by_number[number] = crew
        if crew is self.admins:
            live = self._lives.admin
        elif crew is self.clusters:
            live = self._lives.cluster
        else:

            def live(channel: socket.socket) -> int:
                return self._lives.worker(number, place, channel)

            self._listener.on_begin(number)
        self._children[number] = fork(number, live, self._let_go)
        self._vitals.begin(number)

    def _let_go(self) -> None:
        self._lives.let_go()
        for child in self._children.values():
            child.close()


def _tell_restarted(effect: Restarted) -> None:
    if effect.is_complete:
        log.info("all workers were replaced")
    else:
        log.error("a new worker did not come up: the restart is given up, the others stay")
