"""Which Services are found for which workload, as the watch shows them come, change and go."""

from autoscaler.cluster.bypasses import Bypasses
from tests.zerogate.kube.test_fronts import entry, service
from zerogate.kube.access import Access
from zerogate.kube.client import KubeClient
from zerogate.kube.objects import Service
from zerogate.kube.watching import Change

LLM = entry(takeover="false")


def tell(it: Bypasses, old: Service | None, new: Service | None) -> tuple[str, ...]:
    change = Change.ADDED if old is None else Change.REMOVED if new is None else Change.CHANGED
    it.on_service(change, old, new)
    return tuple(one.name for one in it.of(LLM))


async def test_services_are_found_as_they_come_change_and_go() -> None:
    client = KubeClient(Access(server="http://127.0.0.1:1"))
    it = Bypasses(client)
    mine, moved = service(), service({"port": 80, "targetPort": "zg-http"})
    two_labels = service(name="two", selector={"v": "1", "app": "llm"})
    assert it.of(LLM) == ()
    assert tell(it, None, mine) == ("llm",)
    assert tell(it, None, two_labels) == ("llm", "two")
    assert tell(it, None, service(name="other", selector={"app": "llm", "v": "2"})) == ("llm", "two")
    assert tell(it, mine, moved) == ("two",)
    assert tell(it, two_labels, service(name="two", selector=None)) == ()
    await client.aclose()
