"""The takers: who is left out for failing, for how long, and how little is asked of one that is fresh."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activator.health import FAILURES, MOST_OUT_S, OUT_S, RAMP_S, verdict, weight
from activator.takers import Takers
from tests.zerogate.http.dialogue import Sides, exchange_of, request, response
from zerogate.errors import Refusal
from zerogate.gate import Gate
from zerogate.http.upstream import Upstream


def replica(name: str) -> Upstream:
    pool: Any = None
    return Upstream(service="chat", id=name, gate=Gate(limit=0, release_limit=8), pool=pool)


def fleet(*names: str, at_s: float = 0.0) -> tuple[Takers, list[Upstream]]:
    takers = Takers(random.Random(1).randrange)
    replicas = [replica(name) for name in names]
    for one in replicas:
        takers.add(one, at_s)
    return takers, replicas


def fail(takers: Takers, upstream: Upstream, now_s: float, times: int = FAILURES) -> float | None:
    """How long it is out after the last of so many failures."""
    return [takers.fail(upstream, "it answered 503", now_s) for _ in range(times)][-1]


def names(takers: Takers) -> str:
    return "".join(one.id for one in takers.list)


def test_five_failures_in_a_row_leave_a_replica_out_and_fewer_do_not() -> None:
    takers, (a, _, _) = fleet("a", "b", "c")
    assert fail(takers, a, 1.0, FAILURES - 1) is None
    takers.succeed(a)
    assert fail(takers, a, 2.0, FAILURES - 1) is None
    assert names(takers) == "abc"
    assert fail(takers, a, 3.0, 1) == OUT_S
    assert names(takers) == "bc"


def test_each_failure_after_the_return_doubles_the_time_up_to_a_bound_and_a_success_forgets_all() -> None:
    takers, (a, _) = fleet("a", "b")
    now_s, times = 0.0, []
    fail(takers, a, now_s, FAILURES - 1)
    for _ in range(8):
        out_s = fail(takers, a, now_s, 1)
        assert out_s is not None
        times.append(out_s)
        now_s += out_s
        takers.come_back(a, now_s, now_s)
    assert times == [1, 2, 4, 8, 16, MOST_OUT_S, MOST_OUT_S, MOST_OUT_S]
    takers.succeed(a)
    assert fail(takers, a, now_s) == OUT_S


def test_failures_that_were_under_way_when_it_left_do_not_lengthen_its_time() -> None:
    takers, (a, _) = fleet("a", "b")
    assert fail(takers, a, 0.0) == OUT_S
    assert fail(takers, a, 0.5, 20) is None
    takers.come_back(a, OUT_S, OUT_S)
    assert names(takers) == "ab"


def test_a_timer_of_an_earlier_time_brings_nobody_back() -> None:
    takers, (a, _) = fleet("a", "b")
    fail(takers, a, 0.0)
    takers.come_back(a, OUT_S, OUT_S)
    fail(takers, a, OUT_S, 1)
    takers.come_back(a, OUT_S, 1.5)
    assert names(takers) == "b"


@pytest.mark.parametrize(("count", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (7, 3)], ids=str)
def test_at_most_half_are_out_and_never_the_only_one(count: int, most: int) -> None:
    takers, replicas = fleet(*"abcdefg"[:count])
    for one in replicas:
        fail(takers, one, 1.0)
    assert len(takers.out) == most
    assert len(takers.list) == count - most
    assert len(takers.notices(1.0)) == count


def test_who_is_out_comes_back_when_the_others_leave_or_are_in_doubt() -> None:
    takers, (a, b, _) = fleet("a", "b", "c")
    fail(takers, a, 1.0)
    takers.doubt(b)
    assert names(takers) == "ac"
    takers.trust(b)
    fail(takers, a, 2.0)
    assert names(takers) == "bc"
    takers.close(b)
    assert names(takers) == "c", "one of two may be out"
    takers, (a, b) = fleet("a", "b")
    fail(takers, a, 1.0)
    takers.close(b)
    assert names(takers) == "a"


def test_who_is_out_comes_back_where_the_others_cannot_be_reached() -> None:
    takers, (a, b) = fleet("a", "b")
    fail(takers, a, 1.0)
    for now_s in range(2, 7):
        exchange = exchange_of(Sides())
        exchange.dispatched_s = now_s
        takers.reach.failed(b, exchange, "connection refused", now_s)
    assert takers.hopeless() is None
    assert names(takers) == "ab"


def test_a_replica_that_is_gone_has_no_health() -> None:
    takers, (a, _) = fleet("a", "b")
    fail(takers, a, 1.0)
    takers.close(a)
    takers.remove(a)
    assert fail(takers, a, 2.0) is None
    takers.come_back(a, 1.0 + OUT_S, 3.0)
    assert (names(takers), takers.ailing, takers.out) == ("b", {}, {})


def test_the_notice_says_what_failed_and_what_is_done() -> None:
    takers, (a, b) = fleet("a", "b")
    fail(takers, a, 1.0)
    fail(takers, b, 1.0)
    assert takers.notices(1.2) == (
        "a failed 5 requests in a row (it answered 503). New requests go to other replicas for the next 1 s.",
        "b failed 5 requests in a row (it answered 503). It still gets requests: at most half of the replicas are left "
        "out, and never the only one.",
    )


def test_a_fresh_replica_beside_warm_ones_gets_little_at_first_and_its_share_after_the_ramp() -> None:
    takers, _ = fleet("a", "b")
    c = replica("c")
    takers.add(c, 100.0)
    assert takers.ramps

    def share(now_s: float) -> float:
        for one in takers.list:
            one.gate = Gate(limit=0, release_limit=8)
        for _ in range(600):
            assert takers.enter(None, now_s) is not None
        return c.gate.in_flight / 600

    assert share(100.0) < 0.1
    assert 0.1 < share(100.0 + RAMP_S / 2) < 0.28
    assert share(100.0 + RAMP_S) == pytest.approx(1 / 3, abs=0.03)
    assert not takers.ramps


def test_the_first_replicas_of_a_service_start_at_full_weight() -> None:
    takers, _ = fleet("a", at_s=100.0)
    takers.add(replica("b"), 100.0 + RAMP_S / 2)
    assert not takers.ramps


def test_a_replica_that_comes_back_is_trusted_little_by_little() -> None:
    takers, (a, _) = fleet("a", "b")
    fail(takers, a, 1.0)
    takers.come_back(a, 1.0 + OUT_S, 2.0)
    assert takers.ramps == {a: 2.0 + RAMP_S}
    assert [weight(12.0, now_s) for now_s in (2.0, 3.0, 7.0, 12.0, 99.0)] == pytest.approx([0.1, 0.1, 0.5, 1.0, 1.0])


def test_a_fresh_replica_takes_what_no_other_has_a_place_for() -> None:
    takers, (a,) = fleet("a")
    b = replica("b")
    takers.add(b, 100.0)
    a.gate.configure(limit=1, release_limit=1)
    assert [takers.enter(None, 100.0), takers.enter(None, 100.0)] == [a, b]


@pytest.mark.parametrize(
    ("status", "says"), [(200, ""), (500, ""), (501, ""), (502, "it answered 502"), (503, "it answered 503")], ids=str
)
def test_an_answer_speaks_against_its_replica_only_with_a_status_of_gateways(status: int, says: str) -> None:
    exchange = exchange_of(Sides())
    exchange.dispatch(exchange.downstream, 0.0)  # type: ignore[arg-type]
    exchange.on_response(response(status, length=0), b"", 1.0)
    assert verdict(exchange) == says


def test_what_a_client_or_a_timer_ends_says_nothing() -> None:
    gone, late, broken, cut = (exchange_of(Sides(), request("POST")) for _ in range(4))
    for exchange in (gone, late, broken, cut):
        exchange.dispatch(exchange.downstream, 0.0)  # type: ignore[arg-type]
    gone.on_downstream_gone(1.0)
    late.refuse(Refusal(status=504, code="first_byte_timeout", detail="…"), 1.0)
    broken.on_upstream_lost("reset", 1.0)
    cut.on_response_head(response(), 1.0)
    cut.on_upstream_lost("reset", 1.0)
    assert [verdict(one) for one in (gone, late, broken, cut)] == [None, None, "no answer: it broke off", None]


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "close", "reopen", "remove", "doubt", "trust", "fail", "succeed", "back"]),
              st.integers(0, 5)),
    max_size=60,
)  # fmt: skip


@given(STEPS)
def test_whatever_happens_at_most_half_are_out_and_whoever_is_ready_has_a_taker(steps: list[tuple[str, int]]) -> None:
    takers = Takers(lambda count: 0)
    now_s, doubted = 0.0, []
    for what, number in steps:
        now_s += 1.0
        known = list(takers.by_id.values())
        one = known[number % len(known)] if known else None
        if what == "add" or one is None:
            takers.add(replica(f"r{now_s:.0f}"), now_s)
        elif what == "close":
            takers.close(one)
        elif what == "reopen" and one not in takers.ready:
            takers.reopen(one)
        elif what == "remove":
            takers.close(one)
            takers.remove(one)
        elif what == "doubt" and one not in doubted:
            doubted.append(one)
            takers.doubt(one)
        elif what == "trust" and doubted:
            takers.trust(doubted.pop())
        elif what == "fail":
            fail(takers, one, now_s)
        elif what == "succeed":
            takers.succeed(one)
        elif what == "back" and one in takers.out:
            takers.come_back(one, takers.out[one].out_until_s, now_s)
        assert 2 * len(takers.out) <= len(takers.ready)
        assert all(out in takers.ready and out not in takers.list for out in takers.out)
        assert bool(takers.list) == bool(takers.ready)
        assert all(taker in takers.ready for taker in takers.list)
