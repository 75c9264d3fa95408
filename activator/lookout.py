"""The lookout: which ready replicas take requests and have stopped answering anything.

A replica owes an answer while a request is inside, or was sent to it since its last byte. One that owes and has said
nothing for `QUIET_S` is asked for its ready path, one question at a time. Without an answer for `DOUBT_S` it is in
doubt: that is said (`notices`), and its hold sends new requests to others. Nothing is stopped and no request is ended
here; any byte from the replica, of whatever answer, ends the doubt. Nothing runs while nobody owes an answer.
Why so: docs/decisions/006-hung-replicas.md. Owned by `activator.holds`.
"""

import logging
from collections.abc import Callable
from typing import Final, Protocol

from activator.hold import Hold
from zerogate.http.probe import NOT_ASKED, Probe
from zerogate.http.upstream import Upstream

TURN_S: Final = 2.5
"""How often those that owe an answer are looked at: 1 µs for each."""
QUIET_S: Final = 5.0
"""Language models send a token each few ten milliseconds; whoever computes longer than this in silence is asked."""
DOUBT_S: Final = 10.0
"""As long as three failed probes of Kubernetes with its defaults take at the least."""
QUESTION_S: Final = 30.0
"""Then a question is given up and asked anew on another connection: a server that takes one after the other has found
at most two waiting for each minute that it was busy."""

log = logging.getLogger(__name__)


class Question(Protocol):
    """Asked again and again until it is answered (`is_ready`) or closed."""

    is_ready: bool
    last: str

    def start(self) -> None: ...
    def close(self) -> None: ...


Ask = Callable[[Upstream, str, Callable[[bool], None]], Question]


def ask(upstream: Upstream, path: str, on_change: Callable[[bool], None]) -> Question:
    """The question in production; a refused connection is tried again after the pause of a look."""
    pool = upstream.pool
    return Probe(pool.address, path, on_change, interval_s=QUIET_S, timeout_s=QUESTION_S, protocol=pool.protocol)


class Watch:
    """One replica that owes an answer, or did at the last look."""

    __slots__ = ("asked_s", "heard_s", "hold", "is_doubted", "question", "quiet_s", "upstream")

    def __init__(self, hold: Hold, upstream: Upstream, now_s: float) -> None:
        self.hold = hold
        self.upstream = upstream
        self.heard_s = upstream.pool.heard_s
        self.quiet_s = now_s
        """Since when nothing was heard, as far as looks can tell."""
        self.asked_s = now_s
        self.question: Question | None = None
        self.is_doubted = False

    @property
    def owes(self) -> bool:
        """Whether it has a request without having said anything since."""
        return self.upstream.gate.in_flight > 0 or self.upstream.pool.asked_s > self.upstream.pool.heard_s


class Lookout:
    """See the module's text. `watch` may be called as often as one likes; it costs a look-up."""

    def __init__(
        self,
        *,
        call_later: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float],
        ask: Ask = ask,
    ) -> None:
        self._call_later = call_later
        self._clock = clock
        self._ask = ask
        self._holds: dict[Hold, None] = {}
        self._watches: dict[Upstream, Watch] = {}
        self._is_running = False
        self._is_closed = False

    def watch(self, hold: Hold) -> None:
        """The service has requests: look at its replicas as long as one of them owes an answer."""
        self._holds[hold] = None
        if not self._is_running:
            self._plan()

    def close(self) -> None:
        """Ask no more."""
        self._is_closed = True
        for watch in self._watches.values():
            self._end_question(watch)

    def notices(self, hold: Hold) -> tuple[str, ...]:
        """A sentence for each replica of the service that is in doubt."""
        return tuple(self._says(watch) for watch in self._watches.values() if watch.hold is hold and watch.is_doubted)

    def _plan(self) -> None:
        self._is_running = not self._is_closed
        if self._is_running:
            self._call_later(TURN_S, self._turn)

    def _turn(self) -> None:
        self._is_running = False
        if self._is_closed:
            return
        now_s = self._clock()
        holds, self._holds = self._holds, {}
        for hold in holds:
            for upstream in hold.replicas.values():
                if upstream not in self._watches:
                    self._watches[upstream] = Watch(hold, upstream, now_s)
        for watch in tuple(self._watches.values()):
            self._look(watch, now_s)
        if self._watches:
            self._plan()

    def _look(self, watch: Watch, now_s: float) -> None:
        upstream = watch.upstream
        is_gone = watch.hold.replicas.get(upstream.id) is not upstream
        if is_gone:
            self._trust(watch)
        elif upstream.pool.heard_s != watch.heard_s:
            watch.heard_s, watch.quiet_s = upstream.pool.heard_s, now_s
            self._believe(watch)
        if is_gone or not (watch.owes or watch.is_doubted):
            self._end_question(watch)
            del self._watches[upstream]
        elif watch.question is None:
            if now_s - watch.quiet_s >= QUIET_S:
                self._question(watch, now_s)
        elif not watch.is_doubted and now_s - watch.asked_s >= DOUBT_S:
            self._doubt(watch)

    def _question(self, watch: Watch, now_s: float) -> None:
        watch.asked_s = now_s
        path = watch.hold.policy.ready_path
        watch.question = self._ask(watch.upstream, path, lambda is_ready: self._on_change(watch, is_ready))
        watch.question.start()

    def _on_change(self, watch: Watch, is_ready: bool) -> None:
        if is_ready:
            watch.quiet_s = self._clock()
            self._believe(watch)

    def _doubt(self, watch: Watch) -> None:
        watch.is_doubted = True
        watch.hold.doubt(watch.upstream)
        log.warning("%s: %s", watch.hold.service, self._says(watch))

    def _believe(self, watch: Watch) -> None:
        """It has said something."""
        if watch.is_doubted:
            log.info("%s: %s answers again", watch.hold.service, watch.upstream.id)
        self._trust(watch)

    def _trust(self, watch: Watch) -> None:
        self._end_question(watch)
        if watch.is_doubted:
            watch.is_doubted = False
            watch.hold.trust(watch.upstream, self._clock())

    def _end_question(self, watch: Watch) -> None:
        question, watch.question = watch.question, None
        if question is not None:
            question.close()

    def _says(self, watch: Watch) -> str:
        hold, upstream = watch.hold, watch.upstream
        inside = upstream.gate.in_flight
        count = "no request" if not inside else "1 request" if inside == 1 else f"{inside} requests"
        last = watch.question.last if watch.question is not None else NOT_ASKED
        why = f" ({last})" if last != NOT_ASKED else ""
        others = "New requests go to other replicas." if hold.has_trusted else "No other replica is ready."
        is_ours = "@" not in upstream.id
        advice = (
            " It is not ended for that; kill its process where it hangs, and another is started." if is_ours else ""
        )
        return (
            f"{upstream.id} does not answer its ready path {hold.policy.ready_path} since "
            f"{self._clock() - watch.asked_s:.0f} s{why}, {count} inside. {others}{advice}"
        )
