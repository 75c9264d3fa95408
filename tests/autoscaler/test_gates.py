"""What a leader may conclude from what sidecars say, whatever is lost, repeated or late."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from autoscaler.gates import AGAIN_S, MARGIN_S, RENEW_S, Gates, News, Tell
from tests.fuzz import examples
from zerogate.reporting.leases import Leases
from zerogate.reporting.wire import LEASE_S, Order, Quiesce, Quiesced, Reopen


def gates() -> Gates:
    """One source, `a`, that can be spoken with."""
    it = Gates("me")
    it.on_stream("a", "i1", 0.0)
    return it


def shut(*, was_ready: bool = True) -> Gates:
    it = gates()
    it.close("a", 0.0, was_ready=was_ready)
    assert it.take_orders() == [Tell("a", Quiesce("me", 1, LEASE_S))]
    assert it.step(0.0) == []
    return it


def hear(it: Gates, number: int, sequence: int, inside: int, now_s: float, incarnation: str = "i1") -> list[News]:
    it.hear("a", incarnation, Quiesced("me", number, sequence, inside), now_s)
    return it.step(now_s)


IDLE, BUSY = [News("a", True)], [News("a", False)]


def test_who_says_that_nothing_is_inside_is_idle_until_something_enters() -> None:
    it = shut()
    assert hear(it, 1, 1, 2, 0.1) == []
    assert it.why_not_idle("a", 0.1) == "a has 2 inside, which may finish; then it is stopped."
    assert hear(it, 1, 2, 0, 0.2) == IDLE
    assert it.why_not_idle("a", 0.2) == ""
    assert hear(it, 1, 3, 1, 0.3) == BUSY
    assert hear(it, 1, 4, 0, 0.4) == IDLE


def test_a_lease_is_renewed_and_one_whose_renewals_are_not_answered_counts_from_when_it_was_made() -> None:
    it = shut()
    hear(it, 1, 1, 0, 8.0)
    assert it.step(RENEW_S - 0.1) == []
    assert it.take_orders() == []
    for now_s in (RENEW_S, RENEW_S + AGAIN_S):
        assert it.step(now_s) == []
        assert [type(tell.order) for tell in it.take_orders()] == [Quiesce]
    assert it.step(LEASE_S - MARGIN_S - 0.1) == []
    assert it.step(LEASE_S - MARGIN_S) == BUSY


def test_an_answer_to_a_renewal_makes_the_lease_longer() -> None:
    it = shut()
    hear(it, 1, 1, 0, 0.1)
    it.step(RENEW_S)
    hear(it, 2, 2, 0, RENEW_S + 0.1)
    assert it.due_s == 2 * RENEW_S
    assert it.step(LEASE_S) == [], "the first one has run out"


def test_what_comes_late_of_an_earlier_closing_counts_for_nothing() -> None:
    it = shut()
    hear(it, 1, 1, 0, 0.1)
    it.reopen("a", 0.2)
    it.close("a", 0.3, was_ready=True)
    assert [type(tell.order) for tell in it.take_orders()] == [Reopen, Quiesce]
    assert hear(it, 1, 2, 0, 0.4) == []
    assert hear(it, 3, 3, 0, 0.5) == IDLE


def test_what_comes_out_of_order_or_for_somebody_else_counts_for_nothing() -> None:
    it = shut()
    assert hear(it, 1, 5, 1, 0.1) == []
    assert hear(it, 1, 4, 0, 0.2) == []
    it.hear("a", "i1", Quiesced("you", 1, 9, 0), 0.3)
    it.hear("b", "i1", Quiesced("me", 1, 9, 0), 0.3)
    assert hear(it, 1, 9, 0, 0.3, incarnation="i0") == []


def test_a_source_that_cannot_be_asked_is_not_idle_however_long_it_is_away() -> None:
    it = shut()
    hear(it, 1, 1, 0, 0.1)
    it.on_lost("a", 1.0)
    assert it.step(1.0) == BUSY
    assert "has not been heard for 20 s" in it.why_not_idle("a", 21.0)
    assert it.step(3_600.0) == []
    assert it.due_s is None
    it.on_stream("a", "i1", 3_600.0)
    assert it.step(3_600.0) == []
    (tell,) = it.take_orders()
    assert hear(it, tell.order.number, 2, 0, 3_600.1) == IDLE


def test_a_sidecar_that_began_anew_is_asked_anew() -> None:
    it = shut()
    hear(it, 1, 7, 0, 0.1)
    it.on_stream("a", "i2", 1.0)
    assert it.step(1.0) == BUSY
    (tell,) = it.take_orders()
    assert hear(it, tell.order.number, 1, 0, 1.1, incarnation="i2") == IDLE


def test_a_replica_that_never_was_ready_and_cannot_be_asked_is_idle_at_once_until_it_is_ready() -> None:
    it = Gates("me")
    it.close("a", 5.0, was_ready=False)
    assert it.due_s is not None
    assert it.due_s <= 5.0
    assert it.step(5.0) == IDLE
    it.on_ready("a")
    assert it.due_s is not None
    assert it.due_s <= 5.0
    assert it.step(6.0) == BUSY


def test_opening_is_said_again_until_it_is_heard_or_the_lease_is_over() -> None:
    it = shut()
    it.reopen("a", 1.0)
    it.step(1.0 + AGAIN_S)
    assert [type(tell.order) for tell in it.take_orders()] == [Reopen, Reopen]
    hear(it, 3, 1, 0, 2.5)
    assert it.due_s is None
    it.reopen("a", 3.0)
    assert it.take_orders() == [], "it is not shut"


def test_who_does_not_lead_any_more_orders_nothing() -> None:
    it = shut()
    it.forget_all()
    assert (it.step(50.0), it.take_orders(), it.due_s, it.shut) == ([], [], None, 0)


class Sidecar:
    """As `queueproxy` behaves, in a few lines."""

    def __init__(self) -> None:
        self.incarnation = 0
        self.is_connected = False
        self.begin()

    def begin(self) -> None:
        self.incarnation += 1
        self.leases = Leases()
        self.sequence = 0
        self.by_gateways = self.by_others = 0

    @property
    def inside(self) -> int:
        return self.by_gateways + self.by_others


class Streams(RuleBasedStateMachine):
    """One replica, its sidecar, a leader, and a way between them that loses, repeats and delays."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.sidecar = Sidecar()
        self.gates = Gates("me")
        self.to_sidecar: list[Order] = []
        self.to_leader: list[tuple[str, Quiesced]] = []
        self.is_closed = self.is_idle = self.is_ready = False
        self.lost_s = 0.0
        self.numbers = 0

    @initialize(is_ready=st.booleans(), is_there=st.booleans())
    def begin(self, is_ready: bool, is_there: bool) -> None:
        if is_ready:
            self.it_gets_ready()
        if is_there:
            self.a_stream_comes()

    @property
    def incarnation(self) -> str:
        return str(self.sidecar.incarnation)

    def settle(self) -> None:
        """What the leader's shell does after each event."""
        for news in self.gates.step(self.now_s):
            assert news.is_idle != self.is_idle, "told twice"
            self.is_idle = news.is_idle
        for tell in self.gates.take_orders():
            if self.sidecar.is_connected:
                self.to_sidecar.append(tell.order)

    def say(self) -> None:
        """The sidecar tells whoever has a lease."""
        for asker, number in self.sidecar.leases.holders(self.now_s).items():
            self.answer(asker, number)

    def answer(self, asker: str, number: int) -> None:
        self.sidecar.sequence += 1
        word = Quiesced(asker, number, self.sidecar.sequence, self.sidecar.inside)
        if asker == "me" and self.sidecar.is_connected:
            self.to_leader.append((self.incarnation, word))

    def obey(self, order: Order) -> None:
        if self.sidecar.leases.hear(order, self.now_s):
            self.answer(order.asker, order.number)

    @rule(time_s=st.sampled_from([0.5, 4.0, 12.0, 20.0, 27.0, 70.0]))
    def time_passes(self, time_s: float) -> None:
        end_s = self.now_s + time_s
        while (due_s := self.gates.due_s) is not None and due_s <= end_s:
            self.now_s = max(self.now_s, due_s)
            self.settle()
            self.a_gate_that_is_idle_is_shut_and_empty()
        self.now_s = end_s
        self.settle()

    @precondition(lambda self: not self.is_closed)
    @rule()
    def the_runtime_wants_it_shut(self) -> None:
        self.gates.close("a", self.now_s, was_ready=self.is_ready)
        self.is_closed, self.is_idle = True, False
        self.settle()

    @precondition(lambda self: self.is_closed)
    @rule()
    def the_runtime_wants_it_open(self) -> None:
        self.gates.reopen("a", self.now_s)
        self.is_closed = self.is_idle = False
        self.settle()

    @precondition(lambda self: not self.is_ready)
    @rule()
    def it_gets_ready(self) -> None:
        self.is_ready = True
        self.gates.on_ready("a")
        self.settle()

    @precondition(lambda self: not self.sidecar.is_connected)
    @rule()
    def a_stream_comes(self) -> None:
        self.sidecar.is_connected = True
        self.gates.on_stream("a", self.incarnation, self.now_s)
        self.settle()

    @precondition(lambda self: self.sidecar.is_connected)
    @rule(restarts=st.booleans())
    def the_stream_is_lost(self, restarts: bool) -> None:
        self.lost_s = self.now_s
        self.sidecar.is_connected = False
        if restarts:
            self.sidecar.begin()
            self.to_sidecar.clear()
        self.gates.on_lost("a", self.now_s)
        self.settle()

    @precondition(lambda self: self.to_sidecar)
    @rule(data=st.data(), repeated=st.booleans())
    def an_order_arrives(self, data: st.DataObject, repeated: bool) -> None:
        place = data.draw(st.integers(0, len(self.to_sidecar) - 1))
        self.obey(self.to_sidecar[place] if repeated else self.to_sidecar.pop(place))

    @precondition(lambda self: self.to_leader)
    @rule(data=st.data(), repeated=st.booleans())
    def a_word_arrives(self, data: st.DataObject, repeated: bool) -> None:
        place = data.draw(st.integers(0, len(self.to_leader) - 1))
        incarnation, word = self.to_leader[place] if repeated else self.to_leader.pop(place)
        self.gates.hear("a", incarnation, word, self.now_s)
        self.settle()

    @precondition(lambda self: self.to_sidecar)
    @rule()
    def orders_are_lost(self) -> None:
        self.to_sidecar.clear()

    @precondition(lambda self: self.to_sidecar)
    @rule()
    def orders_arrive_in_order(self) -> None:
        self.deliver_orders()

    @precondition(lambda self: self.to_leader)
    @rule()
    def words_are_lost(self) -> None:
        self.to_leader.clear()

    @rule(is_shut=st.booleans())
    def another_autoscaler_orders(self, is_shut: bool) -> None:
        self.numbers += 1
        self.obey(Quiesce("you", self.numbers, LEASE_S) if is_shut else Reopen("you", self.numbers))

    @precondition(lambda self: self.is_ready and not self.sidecar.inside)
    @rule(has_gateway=st.booleans())
    def a_request_comes(self, has_gateway: bool) -> None:
        if not has_gateway:
            self.sidecar.by_others += 1
            self.say()
        elif self.sidecar.leases.until_s(self.now_s) is None:
            self.sidecar.by_gateways += 1

    @precondition(lambda self: self.sidecar.inside)
    @rule()
    def all_requests_end(self) -> None:
        if self.sidecar.inside:
            self.sidecar.by_gateways = self.sidecar.by_others = 0
            self.say()

    @invariant()
    def a_gate_that_is_idle_is_shut_and_empty(self) -> None:
        if not self.is_idle:
            return
        if not self.sidecar.is_connected:
            assert not self.is_ready, "nobody can know"
            return
        assert self.sidecar.leases.until_s(self.now_s) is not None, "its gate is open"
        assert not self.sidecar.by_gateways
        if self.sidecar.by_others:
            heard = self.gates._shut["a"].sequence
            assert heard < self.sidecar.sequence, "it was told, and counts as idle"

    def teardown(self) -> None:
        """With nothing lost any more everything comes right within two seconds."""
        is_closed = self.is_closed
        if self.sidecar.is_connected:
            self.the_stream_is_lost(False)
        self.a_stream_comes()
        self.all_requests_end()
        for _ in range(3):
            for deliver in (self.deliver_orders, self.deliver_words):
                deliver()
            self.time_passes(1.0)
        assert self.is_idle == is_closed
        if not is_closed:
            self.time_passes(LEASE_S)
            assert self.sidecar.leases.until_s(self.now_s) is None

    def deliver_orders(self) -> None:
        while self.to_sidecar:
            self.obey(self.to_sidecar.pop(0))

    def deliver_words(self) -> None:
        while self.to_leader:
            incarnation, word = self.to_leader.pop(0)
            self.gates.hear("a", incarnation, word, self.now_s)
            self.settle()


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=examples(250), stateful_step_count=50, deadline=None)
