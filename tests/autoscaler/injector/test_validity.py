import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.injector.validity import (
    AUTHORITY_LIVES_S,
    LEAF_LIVES_S,
    SETTLE_S,
    Authority,
    Forget,
    Held,
    Leaf,
    NewAuthority,
    NewLeaf,
    plan,
)

NAMES = ("webhook.test.svc",)
DAY_S = 86400.0


def authority(name: str = "a", made_at: float = 0.0) -> Authority:
    return Authority(name, made_at, made_at + AUTHORITY_LIVES_S)


def leaf(issuer: str = "a", made_at: float = 0.0, names: tuple[str, ...] = NAMES) -> Leaf:
    return Leaf(issuer, names, made_at, made_at + LEAF_LIVES_S)


@pytest.mark.parametrize(
    ("held", "now_at", "step"),
    [
        (Held(), 0, NewAuthority()),
        (Held((authority(),)), 0, NewLeaf("a")),
        (Held((authority(),), leaf()), 0, None),
        (Held((authority(),), leaf(names=("old.svc",))), 0, NewLeaf("a")),
        (Held((authority(),), leaf()), 59 * DAY_S, None),
        (Held((authority(),), leaf()), 61 * DAY_S, NewLeaf("a")),
        (Held((authority(),), leaf("gone")), 0, NewLeaf("a")),
        (Held((authority(),), leaf(made_at=480 * DAY_S)), 487 * DAY_S, NewAuthority()),
        (Held((authority(), authority("b", 1000.0)), leaf()), 1000 + SETTLE_S - 1, None),
        (Held((authority(), authority("b", 1000.0)), leaf()), 1000 + SETTLE_S, NewLeaf("b")),
        (Held((authority(), authority("b", 1000.0)), leaf("b")), 1000 + SETTLE_S, None),
        (Held((authority(), authority("b", 600 * DAY_S)), leaf("b")), 731 * DAY_S, Forget(("a",))),
    ],
    ids=[
        "nothing", "authority-only", "all-well", "another-name", "young-leaf", "old-leaf", "stranger", "old-authority",
        "unsettled", "settled", "switched", "expired",
    ],
)  # fmt: skip
def test_the_next_step(held: Held, now_at: float, step: object) -> None:
    assert plan(held, NAMES, now_at).step == step


@given(st.lists(st.floats(60, 200 * DAY_S), min_size=1, max_size=60))
def test_over_years_what_is_served_is_always_signed_by_what_was_published_long_enough_ago(gaps: list[float]) -> None:
    held, now_at, published = Held(), 0.0, dict[str, float]()
    for gap in gaps:
        for _ in range(8):
            due = plan(held, NAMES, now_at)
            if due.step is None:
                break
            held = carried_out(due.step, held, now_at, len(published))
            for one in held.authorities:
                published.setdefault(one.fingerprint, now_at)
        assert due.step is None
        assert held.leaf is not None
        assert held.leaf.until_at > now_at
        trusted = {one.fingerprint: one for one in held.authorities}
        assert held.leaf.issuer in trusted
        assert now_at - published[held.leaf.issuer] >= SETTLE_S or published[held.leaf.issuer] == min(
            published[name] for name in trusted
        )
        assert len(trusted) <= 2
        assert due.revisit_at > now_at
        now_at += min(gap, due.revisit_at - now_at)


def carried_out(step: object, held: Held, now_at: float, made: int) -> Held:
    match step:
        case NewAuthority():
            return Held((*held.authorities, authority(f"a{made}", now_at)), held.leaf)
        case NewLeaf(issuer):
            until_at = next(one.until_at for one in held.authorities if one.fingerprint == issuer)
            return Held(held.authorities, Leaf(issuer, NAMES, now_at, min(now_at + LEAF_LIVES_S, until_at)))
        case Forget(prints):
            return Held(tuple(one for one in held.authorities if one.fingerprint not in prints), held.leaf)
    raise AssertionError(step)
