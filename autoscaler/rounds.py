"""Which replicas without a sidecar are shut at gateways, and what follows from all their answers. Pure.

In place of one sidecar all that hold requests are asked, each worker of each gateway and activator (a *holder*), by the
same leases (`autoscaler.gates`, one gate for each replica and holder). Such a replica is idle while every holder says
so; one that comes meanwhile is asked, too, and until it has answered the replica is not idle. Each worker says how many
its pod has: as long as fewer have come, as after a start of this process, nobody knows what the others have inside.

A holder that has lost its stream says nothing, so what it has inside is not known. It is asked no more once it has said
goodbye, its pod is gone, or it has been silent for long while another one of the same pod is heard: then it has ended,
because processes of one pod have one network.

Invariant: who is idle has its gate shut in every holder that is known. Called by `autoscaler.quiescer`.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from autoscaler.gates import Gates, News, Tell
from zerogate.reporting.wire import Quiesced

ENDED_S: Final = 60.0
"""As long as a source counts that falls silent (`autoscaler.presence`)."""
_SEPARATOR: Final = "\n"


class Rounds:
    """See the module's text. Replicas and pods of holders are called NAMESPACE/POD, holders as sources of reports.

    `asker`: unlike that of any other autoscaler, of any earlier process, and of `Gates` beside it.
    """

    def __init__(self, asker: str) -> None:
        self._gates = Gates(asker)
        self._pods: tuple[str, ...] = ()
        """Of holders, that run."""
        self._streams: dict[str, str] = {}
        """Incarnations of the holders that can be spoken with."""
        self._workers: dict[str, int] = {}
        """By pod: how many holders it has, as they say, less those that have said goodbye."""
        self._lost_s: dict[str, float] = {}
        """Holders that have lost their stream, and when."""
        self._shut: dict[str, bool] = {}
        """Replicas that shall be shut, and whether it was said that they are idle."""
        self._is_new = False
        self._looked_s = -float("inf")

    # Who holds

    def set_pods(self, pods: Iterable[str], now_s: float) -> None:
        """The pods of all gateways and activators that run."""
        self._pods = tuple(pods)
        for holder in [one for one in (*self._streams, *self._lost_s) if pod_of(one) not in self._pods]:
            if holder in self._lost_s:
                self._drop(holder, now_s)
        there = dict.fromkeys((*self._pods, *map(pod_of, self._holders())))
        self._workers = {pod: count for pod, count in self._workers.items() if pod in there}
        self._is_new = True

    def on_stream(self, holder: str, incarnation: str, now_s: float, *, workers: int = 1) -> None:
        """It can be spoken with. `workers`: holders in its pod."""
        self._workers[pod_of(holder)] = workers
        self._lost_s.pop(holder, None)
        self._streams[holder] = incarnation
        for replica in self._shut:
            self._gates.on_stream(_gate(replica, holder), incarnation, now_s)
            self._close(replica, holder, now_s)

    def on_lost(self, holder: str, now_s: float) -> None:
        """It cannot be spoken with any more."""
        if self._streams.pop(holder, None) is None:
            return
        self._lost_s[holder] = now_s
        for replica in self._shut:
            self._gates.on_lost(_gate(replica, holder), now_s)
        if pod_of(holder) not in self._pods:
            self._drop(holder, now_s)
        self._is_new = True

    def on_left(self, holder: str, now_s: float) -> None:
        """It has said goodbye: it has nothing inside any more."""
        if self.counts(holder):
            pod = pod_of(holder)
            self._workers[pod] = max(1, self._workers[pod] - 1)
        self._streams.pop(holder, None)
        self._drop(holder, now_s)

    def _drop(self, holder: str, now_s: float) -> None:
        self._lost_s.pop(holder, None)
        for replica in self._shut:
            self._gates.on_lost(_gate(replica, holder), now_s)
            self._gates.reopen(_gate(replica, holder), now_s)
        self._is_new = True

    def _holders(self) -> list[str]:
        return [*self._streams, *self._lost_s]

    def counts(self, holder: str) -> bool:
        """Whether it may have requests inside: it has a stream, or has lost it and has not ended as far as is known."""
        return holder in self._streams or holder in self._lost_s

    # What is wanted

    def close(self, replica: str, now_s: float) -> None:
        """Have it shut everywhere, and keep it so; `step` says when nothing is inside."""
        self._shut[replica] = False
        self._is_new = True
        for holder in self._holders():
            incarnation = self._streams.get(holder)
            if incarnation is not None:
                self._gates.on_stream(_gate(replica, holder), incarnation, now_s)
            self._close(replica, holder, now_s)

    def _close(self, replica: str, holder: str, now_s: float) -> None:
        # whether the kubelet has called it ready says nothing of who has sent there
        self._gates.close(_gate(replica, holder), now_s, was_ready=True)

    def reopen(self, replica: str, now_s: float) -> None:
        """It may be sent to again."""
        if self._shut.pop(replica, None) is not None:
            for holder in self._holders():
                self._gates.reopen(_gate(replica, holder), now_s)
                # it is told once; what does not arrive, the end of the lease makes up for
                self._gates.on_lost(_gate(replica, holder), now_s)

    def forget_all(self) -> None:
        """Somebody else leads."""
        for replica in self._shut:
            for holder in self._streams:
                self._gates.on_lost(_gate(replica, holder), self._looked_s)
        self._gates.forget_all()
        self._shut.clear()
        self._is_new = False

    def hear(self, holder: str, incarnation: str, word: Quiesced, now_s: float) -> None:
        """A holder says what it has inside."""
        self._gates.hear(_gate(word.replica, holder), incarnation, word, now_s)

    # What follows

    def step(self, now_s: float) -> list[News]:
        """Make the orders that are due, and say of which replicas it has changed whether they are idle."""
        self._looked_s = now_s
        self._drop_ended(now_s)
        self._gates.step(now_s)
        self._is_new = False
        news: list[News] = []
        for replica, was_idle in self._shut.items():
            is_idle = not self._why(replica, now_s)
            if is_idle is not was_idle:
                self._shut[replica] = is_idle
                news.append(News(replica, is_idle))
        return news

    def _drop_ended(self, now_s: float) -> None:
        heard = {pod_of(holder): None for holder in self._streams}
        for holder, lost_s in list(self._lost_s.items()):
            if now_s >= lost_s + ENDED_S and pod_of(holder) in heard:
                self._drop(holder, now_s)

    def take_orders(self) -> list[Tell]:
        """What is to be sent now, to whom."""
        orders: list[Tell] = []
        for tell in self._gates.take_orders():
            replica, _, holder = tell.source.partition(_SEPARATOR)
            orders.append(Tell(holder, msgspec.structs.replace(tell.order, replica=replica)))
        return orders

    @property
    def due_s(self) -> float | None:
        """When `step` has something to do although nothing happened."""
        if self._is_new:
            return -float("inf")
        ends_s = (lost_s + ENDED_S for lost_s in self._lost_s.values())
        times_s = [end_s for end_s in ends_s if end_s > self._looked_s] if self._shut else []
        due_s = self._gates.due_s
        return min([*times_s, *([] if due_s is None else [due_s])], default=None)

    @property
    def shut(self) -> int:
        """Replicas that shall be shut."""
        return len(self._shut)

    @property
    def remembered(self) -> int:
        """Pairs of a replica and a holder that something is known of: none where nothing shall be shut."""
        return self._gates.streams

    @property
    def waiting(self) -> int:
        """Those of them that are not known to be idle."""
        return sum(not is_idle for is_idle in self._shut.values())

    def why_not_idle(self, replica: str, now_s: float) -> str:
        """Why a replica that is shut is not known to be idle, as a sentence; empty where it is, or is not shut."""
        return self._why(replica, now_s) if replica in self._shut else ""

    def replicas(self) -> tuple[str, ...]:
        """Those that shall be shut."""
        return tuple(self._shut)

    def _why(self, replica: str, now_s: float) -> str:
        holders = self._holders()
        known = Counter(map(pod_of, holders))
        mute = [pod for pod in self._pods if known[pod] < self._workers.get(pod, 1)]
        busy = [one for one in holders if self._gates.why_not_idle(_gate(replica, one), now_s)]
        silent = [*mute, *(one for one in busy if one not in self._streams)]
        if silent:
            return (
                f"What {silent[0]} has inside {replica} is not known, since it is not heard: a replica without a "
                "sidecar is stopped when all gateways say that they have nothing inside."
            )
        return f"Gateways have requests inside {replica}, which may finish; then it is stopped." if busy else ""


def _gate(replica: str, holder: str) -> str:
    return f"{replica}{_SEPARATOR}{holder}"


def pod_of(holder: str) -> str:
    """A holder is called NAMESPACE/POD/NAME; one without a pod's token by its own name."""
    return "/".join(holder.split("/", 2)[:2])
