import asyncio
from typing import Any

from autoscaler.injector.cluster import Nothing
from autoscaler.injector.injector import Terms
from autoscaler.injector.serving import ServedWebhook
from zerogate.clock import now
from zerogate.kube.access import Access
from zerogate.kube.sidecar import SidecarTerms
from zerogate.runtime.interface import Address


def webhook(server: str) -> ServedWebhook:
    return ServedWebhook(
        Address("127.0.0.1", 0), Access(server), lambda: Terms(sidecar=SidecarTerms(image="x")),
        known=Nothing(), tell=lambda _: None,
    )  # fmt: skip


async def test_it_is_not_asked_before_it_has_a_certificate_unless_it_can_have_none(unused_tcp_port: int) -> None:
    it = webhook(f"http://127.0.0.1:{unused_tcp_port}")
    assert it.reason == "the webhook has no certificate yet"
    await it.start()
    async with asyncio.timeout(10):
        while it.reason:
            await asyncio.sleep(0.01)
    (fault,) = it.faults
    assert fault.startswith("the webhook's certificates: get secrets zerogate-system/zerogate-webhook: ")
    await it.aclose()


async def test_who_leaves_closes_after_nodes_have_heard_of_it(monkeypatch: Any, unused_tcp_port: int) -> None:
    monkeypatch.setattr("autoscaler.injector.serving.LEAVE_S", 0.2)
    it = webhook(f"http://127.0.0.1:{unused_tcp_port}")
    await it.start()
    began_s = now()
    it.goodbye()
    await it.aclose()
    assert 0.2 <= now() - began_s < 2
