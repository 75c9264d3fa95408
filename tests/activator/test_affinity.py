"""Affinity: the same key meets the same replica, a change moves only a share, and nobody waits for it."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activator.affinity import LEAD_BYTES, LOAD_BOUND, in_order, key_of, key_of_text, prompt_of
from tests.zerogate.http.dialogue import Sides, exchange_of, request
from zerogate.affinity import Affinity

KEYS = [key_of_text(b"session-%d" % number) for number in range(10_000)]


def replicas(*loads: int) -> list[Any]:
    return [SimpleNamespace(id=f"chat-{n}", gate=SimpleNamespace(in_flight=load)) for n, load in enumerate(loads)]


def full(_: object) -> float:
    return 1.0


def first(some: list[Any], key: int) -> str:
    return str(in_order(some, key, full)[0].id)


def test_ten_thousand_keys_are_spread_over_five_replicas_within_a_twentieth_of_their_share() -> None:
    shares = Counter(first(replicas(0, 0, 0, 0, 0), key) for key in KEYS)
    assert len(shares) == 5
    assert all(abs(share / 2000 - 1) < 0.05 for share in shares.values()), shares


def test_one_replica_more_or_less_moves_its_own_share_and_nothing_else() -> None:
    five, six = replicas(0, 0, 0, 0, 0), replicas(0, 0, 0, 0, 0, 0)
    moved = [(first(five, key), first(six, key)) for key in KEYS if first(five, key) != first(six, key)]
    assert {to for _, to in moved} == {"chat-5"}
    assert len(moved) / len(KEYS) == pytest.approx(1 / 6, rel=0.05)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.integers(0, 2**64 - 1))
def test_the_first_choice_is_never_above_the_bound(loads: list[int], key: int) -> None:
    some = replicas(*loads)
    best = in_order(some, key, full)
    assert sorted(one.id for one in best) == sorted(one.id for one in some)
    assert best[0].gate.in_flight < (sum(loads) + 1) / len(loads) * LOAD_BOUND + 1


def test_a_busy_favourite_is_passed_over_and_asked_again_when_it_is_not() -> None:
    some = replicas(0, 0, 0)
    favourite = in_order(some, 7, full)[0]
    favourite.gate.in_flight = 4
    assert in_order(some, 7, full)[0] is not favourite
    favourite.gate.in_flight = 0
    assert in_order(some, 7, full)[0] is favourite


def test_a_replica_that_is_trusted_little_has_its_bound_earlier() -> None:
    some = replicas(3, 3, 3)
    favourite = in_order(some, 7, full)[0]
    assert in_order(some, 7, lambda one: 0.1 if one is favourite else 1.0)[-1] is favourite


@pytest.mark.parametrize(
    ("affinity", "fields", "text"),
    [
        (Affinity("header", "x-session"), {"X-Session": "abc"}, b"abc"),
        (Affinity("header", "x-session"), {"x-other": "abc"}, None),
        (Affinity("cookie", "id"), {"Cookie": "a=1; id=abc; b=2"}, b"abc"),
        (Affinity("cookie", "id"), {"Cookie": "ID=abc; xid=2; id"}, None),
        (Affinity("cookie", "id"), {"Cookie": "id="}, None),
        (Affinity("prompt", size_bytes=64), {}, None),
    ],
    ids=["header", "no header", "cookie", "no cookie", "empty", "no body"],
)
def test_what_a_request_says_of_where_it_belongs(affinity: Affinity, fields: Any, text: bytes | None) -> None:
    exchange = exchange_of(Sides(), request(**fields))
    assert key_of(exchange, affinity) == (key_of_text(text) if text is not None else None)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"model":"m","temperature":0.5,"messages":[{"role":"system"}]}', b'"messages":['),
        (b'{"prompt":"Once upon","model":"m"}', b'"prompt":"On'),
        (b'{"input":["a"]}', b'"input":["a"'),
        (b"not json at all", b"not json at "),
        (b"x" * LEAD_BYTES + b'"messages"', b"x" * 12),
        (b"", b""),
    ],
    ids=["chat", "completion", "embedding", "anything", "too late", "empty"],
)
def test_the_prompt_is_looked_for_behind_the_model_and_its_numbers(body: bytes, text: bytes) -> None:
    assert prompt_of(body, 12) == text


@given(st.binary(max_size=400), st.lists(st.integers(1, 60), max_size=40))
def test_a_prompt_means_the_same_however_its_bytes_came(body: bytes, sizes: list[int]) -> None:
    whole, pieces = exchange_of(Sides(), request("POST", body=len(body) + 1)), []
    for size in sizes:
        pieces.append(body[:size])
        body = body[size:]
    dripped = exchange_of(Sides(), request("POST", body=len(body) + 1))
    for piece in [*pieces, body]:
        dripped.on_request_data(piece, 0.0)
    whole.on_request_data(b"".join([*pieces, body]), 0.0)
    affinity = Affinity("prompt", size_bytes=64)
    assert key_of(whole, affinity) == key_of(dripped, affinity)
