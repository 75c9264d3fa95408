"""The adapter against a real API server: the same contract as against the double, and what only the real one shows."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing
from itertools import count
from typing import Any

import msgspec
import pytest

from tests.kubernetes.harness.access import Access
from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.harness.fault_proxy import FaultProxy, fault_proxy
from tests.zerogate.kube.contract import QUICK, AdapterContract, config_map
from zerogate.kube.access import by_kubeconfig
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import Conflict, Forbidden, Unauthorized
from zerogate.kube.objects import CONFIG_MAPS, PODS
from zerogate.kube.watching import Watched

MAY_GET_CONFIG_MAPS = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}

pytestmark = pytest.mark.may_block("the first kubeconfig imports kubernetes_asyncio")


class RealApi:
    """A namespace of a real API server, by way of the proxy that makes faults."""

    def __init__(self, plane: ControlPlane, proxy: FaultProxy, namespace: str, closing: AsyncExitStack) -> None:
        self.plane = plane
        self.proxy = proxy
        self.namespace = namespace
        self._closing = closing

    async def client(self) -> KubeClient:
        return await self.client_of(self.proxy.access)

    async def client_of(self, access: Access) -> KubeClient:
        return await self._closing.enter_async_context(aclosing(KubeClient(await by_kubeconfig(access.kubeconfig))))

    async def limited_client(self) -> KubeClient:
        access = await asyncio.to_thread(self.plane.account, self.namespace, "limited", rules=[MAY_GET_CONFIG_MAPS])
        return await self.client_of(access)

    async def fault(self, name: str, *args: Any, **more: Any) -> Any:
        return await asyncio.to_thread(getattr(self.proxy, name), *args, **more)


@pytest.fixture
def proxy(api_server: ControlPlane) -> Iterator[FaultProxy]:
    with fault_proxy(api_server) as proxy:
        yield proxy


@pytest.fixture
def own_namespace(api_server: ControlPlane) -> Iterator[str]:
    with api_server.namespace() as name:
        yield name


@pytest.fixture
async def api(api_server: ControlPlane, proxy: FaultProxy, own_namespace: str) -> AsyncIterator[RealApi]:
    async with AsyncExitStack() as closing:
        yield RealApi(api_server, proxy, own_namespace, closing)


class TestRealServer(AdapterContract):
    """Everything that holds for the double, too."""


async def test_fields_that_an_apply_leaves_out_are_given_back_and_others_are_left_alone(api: RealApi) -> None:
    client = await api.client()
    await client.apply(CONFIG_MAPS, "one", config_map("one", ours="1", more="1"), namespace=api.namespace)
    await client.apply(
        CONFIG_MAPS, "one", config_map("one", theirs="1"), namespace=api.namespace, manager="somebody-else"
    )
    await client.apply(CONFIG_MAPS, "one", config_map("one", ours="2"), namespace=api.namespace)
    found = await client.get(CONFIG_MAPS, "one", namespace=api.namespace)
    assert found.data == {"ours": "2", "theirs": "1"}
    with pytest.raises(Conflict, match="somebody-else"):
        await client.apply(CONFIG_MAPS, "one", config_map("one", theirs="2"), namespace=api.namespace, force=False)


async def test_a_token_that_is_not_known_is_said(api: RealApi) -> None:
    account = await asyncio.to_thread(api.plane.account, api.namespace, "known")
    unknown = Access.written(
        account.kubeconfig.with_name(f"{api.namespace}-unknown.kubeconfig"),
        account.url,
        account.authority,
        token="not-a-token",
    )
    client = await api.client_of(unknown)
    with pytest.raises(Unauthorized, match="does not accept the credentials"):
        await client.get(CONFIG_MAPS, "one", namespace=api.namespace)


async def test_a_quota_is_no_missing_rule(api: RealApi) -> None:
    client = await api.client()
    path = f"/api/v1/namespaces/{api.namespace}/resourcequotas"
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    await asyncio.to_thread(api.plane.cluster.create, path, quota)
    counted = {"status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}}  # as no controller does it here
    await asyncio.to_thread(api.plane.cluster.patch, f"{path}/none/status", counted)

    async def until_refused() -> None:
        spec = {"containers": [{"name": "one", "image": "none"}]}
        for number in count():  # the server sees the quota a little later
            await client.create(PODS, {"metadata": {"name": f"pod-{number}"}, "spec": spec}, namespace=api.namespace)

    async with asyncio.timeout(20):
        with pytest.raises(Forbidden, match="quota") as caught:
            await until_refused()
    assert caught.value.rule == ""


async def test_a_pod_is_read_into_the_few_fields_that_are_used(api: RealApi) -> None:
    client = await api.client()
    sidecar = {"name": "proxy", "image": "none", "restartPolicy": "Always"}
    model = {
        "name": "model",
        "image": "none",
        "ports": [{"containerPort": 8000, "name": "http"}],
        "resources": {"limits": {"cpu": "2", "nvidia.com/gpu": 1}},
    }
    notes = {"zerogate.dev/idle-timeout": "5m", "somebody.dev/else": "x" * 100}
    pod = {
        "metadata": {"name": "one", "annotations": notes, "labels": {"app": "one"}},
        "spec": {"containers": [model], "initContainers": [sidecar]},
    }
    found = await client.create(PODS, pod, namespace=api.namespace)
    (container,), (first,) = found.spec.containers, found.spec.init_containers
    assert first.name == "proxy"
    assert container.ports[0].container_port == 8000
    assert container.ports[0].name == "http"
    assert found.metadata.annotations == {"zerogate.dev/idle-timeout": "5m"}
    assert (found.status.phase, found.is_ready, found.metadata.is_deleting) == ("Pending", False, False)


async def test_a_server_whose_data_was_set_back_is_listed_anew(api: RealApi) -> None:
    """Asked for a version that it has not reached, it is silent for ever."""
    client = await api.client()
    await client.create(CONFIG_MAPS, config_map("one"), namespace=api.namespace)
    pace = msgspec.structs.replace(QUICK, silence_s=0.3)
    watched = Watched(client, CONFIG_MAPS, namespace=api.namespace, labels="part=contract", pace=pace)
    watched._following.on_initial_end("999999999")
    watched.start()
    async with asyncio.timeout(20):
        await watched.wait_synced()
    assert list(watched.items) == [(api.namespace, "one")]
    await watched.aclose()
