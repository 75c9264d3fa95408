import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerogate.runtime.fleet import Member, Plan, plan
from zerogate.runtime.interface import ReplicaState

STARTING, READY, DRAINING = ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING


def member(id_: str, state: ReplicaState, **more: bool) -> Member:
    return Member(id=id_, state=state, was_ready=more.pop("was_ready", state is not STARTING), **more)


A, B, C = (member(id_, READY) for id_ in "abc")
S = member("s", STARTING)


DRAINED = member("d", DRAINING)
STOPPING = member("d", DRAINING, is_stopping=True)
NEVER_READY = member("d", DRAINING, was_ready=False)
STALE = member("a", READY, is_stale=True)

CASES = {
    "starts what is missing": ([], {"wanted": 2, "ceiling": 3}, Plan(starts=2)),
    "never above the ceiling": ([], {"wanted": 5, "ceiling": 3}, Plan(starts=3)),
    "a start under way counts": ([A], {"wanted": 2, "ceiling": 3, "launching": 1}, Plan()),
    "the youngest go first": ([A, B, C], {"wanted": 1, "ceiling": 3}, Plan(drain=("c", "b"))),
    "named victims": ([A, B, C], {"wanted": 2, "ceiling": 3, "victims": ("a",)}, Plan(drain=("a",))),
    "an unknown victim": ([A, B], {"wanted": 1, "ceiling": 3, "victims": ("x",)}, Plan(drain=("b",))),
    "a starting one is spared": ([A, S], {"wanted": 1, "ceiling": 3}, Plan(drain=("a",))),
    "unless it was named": ([A, S], {"wanted": 1, "ceiling": 3, "victims": ("s",)}, Plan(drain=("s",))),
    "reopens before it starts": ([DRAINED], {"wanted": 2, "ceiling": 2}, Plan(reopen=("d",), starts=1)),
    "a stopping one keeps its place": ([STOPPING], {"wanted": 1, "ceiling": 1}, Plan()),
    "room beside a stopping one": ([STOPPING], {"wanted": 1, "ceiling": 2}, Plan(starts=1)),
    "never ready, never reopened": ([NEVER_READY], {"wanted": 1, "ceiling": 2}, Plan(starts=1)),
    "a changed one leaves first": ([STALE], {"wanted": 1, "ceiling": 1}, Plan(drain=("a",))),
    "or beside the new one": ([STALE], {"wanted": 1, "ceiling": 2}, Plan(drain=("a",), starts=1)),
    "a lower ceiling drains": ([A, B], {"wanted": 2, "ceiling": 1}, Plan(drain=("b",))),
}


@pytest.mark.parametrize(("members", "asked", "expected"), CASES.values(), ids=CASES.keys())
def test_plan(members: list[Member], asked: dict[str, object], expected: Plan) -> None:
    assert plan(members, **asked) == expected  # type: ignore[arg-type]


@st.composite
def fleets(draw: st.DrawFn) -> list[Member]:
    members = []
    for n in range(draw(st.integers(0, 6))):
        state = draw(st.sampled_from([STARTING, READY, DRAINING]))
        members.append(
            Member(
                id=f"r{n}",
                state=state,
                was_ready=state is READY or (state is DRAINING and draw(st.booleans())),
                is_stopping=state is DRAINING and draw(st.booleans()),
                is_stale=draw(st.booleans()),
            )
        )
    return members


@given(
    fleets(),
    st.integers(0, 8),
    st.integers(0, 8),
    st.integers(0, 3),
    st.lists(st.sampled_from([f"r{n}" for n in range(8)]), max_size=4),
)
def test_a_plan_reaches_what_is_wanted_and_never_exceeds_the_ceiling(
    members: list[Member], wanted: int, ceiling: int, launching: int, victims: list[str]
) -> None:
    made = plan(members, wanted=wanted, ceiling=ceiling, launching=launching, victims=victims)
    by_id = {m.id: m for m in members}
    current = [m for m in members if m.state is not DRAINING and not m.is_stale]
    drained = [by_id[id_] for id_ in made.drain]
    after = len(current) - sum(not m.is_stale for m in drained) + len(made.reopen) + made.starts + launching

    assert made.starts == 0 or len(members) + launching + made.starts <= ceiling
    assert after <= max(min(wanted, ceiling), launching)
    assert all(m.state is not DRAINING for m in drained)
    assert all(m.is_stale for m in drained) or not (made.reopen or made.starts)
    reopened = [by_id[id_] for id_ in made.reopen]
    assert all(m.was_ready and not m.is_stopping and not m.is_stale for m in reopened)
    assert {m.id for m in members if m.is_stale and m.state is not DRAINING} <= set(made.drain)
    if after < min(wanted, ceiling):
        assert len(members) + launching + made.starts >= ceiling
    spared = [m for m in current if m.id not in made.drain]
    if any(m.state is STARTING and not m.is_stale and m.id not in victims for m in drained):
        assert not any(m.state is READY for m in spared)
