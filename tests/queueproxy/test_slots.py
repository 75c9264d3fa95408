"""The slots without sockets: who enters, who waits, who is turned away, in any order of events."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from queueproxy.grants import KEPT_S
from queueproxy.slots import GRACE_S, Bounds, Slots
from tests.zerogate.http.dialogue import Sides, request, response
from zerogate.counters import Result
from zerogate.errors import Refusal
from zerogate.http.answers import render_for
from zerogate.http.exchange import Exchange
from zerogate.http.memory import BufferMemory
from zerogate.http.phases import CONNECTING, ENDED, HELD, SENT
from zerogate.http.sides import RequestTerms
from zerogate.names import NOT_SENT
from zerogate.retries import BURST_S, FLOOR_PER_S, PAUSE_S


class Replica(Sides):
    address = "127.0.0.1:8000"


class Refused(Replica):
    """Keeps what it is refused with."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[Refusal] = []

    def send_refusal(self, refusal: Refusal, *, extra: bytes) -> None:
        self.refusals.append(refusal)


class Later:
    """The loop's clock and timers, as the test says; chance is always the most."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, wait_s: float, call: Callable[[], None]) -> None:
        self.calls.append((wait_s, call))

    def come(self) -> list[float]:
        """What was put off happens now; how long each was to wait."""
        calls, self.calls = self.calls, []
        for wait_s, call in calls:
            self.now_s += wait_s
            call()
        return [wait_s for wait_s, _ in calls]


def slots_of(
    sides: Sides, *, limit: int = 1, queue_limit: int = 2, emptied: list[bool] | None = None, later: Later | None = None
) -> Slots:
    bounds = Bounds(limit=limit, queue_limit=queue_limit, queue_bytes=1 << 20, hold_s=10.0)
    heard = emptied if emptied is not None else []
    later = later or Later()
    return Slots(
        "chat", bounds, RequestTerms(), cast(Any, sides), on_empty=lambda: heard.append(True),
        choose=lambda below: below - 1, call_later=later.call_later, clock=lambda: later.now_s,
    )  # fmt: skip


def arrive(slots: Slots, sides: Sides, now_s: float = 0.0, **fields: Any) -> Exchange:
    exchange = Exchange(cast(Any, sides), request(**fields), now_s)
    slots.place(exchange, now_s)
    exchange.on_request_end([], now_s)
    return exchange


def ready(sides: Sides, **more: Any) -> Slots:
    slots = slots_of(sides, **more)
    slots.set_ready(True, "it answers 200", 0.0)
    return slots


def test_before_the_replica_is_ready_a_request_is_turned_away_with_the_reason() -> None:
    sides = Replica()
    slots = slots_of(sides)
    arrive(slots, sides)
    assert sides.hear() == ["client: refused 503 replica_not_ready"]
    assert slots.is_empty


def test_those_that_wait_go_elsewhere_when_the_replica_is_not_ready_any_more() -> None:
    sides = Replica()
    slots = ready(sides)
    running, waiting = arrive(slots, sides), arrive(slots, sides)
    slots.set_ready(False, "it answers 503", 1.0)
    assert (running.phase, waiting.code) == (SENT, "replica_not_ready")
    assert (slots.meter.in_flight, slots.meter.held) == (1, 0)


def test_with_no_memory_left_a_body_that_would_have_to_wait_goes_elsewhere_and_a_get_waits() -> None:
    sides = Replica()
    sides.memory = BufferMemory(limit_bytes=0)
    slots = ready(sides)
    arrive(slots, sides)
    sides.hear()
    refused = arrive(slots, sides, method="POST", body=10)
    assert (refused.code, arrive(slots, sides).phase) == ("memory_full", HELD)


def test_while_clients_do_not_take_their_answers_everybody_goes_elsewhere_until_they_do() -> None:
    sides = Replica()
    sides.memory = BufferMemory(limit_bytes=1000)
    slots = ready(sides)
    sides.memory.recount_answer(0, 1000)
    refused = arrive(slots, sides)
    assert (refused.code, slots.meter.refused, slots.meter.in_flight) == ("memory_full", 1, 0)
    sides.memory.recount_answer(1000, 0)
    assert arrive(slots, sides).phase == SENT


def test_a_websocket_runs_only_while_it_is_not_quiet() -> None:
    sides = Replica()
    slots = ready(sides)
    exchange = arrive(slots, sides, 1.0)
    exchange.head.websocket_key = b"dGhlIHNhbXBsZSBub25jZQ=="
    tunnel = exchange.on_switched(response(101), 1.0)
    slots.on_quiet(exchange, 4.0)
    slots.on_roused(exchange, 10.0)
    tunnel.on_client_lost(12.0)
    meter = slots.meter
    assert (meter.completed_run_s, meter.completions, meter.in_flight, slots.gate.lasting) == (5.0, 2, 0, 0)


def test_without_a_limit_nobody_waits() -> None:
    sides = Replica()
    slots = ready(sides, limit=0, queue_limit=0)
    assert [arrive(slots, sides).phase for _ in range(50)] == [SENT] * 50


def test_open_websockets_of_one_gateway_leave_places_for_what_another_one_held() -> None:
    sides = Replica()
    slots = ready(sides, limit=0)
    slots.join(b"one", 0.0)
    other = slots.join(b"other", 0.0)
    socket = arrive(slots, sides, zerogate_holder="one")
    slots.report(other, 1, 0, 1.0)
    assert other.allowance == 0
    told: list[int] = []
    slots.on_change = lambda: told.append(other.allowance)
    socket.head.websocket_key = b"dGhlIHNhbXBsZSBub25jZQ=="
    socket.on_switched(response(101), 2.0)
    assert other.allowance == 1
    assert told[-1:] == [1]
    socket.on_downstream_gone(3.0)
    assert (slots.gate.in_flight, slots.gate.lasting, other.allowance) == (0, 0, 1)


def test_retry_after_grows_with_the_queue_and_with_what_requests_take() -> None:
    sides = Replica()
    slots = ready(sides, queue_limit=5)
    first = arrive(slots, sides)
    for _ in range(5):
        arrive(slots, sides)
    first.on_response_head(response(length=0), 4.0)
    first.on_response_end([], 4.0)
    assert slots.expected_wait_s() == 20.0


def test_a_connection_that_cannot_be_made_is_not_sent_and_frees_the_slot_for_the_next() -> None:
    sides = Replica(connected=False)
    slots = ready(sides)
    first, second = arrive(slots, sides), arrive(slots, sides)
    assert (first.phase, second.phase) == (CONNECTING, HELD)
    first.on_connect_failed("refused", 1.0)
    assert (first.code, second.phase) == ("replica_unreachable", CONNECTING)
    assert slots.gate.in_flight == slots.meter.in_flight == 1
    assert slots.meter.completions == 0


def test_a_get_whose_pooled_connection_was_closed_is_sent_again_in_its_own_slot() -> None:
    sides, later = Replica(), Later()
    slots = ready(sides, later=later)
    exchange = arrive(slots, sides)
    pauses = []
    for attempt in (2, 3):
        exchange.on_upstream_lost("closed", 1.0)
        assert (exchange.phase, slots.gate.in_flight, slots.meter.held) == (HELD, 1, 0)
        pauses += later.come()
        assert (exchange.phase, exchange.attempts, slots.gate.in_flight) == (SENT, attempt, 1)
    assert pauses == [PAUSE_S, 2 * PAUSE_S]
    exchange.on_upstream_lost("closed", 1.0)
    assert (exchange.code, exchange.status, slots.gate.in_flight) == ("replica_lost", 502, 0)
    assert slots.counters.retries_by_why == {"connect": 0, "lost": 2, "turned_away": 0}


def test_no_more_is_sent_again_than_the_budget_allows() -> None:
    sides, later = Replica(), Later()
    slots = ready(sides, limit=0, later=later)
    allowed = int(FLOOR_PER_S * BURST_S)
    lost = [arrive(slots, sides) for _ in range(allowed + 1)]
    for exchange in lost:
        exchange.on_upstream_lost("closed", 0.0)
    later.come()
    assert [exchange.phase for exchange in lost] == [SENT] * allowed + [ENDED]
    assert (lost[-1].code, lost[-1].status, lost[-1].attempts) == ("retry_budget_spent", 503, 1)
    assert slots.counters.refused_by_code == {"retry_budget_spent": 1}
    assert slots.gate.in_flight == slots.meter.in_flight == allowed
    some = lost[0]
    some.on_upstream_lost("closed", 1.0)
    later.come()
    assert some.attempts == 3, "a second later there is more"


def test_a_body_that_comes_in_the_pause_is_sent_whole_behind_it() -> None:
    sides, later = Replica(), Later()
    slots = ready(sides, later=later)
    exchange = Exchange(cast(Any, sides), request("PUT", body=6), 0.0)
    slots.place(exchange, 0.0)
    exchange.on_request_data(b"abc", 0.0)
    exchange.on_upstream_lost("closed", 1.0)
    sides.hear()
    exchange.on_request_data(b"def", 1.0)
    exchange.on_request_end([], 1.0)
    assert not [line for line in sides.hear() if line.startswith("replica:")]
    later.come()
    said = [line for line in sides.hear() if line.startswith("replica:")]
    assert said == ["replica: PUT", "replica: data abc", "replica: data def", "replica: end"]


@pytest.mark.parametrize("end", ["client", "time", "replica"])
def test_what_ends_in_the_pause_frees_its_slot_and_is_not_sent_any_more(end: str) -> None:
    sides, later = Replica(), Later()
    slots = ready(sides, later=later)
    exchange, waiting = arrive(slots, sides), arrive(slots, sides)
    exchange.on_upstream_lost("closed", 1.0)
    if end == "client":
        exchange.on_downstream_gone(1.0)
    elif end == "time":
        exchange.due(1.0 + slots.terms.first_byte_s)
    else:
        slots.set_ready(False, "it answers 503", 1.0)
    later.come()
    assert (exchange.phase, exchange.attempts) == (ENDED, 1)
    assert exchange.code == {"client": "", "time": "hold_timeout", "replica": "replica_lost"}[end]
    assert waiting.phase == (ENDED if end == "replica" else SENT)
    assert slots.gate.in_flight == slots.meter.in_flight == int(end != "replica")


@pytest.mark.parametrize("first", ["pause", "drain"])
def test_what_would_be_sent_again_goes_elsewhere_where_the_sidecar_leaves(first: str) -> None:
    later, emptied = Later(), list[bool]()
    sides = Refused()
    slots = ready(sides, later=later, emptied=emptied)
    exchange = arrive(slots, sides)
    if first == "pause":
        exchange.on_upstream_lost("closed", 1.0)
        assert exchange.phase == HELD
    slots.close(1.0)
    if first == "drain":
        exchange.on_upstream_lost("closed", 1.0)
    later.come()
    (refusal,) = sides.refusals
    assert (refusal.code, refusal.status, refusal.not_sent) == ("draining", 503, True)
    answer = render_for(refusal, exchange.head)
    assert (b"retry-after", b"1") in answer.headers
    assert (NOT_SENT, b"1") in answer.headers
    assert (exchange.phase, exchange.attempts, exchange.result) == (ENDED, 1, Result.REFUSED)
    assert (slots.gate.in_flight, slots.meter.in_flight, emptied) == (0, 0, [True])


def test_what_may_not_be_repeated_is_lost_where_the_sidecar_leaves() -> None:
    sides = Refused()
    slots = ready(sides)
    exchange = arrive(slots, sides, method="POST")
    slots.close(1.0)
    exchange.on_upstream_lost("closed", 1.0)
    (refusal,) = sides.refusals
    assert (refusal.code, refusal.status, refusal.not_sent) == ("replica_lost", 502, False)


@pytest.mark.parametrize("first", ["the sweep", "the pause"])
@pytest.mark.parametrize("leaves", [False, True])
def test_a_deadline_of_grpc_that_ends_in_the_pause_is_told_as_one(first: str, leaves: bool) -> None:
    sides, later = Refused(), Later()
    slots = ready(sides, later=later)
    slots.terms = replace(slots.terms, retries_stale=True)
    exchange = arrive(slots, sides, method="POST", Content_Type="application/grpc", TE="trailers", grpc_timeout="2S")
    later.now_s = 1.999
    exchange.on_upstream_lost("closed", later.now_s)
    assert (exchange.phase, sides.visit_s) == (HELD, 2.0)
    if leaves:
        slots.close(later.now_s)
    if first == "the sweep":
        exchange.due(2.0)
    later.come()
    assert later.now_s > 2.0
    (refusal,) = sides.refusals
    assert (refusal.code, refusal.status, refusal.not_sent) == ("deadline_exceeded", 504, False)
    assert (b"grpc-status", b"4") in render_for(refusal, exchange.head).headers
    assert (exchange.phase, exchange.attempts, slots.gate.in_flight, slots.meter.in_flight) == (ENDED, 1, 0, 0)


def test_a_second_attempt_that_meets_no_connection_is_not_said_to_be_not_sent() -> None:
    sides, later = Replica(), Later()
    slots = ready(sides, later=later)
    exchange = arrive(slots, sides)
    exchange.on_upstream_lost("closed", 1.0)
    sides.connected = False
    later.come()
    exchange.on_connect_failed("refused", 1.1)
    assert (exchange.code, exchange.status, slots.gate.in_flight) == ("replica_lost", 502, 0)


def test_a_get_is_not_sent_again_to_a_replica_that_is_not_ready() -> None:
    sides = Replica()
    slots = ready(sides)
    exchange = arrive(slots, sides)
    slots.set_ready(False, "it answers 503", 1.0)
    exchange.on_upstream_lost("closed", 1.0)
    assert (exchange.code, exchange.attempts, slots.gate.in_flight) == ("replica_lost", 1, 0)


def test_a_post_whose_connection_was_closed_is_not_sent_again() -> None:
    sides = Replica()
    slots = ready(sides)
    exchange = arrive(slots, sides, method="POST")
    exchange.on_upstream_lost("closed", 1.0)
    assert (exchange.code, exchange.attempts, slots.gate.in_flight) == ("replica_lost", 1, 0)


def test_closing_tells_of_emptiness_once_the_last_has_left() -> None:
    sides, emptied = Replica(), list[bool]()
    slots = ready(sides, emptied=emptied)
    running = arrive(slots, sides)
    slots.close(1.0)
    assert not emptied
    running.on_downstream_gone(2.0)
    assert emptied == [True]
    slots.set_ready(True, "it answers 200", 3.0)
    assert not slots.is_ready, "closed is closed for good"


def test_a_gateways_request_that_finds_no_slot_is_turned_away_and_never_queued() -> None:
    sides = Replica()
    slots = ready(sides)
    holder = slots.join(b"a", 0.0)
    first, second = arrive(slots, sides, zerogate_holder="a"), arrive(slots, sides, zerogate_holder="a")
    assert (first.phase, second.code, slots.queue.length) == (SENT, "replica_full", 0)
    assert holder.in_flight == 1
    assert holder.is_refused, "it is to be told again how many it may send"


def test_what_a_gateway_has_inside_is_its_own_when_it_comes_again_and_nobodys_when_it_has_left() -> None:
    sides = Replica()
    slots = ready(sides, limit=2)
    holder = slots.join(b"a", 0.0)
    running = arrive(slots, sides, zerogate_holder="a")
    slots.part(holder, 1.0)
    other = slots.join(b"b", 1.0)
    assert other.allowance == 1
    assert slots.join(b"a", 2.0) is holder
    slots.part(holder, 3.0)
    running.on_downstream_gone(4.0)
    assert (holder.in_flight, slots.gate.in_flight, other.allowance) == (0, 0, 2)
    assert slots.join(b"a", 5.0) is not holder


def test_a_gateway_that_is_not_known_here_is_let_in_where_there_is_a_slot() -> None:
    sides = Replica()
    slots = ready(sides)
    assert [arrive(slots, sides, zerogate_holder="x").code for _ in range(2)] == ["", "replica_full"]


def test_a_queue_here_gets_its_turn_beside_a_gateway_that_always_has_more() -> None:
    sides = Replica()
    slots = ready(sides)
    holder = slots.join(b"a", 0.0)
    running = arrive(slots, sides, zerogate_holder="a")
    slots.report(holder, 5, 1, 0.0)
    waiting = arrive(slots, sides)
    running.on_downstream_gone(1.0)
    assert waiting.phase == SENT
    waiting.on_downstream_gone(2.0)
    assert (holder.allowance, holder.kept) == (1, 1)


def test_a_slot_kept_for_a_gateway_that_does_not_come_is_given_to_the_queue_here() -> None:
    sides = Replica()
    slots = ready(sides)
    holder = slots.join(b"a", 0.0)
    slots.report(holder, 1, 0, 0.0)
    waiting = arrive(slots, sides)
    assert (waiting.phase, slots.grants.due_s) == (HELD, KEPT_S)
    slots.check(KEPT_S)
    assert waiting.phase == SENT


def test_a_gateway_is_told_when_a_long_body_need_not_be_kept_any_more() -> None:
    sides = Replica()
    slots = ready(sides, limit=3)
    arrive(slots, sides, method="POST", body=100, zerogate_holder="a")
    arrive(slots, sides, method="POST", body=100_000)
    assert "client: 100" not in sides.hear()
    arrive(slots, sides, method="POST", body=100_000, zerogate_holder="a")
    assert "client: 100" in sides.hear()


def test_a_failed_connect_is_told_to_who_asks_the_replica() -> None:
    sides, causes = Replica(connected=False), list[str]()
    slots = ready(sides)
    slots.on_unreachable = causes.append
    arrive(slots, sides).on_connect_failed("refused", 1.0)
    assert causes == ["refused"]


class AnyOrder(RuleBasedStateMachine):
    """Any interleaving of arrivals, ends, losses and readiness; the bounds and the sums hold at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = Replica()
        self.later = Later()
        self.slots = ready(self.sides, limit=2, queue_limit=3, later=self.later)
        self.now_s = 0.0
        self.all: list[Exchange] = []

    def _in(self, *phases: int) -> list[Exchange]:
        return [exchange for exchange in self.all if exchange.phase in phases]

    @rule(connected=st.booleans(), method=st.sampled_from(["GET", "POST"]))
    def come(self, connected: bool, method: str) -> None:
        self.now_s += 0.5
        self.sides.connected = connected
        self.all.append(arrive(self.slots, self.sides, self.now_s, method=method))

    @precondition(lambda self: self._in(SENT))
    @rule(data=st.data())
    def be_answered(self, data: st.DataObject) -> None:
        exchange = data.draw(st.sampled_from(self._in(SENT)))
        exchange.on_response_head(response(length=0), self.now_s)
        exchange.on_response_end([], self.now_s)

    @precondition(lambda self: self._in(SENT, HELD, CONNECTING))
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self._in(SENT, HELD, CONNECTING))).on_downstream_gone(self.now_s)

    @precondition(lambda self: self._in(SENT))
    @rule(data=st.data())
    def be_lost(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self._in(SENT))).on_upstream_lost("closed", self.now_s)

    @precondition(lambda self: self.later.calls)
    @rule()
    def end_the_pauses(self) -> None:
        self.later.now_s = self.now_s
        self.later.come()

    @precondition(lambda self: self._in(CONNECTING))
    @rule(data=st.data())
    def fail_to_connect(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self._in(CONNECTING))).on_connect_failed("refused", self.now_s)

    @rule(wait_s=st.sampled_from([1.0, 11.0]))
    def time_passes(self, wait_s: float) -> None:
        self.now_s += wait_s
        for exchange in self._in(SENT, HELD, CONNECTING):
            exchange.due(self.now_s)

    @rule(is_ready=st.booleans())
    def change(self, is_ready: bool) -> None:
        self.slots.set_ready(is_ready, "it says so", self.now_s)

    @invariant()
    def sums_agree(self) -> None:
        slots, meter = self.slots, self.slots.meter
        pausing = [exchange for exchange in self._in(HELD) if exchange.upstream is not None]
        inside, waiting = len(self._in(SENT, CONNECTING)) + len(pausing), len(self._in(HELD)) - len(pausing)
        assert slots.gate.in_flight == meter.in_flight == inside <= 2
        assert slots.queue.length == meter.held == waiting <= 3
        assert not waiting or (inside == 2 and slots.is_ready), "nothing waits while a slot is free"
        ended = self._in(ENDED)
        counters = slots.counters
        assert meter.arrivals == len(self.all) == len(ended) + inside + waiting
        refused = sum(counters.refused_by_code.values())
        assert len(ended) == counters.served + counters.abandoned + counters.cut + refused
        assert all(isinstance(exchange.result, Result) for exchange in ended)
        assert self.sides.memory.used_bytes == 0


TestAnyOrder = AnyOrder.TestCase


@pytest.mark.parametrize(
    ("terms", "answered", "code"),
    [
        (RequestTerms(first_byte_s=50), False, "first_byte_timeout"),
        (RequestTerms(idle_s=50), True, "idle_timeout"),
        (RequestTerms(total_s=50), False, "total_timeout"),
        (RequestTerms(), True, "deadline_exceeded"),
    ],
    ids=["first byte", "idle", "total", "the client's own"],
)
def test_a_gateways_timer_is_over_before_the_sidecars_own(terms: RequestTerms, answered: bool, code: str) -> None:
    ended_s = []
    each: list[dict[str, Any]] = [{}, {"zerogate_holder": "one"}]
    for fields in each:
        sides = Replica()
        bounds = Bounds(limit=0, queue_limit=0, queue_bytes=1 << 20, hold_s=10.0)
        slots = Slots(
            "chat", bounds, terms, cast(Any, sides), on_empty=lambda: None, choose=lambda below: 0,
            call_later=Later().call_later, clock=lambda: 0.0,
        )  # fmt: skip
        slots.set_ready(True, "it answers 200", 0.0)
        slots.join(b"one", 0.0)
        if code == "deadline_exceeded":
            fields |= {"content_type": "application/grpc", "grpc_timeout": "50S"}
        exchange = arrive(slots, sides, 0.0, **fields)
        if answered:
            exchange.on_response_head(response(200), 0.0)
        now_s = 0.0
        while exchange.phase != ENDED:
            now_s += 0.5
            exchange.due(now_s)
        assert exchange.code == code
        ended_s.append(now_s)
    assert ended_s == [50.0, 50.0 + GRACE_S]
