"""An even split of a pod's slots between gateways that only see the same objects."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerogate.kube.peers import BEFORE_S, GatewayPod, Peer, Share, part, peers_of, share

NOW = 10_000.0


def peers(*since_s: float, leaving: tuple[int, ...] = ()) -> tuple[Peer, ...]:
    made = [Peer(since, f"g{index}", f"10.0.0.{index}", index in leaving) for index, since in enumerate(since_s)]
    return tuple(sorted(made))


def slots(limit: int, there: tuple[Peer, ...], made_s: float = NOW) -> dict[str, int]:
    return {one.name: share(limit, made_s, one.name, there).slots for one in there}


@pytest.mark.parametrize(
    ("limit", "count", "split"),
    [
        (2, 2, [1, 1]),
        (8, 3, [3, 3, 2]),
        (4, 3, [2, 1, 1]),
        (1, 2, [1, 0]),
        (5, 1, [5]),
    ],
    ids=["even", "remainder by rank", "one left over", "fewer slots than gateways", "alone"],
)
def test_slots_are_split_evenly_and_the_first_have_the_remainder(limit: int, count: int, split: list[int]) -> None:
    assert list(slots(limit, peers(*range(count))).values()) == split
    assert [part(limit, index, count) for index in range(count)] == split


def test_who_is_younger_than_the_pod_has_none_and_passes_requests_to_who_has_some() -> None:
    there = peers(1, 2, NOW - BEFORE_S / 2)
    assert slots(4, there) == {"g0": 2, "g1": 2, "g2": 0}
    assert share(4, NOW, "g2", there).via == there[0]


def test_those_that_have_none_do_not_all_pass_to_the_same_one() -> None:
    there = peers(1, 2, NOW, NOW + 1)
    passed = {share(4, NOW, name, there).via for name in ("g2", "g3")}
    assert passed == set(there[:2])


def test_where_none_is_left_that_ran_before_the_pod_the_oldest_has_all() -> None:
    there = peers(NOW + 1, NOW + 2)
    assert slots(4, there) == {"g0": 4, "g1": 0}
    assert share(4, NOW, "g1", there).via == there[0]


def test_who_leaves_keeps_its_slots_and_is_passed_nothing() -> None:
    there = peers(1, 2, 3, leaving=(0,))
    assert slots(2, there) == {"g0": 1, "g1": 1, "g2": 0}
    assert share(2, NOW, "g2", there).via == there[1]
    assert share(1, NOW, "g1", peers(1, 2, leaving=(0,))) == Share(0)


def test_who_has_not_been_seen_to_run_holds() -> None:
    assert share(4, NOW, "new", peers(1, 2)) == Share(0)
    assert share(4, NOW, "new", ()) == Share(0)


def test_only_a_gateway_whose_container_runs_is_one() -> None:
    def pod(name: str, *states: dict[str, Any], **meta: str) -> GatewayPod:
        statuses = [{"state": state} for state in states]
        body = {"metadata": {"name": name, **meta}, "status": {"podIP": "10.0.0.9", "containerStatuses": statuses}}
        return msgspec.convert(body, GatewayPod)

    runs = {"running": {"startedAt": "2026-01-01T00:00:10Z"}}
    found = peers_of(
        [
            pod("pending"), pod("waits", {"waiting": {"reason": "ImagePullBackOff"}}),
            pod("ended", {"terminated": {"exitCode": 0}}), pod("b", runs, deletionTimestamp="2026-01-01T00:01:00Z"),
            pod("a", {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, runs),
            pod("c", {"running": {"startedAt": "2026-01-01T00:00:05Z"}}),
        ]
    )  # fmt: skip
    assert [(one.name, one.is_leaving) for one in found] == [("c", False), ("a", False), ("b", True)]
    assert found[1].since_s - found[0].since_s == 5


_PEERS = st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=8)


@given(_PEERS, st.integers(1, 12), st.integers(0, 60))
def test_together_they_have_exactly_the_limit_and_pass_to_older_ones_alone(
    found: list[tuple[int, bool]], limit: int, made: int
) -> None:
    there = tuple(
        sorted(Peer(float(since), f"g{index}", "h", leaving) for index, (since, leaving) in enumerate(found))
    )  # fmt: skip
    shares = {one: share(limit, float(made), one.name, there) for one in there}
    assert sum(one.slots for one in shares.values()) == limit
    for one, its in shares.items():
        if its.via is not None:
            assert its.slots == 0
            assert its.via < one
            assert shares[its.via].slots > 0
            assert not its.via.is_leaving


@given(_PEERS, st.integers(1, 12), st.integers(0, 60), st.data())
def test_a_share_shrinks_neither_when_another_ends_nor_when_one_comes(
    found: list[tuple[int, bool]], limit: int, made: int, data: st.DataObject
) -> None:
    there = tuple(sorted(Peer(float(since), f"g{index}", "h") for index, (since, _) in enumerate(found)))
    before = slots(limit, there, float(made))
    gone = data.draw(st.sampled_from(there))
    after = slots(limit, tuple(one for one in there if one is not gone), float(made))
    assert all(after[name] >= before[name] for name in after)
    newest = max(max(one.since_s for one in there), made - BEFORE_S) + 1.0
    joined = slots(limit, (*there, Peer(newest, "new", "h")), float(made))
    assert joined == {**before, "new": 0}
