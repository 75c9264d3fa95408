"""What the parent makes of a cluster process's words."""

from gateway.changes import decode, difference, encode
from gateway.cluster_side import ClusterSide, amendments
from gateway.editions import Editions
from gateway.file import EMPTY, GatewayFile, Service
from gateway.messages import Changed, News
from zerogate.policy import Policy


def services(*names: str) -> dict[str, Service]:
    return {name: Service(policy=Policy(), routes=()) for name in names}


def told(before: dict[str, Service], after: dict[str, Service], *, is_first: bool = False) -> list[Changed]:
    slices = [encode(change) for change in difference(before, after)]
    return [
        Changed(data, is_first=is_first and index == 0, is_last=index == len(slices) - 1)
        for index, data in enumerate(slices)
    ]


def test_nothing_counts_before_it_is_complete() -> None:
    side = ClusterSide()
    many = services(*(f"ns/{number}" for number in range(120)))
    slices = told({}, many, is_first=True)
    assert len(slices) == 3
    assert [side.stage(one) for one in slices[:2]] == [None, None]
    assert not side.is_known
    assert side.stage(slices[2]) == GatewayFile(many)
    assert side.is_known


def test_a_new_cluster_process_begins_anew_and_workers_hear_only_what_is_different() -> None:
    side, editions = ClusterSide(), Editions(None, EMPTY)
    for one in told({}, services("a/a", "b/b"), is_first=True):
        file = side.stage(one)
    assert file is not None
    assert [amend.edition for amend in editions.amend(file)] == [2]
    for one in told({}, services("b/b", "c/c"), is_first=True):
        file = side.stage(one)
    assert file is not None
    [amend] = editions.amend(file)
    change = decode(amend.data)
    assert (list(change.services), change.gone, amend.edition) == (["c/c"], ("a/a",), 3)
    assert editions.number == 3
    assert editions.amend(file) == []
    assert amendments(file, file, 4) == []


def test_faults_are_what_readiness_says() -> None:
    side = ClusterSide()
    side.on_news(News(faults=("list pods: not permitted", "watch deployments: no answer")))
    assert side.detail == "list pods: not permitted; watch deployments: no answer"
    side.on_news(News())
    assert side.detail == ""
