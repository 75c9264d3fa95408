"""The lookout: who owes an answer is asked, who answers nothing is said and passed over."""

from collections.abc import Callable
from typing import Any

import pytest

from activator.lookout import DOUBT_S, QUIET_S, TURN_S, Lookout
from tests.activator.world import World
from zerogate.http.exchange import Exchange
from zerogate.http.probe import NOT_ASKED


class Question:
    """One that a test answers or leaves open."""

    def __init__(self, replica: str, path: str, on_change: Callable[[bool], None]) -> None:
        self.replica = replica
        self.path = path
        self.on_change = on_change
        self.is_ready = False
        self.last = NOT_ASKED
        self.is_closed = False

    def start(self) -> None: ...

    def close(self) -> None:
        self.is_closed = True

    def answer(self) -> None:
        self.is_ready = True
        self.on_change(True)


class Scene(World):
    """Replicas under the eyes of a lookout; time goes from one look to the next."""

    def __init__(self, *names: str, **policy: Any) -> None:
        super().__init__(**policy)
        self.looks: list[Callable[[], None]] = []
        self.questions: list[Question] = []
        self.lookout = Lookout(call_later=self.look_later, clock=lambda: self.now_s, ask=self.ask)
        self.by_name = {name: self.replica(name) for name in names}
        for replica in self.by_name.values():
            replica.asked_s = replica.heard_s = 0.0

    def look_later(self, delay_s: float, look: Callable[[], None]) -> None:
        assert delay_s == TURN_S
        self.looks.append(look)

    def ask(self, upstream: Any, path: str, on_change: Callable[[bool], None]) -> Question:
        self.questions.append(Question(upstream.id, path, on_change))
        return self.questions[-1]

    def request(self) -> Exchange:
        exchange = self.arrive()
        replica: Any = exchange.upstream
        replica.asked_s = self.now_s
        self.lookout.watch(self.hold)
        return exchange

    def pass_s(self, seconds: float) -> None:
        """Time goes by, and every look that falls into it is taken."""
        end_s = self.now_s + seconds
        while self.looks and self.now_s + TURN_S <= end_s:
            self.now_s += TURN_S
            self.looks.pop(0)()
        self.now_s = end_s

    def notices(self) -> tuple[str, ...]:
        return self.lookout.notices(self.hold)


UNTIL_ASKED_S = TURN_S + QUIET_S
UNTIL_DOUBTED_S = UNTIL_ASKED_S + DOUBT_S


def test_a_silent_replica_is_asked_for_its_ready_path_and_then_said() -> None:
    scene = Scene("a", ready_path="/alive")
    scene.request()
    scene.request()
    scene.pass_s(UNTIL_ASKED_S - TURN_S)
    assert not scene.questions
    scene.pass_s(TURN_S)
    assert [(one.replica, one.path) for one in scene.questions] == [("a", "/alive")]
    assert not scene.notices()
    scene.pass_s(DOUBT_S + 2 * TURN_S)
    (notice,) = scene.notices()
    assert notice.startswith("a does not answer its ready path /alive since 15 s, 2 requests inside. No other")
    assert len(scene.questions) == 1


def test_new_requests_go_to_the_others_and_wait_for_them_rather_than_for_one_in_doubt() -> None:
    scene = Scene("a", "b", concurrency_limit=2)
    first = scene.request()
    scene.pass_s(UNTIL_DOUBTED_S)
    assert "New requests go to other replicas" in scene.notices()[0]
    doubted: Any = first.upstream
    later = [scene.arrive() for _ in range(3)]
    assert [one.upstream for one in later[:2]] == [next(r for r in scene.by_name.values() if r is not doubted)] * 2
    assert (later[2].upstream, scene.hold.queue.length) == (None, 1)


def test_the_only_replica_goes_on_taking_requests() -> None:
    scene = Scene("a")
    scene.request()
    scene.pass_s(UNTIL_DOUBTED_S)
    assert scene.notices()
    assert scene.arrive().upstream is scene.by_name["a"]


def test_a_byte_of_any_answer_ends_the_doubt_and_lets_in_who_waits() -> None:
    scene = Scene("a", "b", concurrency_limit=1)
    first = scene.request()
    scene.pass_s(UNTIL_DOUBTED_S)
    doubted: Any = first.upstream
    scene.arrive()
    scene.answer(first)
    waiting = scene.arrive()
    assert waiting.upstream is None
    doubted.heard_s = scene.now_s
    scene.pass_s(TURN_S)
    assert (scene.notices(), waiting.upstream) == ((), doubted)
    assert all(one.is_closed for one in scene.questions if one.replica == doubted.id)


def test_an_answer_on_the_ready_path_ends_the_doubt_at_once() -> None:
    scene = Scene("a")
    scene.request()
    scene.pass_s(UNTIL_DOUBTED_S)
    assert scene.notices()
    assert scene.hold.doubted == {"a"}
    scene.questions[0].answer()
    assert not scene.notices()
    assert not scene.hold.doubted


def test_a_replica_that_streams_is_never_asked() -> None:
    scene = Scene("a")
    scene.request()
    for _ in range(20):
        scene.by_name["a"].heard_s = scene.now_s
        scene.pass_s(TURN_S)
    assert not scene.questions


def test_one_that_computes_in_silence_and_answers_its_ready_path_is_asked_again_slowly() -> None:
    scene = Scene("a")
    scene.request()
    scene.pass_s(UNTIL_ASKED_S)
    for count in range(1, 5):
        assert len(scene.questions) == count
        scene.questions[-1].answer()
        scene.pass_s(QUIET_S)
    assert not scene.notices()


def test_clients_that_give_up_early_do_not_hide_a_replica_that_hangs() -> None:
    scene = Scene("a")
    for _ in range(10):
        scene.request().on_downstream_gone(scene.now_s + 1)
        scene.pass_s(TURN_S)
    assert "no request inside" in scene.notices()[0]


def test_nothing_runs_once_every_answer_was_given() -> None:
    scene = Scene("a")
    exchange = scene.request()
    scene.pass_s(TURN_S)
    scene.by_name["a"].heard_s = scene.now_s + 0.1
    scene.answer(exchange)
    scene.pass_s(TURN_S)
    assert (scene.looks, scene.questions) == ([], [])


def test_what_the_server_said_instead_is_in_the_notice() -> None:
    scene = Scene("a")
    scene.request()
    scene.pass_s(UNTIL_ASKED_S)
    scene.questions[0].last = "it answers 503"
    scene.pass_s(DOUBT_S)
    assert "since 10 s (it answers 503), 1 request inside" in scene.notices()[0]


@pytest.mark.parametrize("is_doubted", [False, True])
def test_a_replica_that_is_gone_is_not_asked_any_more(*, is_doubted: bool) -> None:
    scene = Scene("a", "b")
    replica: Any = scene.request().upstream
    scene.pass_s(UNTIL_DOUBTED_S if is_doubted else UNTIL_ASKED_S)
    scene.hold.remove(replica.id)
    scene.pass_s(TURN_S)
    assert (scene.notices(), scene.questions[0].is_closed, scene.looks) == ((), True, [])


def test_after_the_end_nothing_is_asked() -> None:
    scene = Scene("a")
    scene.request()
    scene.pass_s(UNTIL_ASKED_S)
    scene.lookout.close()
    scene.pass_s(60)
    assert (scene.questions[0].is_closed, len(scene.questions), scene.looks) == (True, 1, [])


def test_nobody_is_advised_to_kill_what_runs_elsewhere() -> None:
    scene = Scene("chat@192.0.2.1:80")
    scene.request()
    scene.pass_s(UNTIL_DOUBTED_S)
    assert scene.notices()[0].endswith("1 request inside. No other replica is ready.")
