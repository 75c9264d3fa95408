"""Whose status is written, and in which turn, where the API server refuses some of it."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from autoscaler.cluster import route_notes
from autoscaler.cluster.route_notes import RouteNotes
from tests.zerogate.kube.routes import a_class, gateway, route
from zerogate.kube.access import Access
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import Asked, Forbidden, Invalid, KubeError, ServerFault, Unreachable

ASKED = Asked(verb="patch", group="gateway.networking.k8s.io", resource="httproutes/status")
BAD = [f"bad-{number:02}" for number in range(30)]
GOOD = [f"good-{number}" for number in range(5)]


class Cluster:
    """Refuses what `errors` names, and counts what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.errors: dict[str, KubeError] = {}
        self.asked: Counter[str] = Counter()
        self.client = KubeClient(Access("http://127.0.0.1:1"))
        self.notes = RouteNotes(self.client, is_leader=lambda: True, namespace_labels=lambda _: {})
        monkeypatch.setattr(self.client, "merge_patch", self._merge_patch)
        monkeypatch.setattr(route_notes, "now", lambda: self.now_s)
        book = self.notes.feed.book
        self.routes = {("ml", name): route(name=name) for name in (*BAD, *GOOD)}
        book.classes, book.gateways, book.routes = {("", "ours"): a_class()}, {("ml", "edge"): gateway()}, self.routes

    async def _merge_patch(self, resource: Any, name: str, body: Any, **_: Any) -> None:
        self.asked[name] += 1
        if name in self.errors:
            raise self.errors[name]
        self.routes.pop(("ml", name), None)  # as if the watch showed it written

    async def look(self, times: int) -> None:
        for _ in range(times):
            await self.notes.look()
            self.now_s += 0.5


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    it = Cluster(monkeypatch)
    yield it
    await it.client.aclose()


@pytest.mark.parametrize(
    "error", [Invalid(ASKED, "no"), Forbidden(ASKED, "denied by a policy")], ids=["invalid", "admission"]
)
async def test_routes_that_are_refused_for_ever_starve_none_behind_them(cluster: Cluster, error: KubeError) -> None:
    cluster.errors = dict.fromkeys(BAD, error)
    await cluster.look(3)
    assert all(cluster.asked[name] == 1 for name in GOOD)
    await cluster.look(2 * 600)
    assert max(cluster.asked[name] for name in BAD) <= 7, "10 s, 20 s, 40 s, up to ten minutes"


async def test_routes_for_which_the_server_fails_each_time_starve_none_behind_them(cluster: Cluster) -> None:
    cluster.errors = dict.fromkeys(BAD, ServerFault(ASKED, "failed calling webhook", status=500))
    await cluster.look(2 * 10 * (len(BAD) + 2))
    assert all(cluster.asked[name] == 1 for name in GOOD)


async def test_a_server_that_does_not_answer_is_asked_once_in_a_while_and_not_for_each_route(cluster: Cluster) -> None:
    cluster.errors = dict.fromkeys((*BAD, *GOOD, "ours", "edge"), Unreachable(ASKED, "refused"))
    await cluster.look(2 * 30)
    assert cluster.asked.total() <= 4
    cluster.errors = {}
    await cluster.look(2 * 10 + 3)
    assert not cluster.routes


async def test_a_missing_rule_is_met_once_and_not_for_each_route(cluster: Cluster) -> None:
    refused = Forbidden(ASKED, 'User "system" cannot patch resource "httproutes/status"')
    cluster.errors = dict.fromkeys((*BAD, *GOOD), refused)
    await cluster.look(10)
    assert sum(cluster.asked[name] for name in (*BAD, *GOOD)) == 1
    cluster.errors = {}
    while len(cluster.routes) == len(BAD) + len(GOOD):
        await cluster.look(1)
    assert cluster.routes, "one look does not write them all"
    assert len(cluster.notes._postponed) == 0, "with the first one that is written the rule is there"
    await cluster.look(2 * 10)
    assert not cluster.routes


async def test_a_route_that_was_changed_is_tried_again_at_once(cluster: Cluster) -> None:
    cluster.errors = {BAD[0]: Invalid(ASKED, "no")}
    await cluster.look(2)
    changed = route(name=BAD[0])
    cluster.routes["ml", BAD[0]] = type(changed)(
        metadata=type(changed.metadata)(name=BAD[0], namespace="ml", uid=changed.metadata.uid, generation=2),
        spec=changed.spec, status=changed.status,
    )  # fmt: skip
    cluster.notes.mark()
    await cluster.look(1)
    assert cluster.asked[BAD[0]] == 2


async def test_what_was_refused_is_forgotten_when_it_is_written_or_gone(cluster: Cluster) -> None:
    postponed = cluster.notes._postponed
    cluster.errors = dict.fromkeys(BAD[:2], Invalid(ASKED, "no"))
    await cluster.look(3)
    assert len(postponed) == 2
    del cluster.errors[BAD[0]]
    await cluster.look(2 * 11)
    assert (len(postponed), cluster.asked[BAD[0]]) == (1, 2)
    del cluster.routes["ml", BAD[1]]
    cluster.notes.mark()
    await cluster.look(1)
    assert len(postponed) == 0
