"""All gateways asked about one replica: a round is over when every one of them has nothing inside."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from autoscaler.gates import News
from autoscaler.rounds import ENDED_S, Rounds
from zerogate.reporting.leases import Leases
from zerogate.reporting.wire import LEASE_S, Quiesce, Quiesced, Reopen

POD = "ml/chat-1"


class Round:
    """Rounds, and holders that answer when a test says so."""

    def __init__(self, *pods: str) -> None:
        self.rounds = Rounds("leader")
        self.now_s = 100.0
        self.sequence = 0
        self.told: list[News] = []
        self.orders: list[tuple[str, Quiesce | Reopen]] = []
        self.rounds.set_pods(pods, self.now_s)

    def step(self) -> list[News]:
        news = self.rounds.step(self.now_s)
        self.orders += [(tell.source, tell.order) for tell in self.rounds.take_orders()]
        self.told += news
        return news

    def come(self, holder: str, incarnation: str = "i", workers: int = 1) -> None:
        self.rounds.on_stream(holder, incarnation, self.now_s, workers=workers)

    def answer(self, holder: str, inside: int = 0, incarnation: str = "i") -> list[News]:
        self.step()
        order = [order for whose, order in self.orders if whose == holder][-1]
        self.sequence += 1
        word = Quiesced("leader", order.number, self.sequence, inside, order.replica)
        self.rounds.hear(holder, incarnation, word, self.now_s)
        return self.step()


def test_every_worker_of_every_gateway_is_asked() -> None:
    it = Round("sys/a", "sys/b")
    for holder in ("sys/a/1", "sys/a/2", "sys/b/1"):
        it.come(holder)
    it.rounds.close(POD, it.now_s)
    assert it.step() == []
    assert [(whose, order.replica) for whose, order in it.orders] == [
        ("sys/a/1", POD), ("sys/a/2", POD), ("sys/b/1", POD)
    ]  # fmt: skip
    assert it.answer("sys/a/1") == []
    assert it.answer("sys/a/2", inside=1) == []
    assert it.answer("sys/b/1") == []
    assert "which may finish" in it.rounds.why_not_idle(POD, it.now_s)
    assert it.answer("sys/a/2") == [News(POD, is_idle=True)]
    assert it.rounds.waiting == 0


def test_a_gateway_of_which_not_all_workers_have_come_keeps_it() -> None:
    it = Round("sys/a")
    it.come("sys/a/1", workers=2)
    it.rounds.close(POD, it.now_s)
    assert it.answer("sys/a/1") == []
    assert "sys/a" in it.rounds.why_not_idle(POD, it.now_s)
    it.come("sys/a/2", workers=2)
    assert it.answer("sys/a/2") == [News(POD, is_idle=True)]


def test_a_worker_that_said_goodbye_is_not_waited_for_and_its_successor_counts_again() -> None:
    it = Round("sys/a")
    for holder in ("sys/a/1", "sys/a/2"):
        it.come(holder, workers=2)
    it.rounds.close(POD, it.now_s)
    it.answer("sys/a/1")
    it.rounds.on_left("sys/a/2", it.now_s)
    it.rounds.on_left("sys/a/2", it.now_s)
    assert it.step() == [News(POD, is_idle=True)]
    it.come("sys/a/3", workers=2)
    assert it.step() == [News(POD, is_idle=False)], "the new one has to say so, too"
    assert it.answer("sys/a/3") == [News(POD, is_idle=True)]


def test_a_worker_that_is_lost_is_no_reason_to_wait_for_a_third_one() -> None:
    it = Round("sys/a")
    for holder in ("sys/a/1", "sys/a/2"):
        it.come(holder, workers=2)
    it.rounds.close(POD, it.now_s)
    it.answer("sys/a/1")
    it.rounds.on_lost("sys/a/2", it.now_s)
    it.come("sys/a/3", workers=2)
    it.now_s += ENDED_S - 1.0
    it.answer("sys/a/1")
    assert it.answer("sys/a/3") == [], "what the lost one had inside is not known"
    it.now_s += 1.0
    assert it.step() == [News(POD, is_idle=True)]


def test_a_gateway_that_was_never_heard_keeps_it() -> None:
    it = Round("sys/a", "sys/b")
    it.come("sys/a/1")
    it.rounds.close(POD, it.now_s)
    assert it.answer("sys/a/1") == []
    assert "What sys/b has inside ml/chat-1 is not known" in it.rounds.why_not_idle(POD, it.now_s)
    it.rounds.set_pods(["sys/a"], it.now_s)
    assert it.step() == [News(POD, is_idle=True)]


def test_a_gateway_that_comes_is_asked_too() -> None:
    it = Round("sys/a")
    it.come("sys/a/1")
    it.rounds.close(POD, it.now_s)
    assert it.answer("sys/a/1") == [News(POD, is_idle=True)]
    it.rounds.set_pods(["sys/a", "sys/b"], it.now_s)
    assert it.step() == [News(POD, is_idle=False)]
    it.come("sys/b/1")
    assert it.answer("sys/b/1") == [News(POD, is_idle=True)]


def test_where_there_is_no_gateway_nothing_is_inside() -> None:
    it = Round()
    it.rounds.close(POD, it.now_s)
    assert it.step() == [News(POD, is_idle=True)]


def test_who_loses_its_stream_is_not_known_until_it_is_back_or_its_pod_is_gone() -> None:
    it = Round("sys/a")
    it.come("sys/a/1")
    it.rounds.close(POD, it.now_s)
    it.answer("sys/a/1")
    it.rounds.on_lost("sys/a/1", it.now_s)
    assert it.step() == [News(POD, is_idle=False)]
    it.now_s += 2 * ENDED_S
    assert it.step() == []
    due_s = it.rounds.due_s
    assert due_s is None or due_s > it.now_s
    assert it.rounds.counts("sys/a/1"), "no other one of its pod is heard, so perhaps only the way here is gone"
    assert "What sys/a/1 has inside" in it.rounds.why_not_idle(POD, it.now_s)
    it.come("sys/a/1")
    assert it.answer("sys/a/1") == [News(POD, is_idle=True)]
    it.rounds.on_lost("sys/a/1", it.now_s)
    it.step()
    it.rounds.set_pods([], it.now_s)
    assert it.step() == [News(POD, is_idle=True)]


def test_a_worker_that_is_silent_for_long_beside_others_of_its_pod_has_ended() -> None:
    it = Round("sys/a")
    it.come("sys/a/1")
    it.come("sys/a/2")
    it.rounds.close(POD, it.now_s)
    it.rounds.on_lost("sys/a/1", it.now_s)
    assert it.answer("sys/a/2") == []
    it.now_s += ENDED_S - 1.0
    assert it.answer("sys/a/2") == []
    assert it.rounds.due_s is not None
    it.now_s += 1.0
    assert it.step() == [News(POD, is_idle=True)]


def test_who_loses_its_stream_after_its_pod_is_gone_has_ended() -> None:
    it = Round("sys/a", "sys/b")
    for holder in ("sys/a/1", "sys/b/1"):
        it.come(holder)
    it.rounds.close(POD, it.now_s)
    it.answer("sys/a/1")
    it.rounds.set_pods(["sys/a"], it.now_s)
    assert it.step() == [], "it speaks still"
    it.rounds.on_lost("sys/b/1", it.now_s)
    assert it.step() == [News(POD, is_idle=True)]


def test_where_nothing_is_shut_there_is_nothing_to_look_at() -> None:
    it = Round("sys/a")
    it.come("sys/a/1")
    it.step()
    it.rounds.on_lost("sys/a/1", it.now_s)
    it.step()
    assert it.rounds.due_s is None


def test_who_says_goodbye_has_nothing_inside() -> None:
    it = Round("sys/a")
    it.come("sys/a/1")
    it.come("sys/a/2")
    it.rounds.close(POD, it.now_s)
    it.answer("sys/a/2")
    it.rounds.on_left("sys/a/1", it.now_s)
    assert it.step() == [News(POD, is_idle=True)]


def test_who_leads_no_more_remembers_no_replica() -> None:
    it = Round("sys/a")
    it.come("sys/a/1")
    it.rounds.close(POD, it.now_s)
    it.step()
    it.rounds.forget_all()
    assert it.rounds.remembered == 0
    it.rounds.close(POD, it.now_s)
    assert it.answer("sys/a/1") == [News(POD, is_idle=True)]
    it.rounds.reopen(POD, it.now_s)
    it.step()
    assert it.rounds.remembered == 0


def test_what_opens_again_is_told_to_all() -> None:
    it = Round("sys/a")
    it.come("sys/a/1")
    it.rounds.close(POD, it.now_s)
    it.answer("sys/a/1")
    it.rounds.reopen(POD, it.now_s)
    it.orders.clear()
    it.step()
    assert [(whose, type(order), order.replica) for whose, order in it.orders] == [("sys/a/1", Reopen, POD)]
    assert (it.rounds.shut, it.rounds.replicas()) == (0, ())


class Worker:
    """A gateway's worker as it is: leases, and requests that enter while no lease keeps them away."""

    def __init__(self) -> None:
        self.leases = Leases()
        self.inside = 0
        self.post: list[Quiesced] = []
        self.stream = 0
        self.is_connected = False


class Everybody(RuleBasedStateMachine):
    """Whatever is lost or late: a replica that counts as idle has nothing inside, and nothing can get in."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds = Rounds("leader")
        self.now_s = 0.0
        self.workers = {"sys/a/1": Worker(), "sys/a/2": Worker(), "sys/b/1": Worker()}
        self.sequence = 0
        self.mail: dict[str, list[Quiesce | Reopen]] = {name: [] for name in self.workers}
        self.rounds.set_pods(["sys/a", "sys/b"], 0.0)
        self.idle = False

    def _step(self) -> None:
        for news in self.rounds.step(self.now_s):
            self.idle = news.is_idle
        for tell in self.rounds.take_orders():
            worker = self.workers[tell.source]
            if worker.is_connected:
                self.mail[tell.source].append(tell.order)

    @rule(name=st.sampled_from(["sys/a/1", "sys/a/2", "sys/b/1"]))
    def connect(self, name: str) -> None:
        worker = self.workers[name]
        worker.is_connected, worker.stream = True, worker.stream + 1
        worker.post.clear()
        self.mail[name].clear()
        self.rounds.on_stream(name, "i", self.now_s)
        self._step()

    @rule(name=st.sampled_from(["sys/a/1", "sys/a/2", "sys/b/1"]))
    def lose(self, name: str) -> None:
        worker = self.workers[name]
        if worker.is_connected:
            worker.is_connected = False
            worker.post.clear()
            self.mail[name].clear()
            self.rounds.on_lost(name, self.now_s)
            self._step()

    @rule()
    def close(self) -> None:
        self.idle = False
        self.rounds.close(POD, self.now_s)
        self._step()

    @rule()
    def reopen(self) -> None:
        self.idle = False
        self.rounds.reopen(POD, self.now_s)
        self._step()

    @rule(name=st.sampled_from(["sys/a/1", "sys/a/2", "sys/b/1"]))
    def order_arrives(self, name: str) -> None:
        worker = self.workers[name]
        if self.mail[name]:
            order = self.mail[name].pop(0)
            if worker.leases.hear(order, self.now_s):
                self.sequence += 1
                worker.post.append(Quiesced("leader", order.number, self.sequence, worker.inside, order.replica))

    @rule(name=st.sampled_from(["sys/a/1", "sys/a/2", "sys/b/1"]))
    def word_arrives(self, name: str) -> None:
        worker = self.workers[name]
        if worker.post:
            self.rounds.hear(name, "i", worker.post.pop(0), self.now_s)
            self._step()

    @rule(name=st.sampled_from(["sys/a/1", "sys/a/2", "sys/b/1"]))
    def enter(self, name: str) -> None:
        worker = self.workers[name]
        if worker.leases.until_s(self.now_s) is None:
            worker.inside += 1

    @rule(name=st.sampled_from(["sys/a/1", "sys/a/2", "sys/b/1"]))
    def leave(self, name: str) -> None:
        worker = self.workers[name]
        if worker.inside:
            worker.inside -= 1
            for asker, number in worker.leases.holders(self.now_s).items():
                if worker.is_connected and not worker.inside:
                    self.sequence += 1
                    worker.post.append(Quiesced(asker, number, self.sequence, 0, POD))

    @rule(seconds=st.sampled_from([0.1, 1.0, 9.0, LEASE_S]))
    def wait(self, seconds: float) -> None:
        # in steps no longer than the shell's own: it steps when something is due
        end_s = self.now_s + seconds
        while (due_s := self.rounds.due_s) is not None and due_s < end_s:
            self.now_s = max(self.now_s, due_s)
            self._step()
            if (self.rounds.due_s or 0.0) <= self.now_s:
                break
        self.now_s = end_s
        self._step()

    @invariant()
    def who_is_idle_is_empty_and_shut(self) -> None:
        if self.idle:
            for name, worker in self.workers.items():
                # a stream that is lost for long beside another one of the pod stands for a process that has ended
                if worker.is_connected:
                    assert worker.inside == 0, name
                    assert worker.leases.until_s(self.now_s) is not None, name


TestEverybody = Everybody.TestCase
