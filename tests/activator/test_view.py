"""What a cluster shows an activator."""

from typing import Any

import pytest

import activator.view
from activator.view import View
from zerogate.errors import ZerogateError
from zerogate.kube.access import Access
from zerogate.kube.client import KubeClient
from zerogate.kube.cluster_flags import ExtraKind
from zerogate.kube.feed import KINDS


async def test_further_kinds_are_looked_for_until_the_cluster_has_them(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setattr(activator.view, "AGAIN_S", 0.01)
    client = KubeClient(Access(f"http://127.0.0.1:{unused_tcp_port}"))
    it = View(client, lambda _: None, home="zerogate-system", kinds=[ExtraKind("CloneSet", "apps.kruise.io/v1alpha1")])
    asked: list[tuple[str, str]] = []
    said: list[tuple[str, ...]] = []

    async def find(api_version: str, kind: str) -> Any:
        asked.append((api_version, kind))
        said.append(it.faults)
        if len(asked) < 3:
            raise ZerogateError("The API server does not know CloneSet.")
        return KINDS["Deployment"]

    monkeypatch.setattr(it._scales, "find", find)
    added: list[str] = []
    monkeypatch.setattr(it._feed, "add_kind", lambda kind, _: added.append(kind))
    await it._find_kinds()
    assert asked == [("apps.kruise.io/v1alpha1", "CloneSet")] * 3
    assert said[-1] == ("The API server does not know CloneSet.",)
    assert (added, it.faults) == (["CloneSet"], ())
    await client.aclose()
