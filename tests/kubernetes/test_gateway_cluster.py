"""A gateway that has its services from a cluster: a real API server and controllers, real gateways and sidecars."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.test_workers import Gateway
from tests.kubernetes.harness.control_plane import ControlPlane, control_plane
from tests.kubernetes.kubelet import Kubelet, kubelet
from tests.queueproxy.world import Program
from tests.zerogate.http.rig import Client
from zerogate.kube.rights import Role, rights_of

pytestmark = [pytest.mark.uvloop, pytest.mark.may_block("the harness's client makes TLS contexts")]

PORTS = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
NOBODY = "127.0.0.1:9"
"""Where no autoscaler is."""


async def went_on(streams: list[tuple[Client, "asyncio.Task[bytes]"]]) -> bool:
    """Whether none of them has ended; they end with this."""
    await asyncio.sleep(0.1)
    have_gone_on = not any(reader.done() for _, reader in streams)
    for client, reader in streams:
        client.close()
        reader.cancel()
    return have_gone_on


class ClusterGateway(Gateway):
    """`python -m gateway --cluster`, asked for services by their hosts."""

    async def get(self, host: str, path: str = "/", *, headers: str = "") -> tuple[int, str, bytes]:
        """(status, head in lower case, body) of a request on a connection of its own."""
        client = await self.connect()
        try:
            await client.send(
                f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n".encode()
            )  # fmt: skip
            head, _, body = (await client.rest()).partition(b"\r\n\r\n")
            return int(head.split()[1]), head.decode().lower(), body
        finally:
            self.clients.disown(client)

    async def stream_of(self, host: str) -> tuple[Client, "asyncio.Task[bytes]"]:
        client = await self.connect()
        await client.send(f"GET /sse?events=100000&gap_ms=20 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        await client.until(b"\r\n\r\n")
        return client, asyncio.ensure_future(client.reader.read())  # noqa: TID251 - a reader of one test

    async def services(self) -> dict[str, Any]:
        found = (await self.admin("/services"))[1]["services"]
        return {service["service"]: service for service in found}

    async def until_status(self, host: str, wanted: int) -> None:
        async def seen() -> bool:
            return (await self.get(host))[0] == wanted

        await self.until(seen)

    async def until_known(self, service: str) -> None:
        """Wait until the workers know a workload that is reached by its own name: a health check wakes nothing."""
        namespace, _, name = service.partition("/")

        async def seen() -> bool:
            asked = [await self.get(f"{name}.{namespace}", "/health") for _ in range(8)]
            return all(service.encode() in body for _, _, body in asked)

        await self.until(seen)

    async def until_replicas(self, service: str, count: int) -> None:
        async def seen() -> bool:
            return len((await self.services()).get(service, {"replicas": ()})["replicas"]) == count

        await self.until(seen)

    async def until_held(self, service: str, count: int = 1) -> None:
        async def seen() -> bool:
            return await self.metric(f'zerogate_held{{service="{service}"}}') == count

        await self.until(seen)


@asynccontextmanager
async def cluster_gateway(
    kubeconfig: Path, *flags: str, workers: int = 2, ready: bool = True, home: str = "default"
) -> AsyncIterator[ClusterGateway]:
    """One, once its workers take requests; with `ready` false once it has been started."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "--cluster", "--kubeconfig", str(kubeconfig), *PORTS,
        "--workers", str(workers), "--stats", NOBODY, *flags, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "POD_NAMESPACE": home},
    )  # fmt: skip
    it = ClusterGateway(Program(process, process.stderr), kubeconfig)
    try:
        numbers = re.findall(r":([0-9]+)", (await it.program.line_with("requests on")).partition("requests on")[2])
        it.port, it.admin_port = int(numbers[0]), int(numbers[1])
        for _ in range(workers if ready else 0):
            await it.program.line_with("takes requests")
        yield it
    finally:
        await it.clients.aclose()
        await it.leave()


@pytest.fixture
def own_namespace(controllers: ControlPlane) -> Iterator[str]:
    with controllers.namespace() as name:
        yield name


@pytest.fixture
async def played(controllers: ControlPlane, own_namespace: str) -> AsyncIterator[Kubelet]:
    async with kubelet(controllers, own_namespace) as it:
        yield it


@pytest.fixture
def account(controllers: ControlPlane, own_namespace: str) -> Path:
    return account_of(controllers, own_namespace, "gateway")


def account_of(plane: ControlPlane, namespace: str, role: Role) -> Path:
    """The kubeconfig of somebody who may do what this role may, and nothing else."""
    here: list[dict[str, Any]] = []
    everywhere: list[dict[str, Any]] = []
    for right in rights_of(role):
        rule = {"apiGroups": [right.group], "resources": right.resources, "verbs": right.verbs}
        named = {"resourceNames": right.names} if right.names else {}
        (here if right.at_home else everywhere).append({**rule, **named})
    return plane.account(namespace, role, rules=here, cluster_rules=everywhere).kubeconfig


@pytest.fixture
async def gateway(account: Path, own_namespace: str) -> AsyncIterator[ClusterGateway]:
    async with cluster_gateway(account, home=own_namespace) as it:
        yield it


async def up(played: Kubelet, name: str, **annotations: str) -> str:
    """A workload with one ready replica; its pod."""
    await played.deploy(name, 1, **annotations)
    [pod] = await played.until_pods(name, 1)
    await played.bring_up(pod)
    return pod


async def test_a_workload_is_reached_by_the_names_of_its_service_as_soon_as_it_is_annotated(
    gateway: ClusterGateway, played: Kubelet
) -> None:
    await up(played, "llama")
    for host in ("", ".svc", ".svc.cluster.local"):
        name = f"llama.{played.namespace}{host}"
        await gateway.until_status(name, 200)
    assert (await gateway.get("llama"))[0] == 404
    await played.annotate("llama", enabled="false")
    await gateway.until_status(f"llama.{played.namespace}", 404)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine's kernel has no IPv6")
async def test_a_pod_of_a_cluster_of_ipv6_is_reached_like_any_other(gateway: ClusterGateway, played: Kubelet) -> None:
    played.port, played.admin = free_port("::1"), free_port("::1")
    await played.deploy("llama", 1)
    [pod] = await played.until_pods("llama", 1)
    await played.give_address(pod, address="::1")
    await played.start_sidecar(pod)
    await gateway.until_status(f"llama.{played.namespace}", 200)
    about = (await gateway.services())[f"{played.namespace}/llama"]
    assert about["replicas"] == [f"[::1]:{played.port}"]


def free_port(host: str) -> int:
    with socket.create_server((host, 0), family=socket.AF_INET6) as sock:
        port: int = sock.getsockname()[1]
        return port


async def test_streams_go_on_whatever_else_appears_changes_and_vanishes(
    gateway: ClusterGateway, played: Kubelet
) -> None:
    await up(played, "llama", hosts="a.example")
    await gateway.until_status("a.example", 200)
    streams = [await gateway.stream_of("a.example") for _ in range(4)]
    await up(played, "other")
    await gateway.until_status(f"other.{played.namespace}", 200)
    await played.annotate("llama", hosts="b.example", queue_limit="7")
    await gateway.until_status("b.example", 200)
    await gateway.until_status("a.example", 404)
    await played.delete("other")
    await gateway.until_status(f"other.{played.namespace}", 404)
    await played.annotate("llama", enabled=None)
    await gateway.until_status("b.example", 404)
    assert await went_on(streams)


async def test_replicas_that_come_are_used_and_one_that_is_deleted_gets_nothing_new(
    gateway: ClusterGateway, played: Kubelet
) -> None:
    service, host = f"{played.namespace}/llama", f"llama.{played.namespace}"
    first = await up(played, "llama")
    await gateway.until_status(host, 200)
    stream, reader = await gateway.stream_of(host)
    await played.scale("llama", 2)
    second = next(name for name in await played.until_pods("llama", 2) if name != first)
    await played.bring_up(second)
    await gateway.until_replicas(service, 2)
    await played.note_on_pod(first, "controller.kubernetes.io/pod-deletion-cost", "-5")
    await played.scale("llama", 1)
    await played.until_pods("llama", 1)
    assert await played.names("llama") == [second]
    await gateway.until_replicas(service, 1)
    for _ in range(20):
        assert (await gateway.get(host))[0] == 200
    assert not reader.done(), "it ends with its pod and not before"
    stream.close()
    reader.cancel()


async def test_c17_what_waits_goes_in_when_the_sidecar_says_ready_and_not_when_the_kubelet_does(
    gateway: ClusterGateway, played: Kubelet
) -> None:
    host = f"llama.{played.namespace}"
    await played.deploy("llama", 1)
    await gateway.until_known(f"{played.namespace}/llama")
    [pod] = await played.until_pods("llama", 1)
    await played.give_address(pod, "--ready-after", "0.5")
    await gateway.until_replicas(f"{played.namespace}/llama", 1)
    held = asyncio.ensure_future(gateway.get(host))  # noqa: TID251 - a client of one test
    await gateway.until_held(f"{played.namespace}/llama")
    await played.start_sidecar(pod)
    status, head, _ = await held
    assert status == 200
    assert "server-timing: hold;dur=" in head


async def test_two_gateways_without_an_autoscaler_wake_a_service_with_one_write(account: Path, played: Kubelet) -> None:
    host = f"llama.{played.namespace}"
    await played.deploy("llama")
    _, before = await played.number("llama")
    async with AsyncExitStack() as stack:
        gateways = [
            await stack.enter_async_context(cluster_gateway(account, home=played.namespace)) for _ in range(2)
        ]  # fmt: skip
        for one in gateways:
            await one.until_known(f"{played.namespace}/llama")
        clients = [asyncio.ensure_future(one.get(host)) for one in gateways for _ in range(5)]  # noqa: TID251
        [pod] = await played.until_pods("llama", 1)
        await played.bring_up(pod)
        answers = await asyncio.gather(*clients)
        assert [status for status, _, _ in answers] == [200] * 10
        number, generation = await played.number("llama")
        assert (number, generation - before) == (1, 1)
        woken = sum([await one.metric("zerogate_self_wakes_total") for one in gateways])
        assert woken == 1
        async with asyncio.timeout(10):
            while not await played.events("WokenByGateway"):
                await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "pin",
    ['{"replicas":0}', '{"replicas":0,"until":"2090-01-01T00:00:00Z"}', "{}"],
    ids=["zero", "zero until then", "paused"],
)
async def test_what_a_person_keeps_at_zero_is_not_woken(gateway: ClusterGateway, played: Kubelet, pin: str) -> None:
    await played.deploy("llama", hold_timeout="5s")
    await played.note("llama", "state.zerogate.dev/pin", pin)
    await gateway.until_known(f"{played.namespace}/llama")
    status, _, body = await gateway.get(f"llama.{played.namespace}")
    assert (status, b"hold_timeout" in body) == (503, True)
    assert (await played.number("llama"))[0] == 0


async def test_who_waits_for_a_stateful_set_over_its_quota_is_told_its_controllers_words(
    gateway: ClusterGateway, played: Kubelet
) -> None:
    await played._tell("create", f"/api/v1/namespaces/{played.namespace}/resourcequotas", {
        "metadata": {"name": "few"}, "spec": {"hard": {"pods": "0"}},
    })  # fmt: skip
    await played._tell("create", f"/apis/apps/v1/namespaces/{played.namespace}/statefulsets", {
        "metadata": {"name": "llama", "annotations": {
            "zerogate.dev/enabled": "true", "zerogate.dev/hold-timeout": "60s", "zerogate.dev/start-timeout": "5s",
        }},
        "spec": {
            "replicas": 0, "serviceName": "llama", "selector": {"matchLabels": {"app": "llama"}},
            "template": {
                "metadata": {"labels": {"app": "llama"}},
                "spec": {"containers": [{"name": "model", "image": "model", "ports": [{"containerPort": 8000}]}]},
            },
        },
    })  # fmt: skip
    await gateway.until_known(f"{played.namespace}/llama")
    status, _, body = await gateway.get(f"llama.{played.namespace}")
    assert (status, b"start_failed" in body) == (503, True)
    assert b"exceeded quota: few" in body


async def test_of_two_workloads_with_one_host_the_older_has_it_and_the_other_is_told(
    gateway: ClusterGateway, played: Kubelet
) -> None:
    host = f"{played.namespace}.example"
    await up(played, "older", hosts=host)
    await gateway.until_status(host, 200)
    await asyncio.sleep(1.1)  # times of the API are whole seconds
    await played.deploy("younger", 0, hosts=f"{host},y.{host}")
    service = f"{played.namespace}/younger"

    async def refused() -> bool:
        return bool((await gateway.services()).get(service, {}).get("notices"))

    await gateway.until(refused)
    about = (await gateway.services())[service]
    assert about["hosts"] == [f"y.{host}"]
    assert about["notices"][0].startswith(f"{host}/ leads to {played.namespace}/older, which has it already.")
    assert (await gateway.get(host))[0] == 200
    async with asyncio.timeout(10):
        while not (told := await played.events("RouteTaken")):
            await asyncio.sleep(0.1)
    assert told == about["notices"]
    await played.delete("older")

    async def has_it() -> bool:
        return host in (await gateway.services())[service]["hosts"]

    await gateway.until(has_it)


async def test_the_schedulers_own_words_reach_the_client_that_waited_in_vain(
    gateway: ClusterGateway, played: Kubelet
) -> None:
    await played.deploy("llama", 1, hold_timeout="3s")
    await played.until_pods("llama", 1)
    service = f"{played.namespace}/llama"
    await gateway.until_known(service)

    async def known() -> bool:
        return (await gateway.services()).get(service, {}).get("trouble") is not None

    await gateway.until(known)
    status, head, body = await gateway.get(f"llama.{played.namespace}")
    assert status == 503
    assert "retry-after: " in head
    # the second where other tests have given this cluster nodes that take no pods of ours
    assert re.search(rb"not scheduled: (no nodes available to schedule pods|0/[0-9]+ nodes are available)", body)


async def test_c13_a_replica_that_can_never_start_is_told_at_once_with_its_cause(
    gateway: ClusterGateway, played: Kubelet
) -> None:
    host, service = f"llama.{played.namespace}", f"{played.namespace}/llama"
    await played.deploy("llama", 1)
    [pod] = await played.until_pods("llama", 1)
    await gateway.until_known(service)
    held = asyncio.ensure_future(gateway.get(host))  # noqa: TID251 - a client of one test
    await gateway.until_held(service)
    await played.bind(pod)
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "model"'}
    await played.say(pod, {"waiting": waiting}, ready=False)
    status, head, body = await asyncio.wait_for(held, 5)
    assert (status, b"start_failed" in body, "retry-after: 30" in head) == (503, True, True)
    assert b'container model: ImagePullBackOff: Back-off pulling image \\"model\\"' in body
    status, _, _ = await asyncio.wait_for(gateway.get(host), 2)
    assert status == 503
    await played.bring_up(pod, bound=True)
    await gateway.until_status(host, 200)


async def test_without_the_api_server_what_is_warm_goes_on_and_readiness_says_so(
    own_plane: ControlPlane,
) -> None:
    with own_plane.namespace() as namespace:
        async with kubelet(own_plane, namespace) as played, cluster_gateway(own_plane.cluster.kubeconfig) as gateway:
            host = f"llama.{namespace}"
            await up(played, "llama")
            await gateway.until_status(host, 200)
            stream, reader = await gateway.stream_of(host)
            await asyncio.to_thread(own_plane.api_server.stop)
            failures: list[int] = []
            async with asyncio.timeout(60):
                for _ in range(100):
                    status, _, _ = await gateway.get(host)
                    failures += [status] if status != 200 else []
                    await asyncio.sleep(0.1)
            assert failures == []
            status, ready = await gateway.admin("/readyz")
            assert status == 200
            assert "as last seen" in ready["detail"]
            async with cluster_gateway(own_plane.cluster.kubeconfig, ready=False) as blind:
                status, ready = await blind.admin("/readyz")
                assert status == 503
                assert ready["detail"].startswith("waits for the Kubernetes API")
                await asyncio.to_thread(own_plane.start_api_server)
                await blind.program.line_with("takes requests")
                assert (await blind.get(host))[0] == 200

            async def recovered() -> bool:
                return "last seen" not in (await gateway.admin("/readyz"))[1]["detail"]

            async with asyncio.timeout(60):
                while not await recovered():
                    await asyncio.sleep(0.2)
            assert not reader.done()
            await up(played, "another")
            await gateway.until_status(f"another.{namespace}", 200)
            stream.close()
            reader.cancel()


async def test_a_cluster_process_that_dies_is_replaced_and_nobody_notices(
    gateway: ClusterGateway, played: Kubelet
) -> None:
    host = f"llama.{played.namespace}"
    await up(played, "llama")
    await gateway.until_status(host, 200)
    stream, reader = await gateway.stream_of(host)
    [pid] = gateway.pids("cluster")
    os.kill(pid, signal.SIGKILL)
    await gateway.program.line_with("the cluster process")
    await up(played, "other")
    await gateway.until_status(f"other.{played.namespace}", 200)
    assert not reader.done()
    stream.close()
    reader.cancel()


async def test_workers_load_nothing_of_what_the_cluster_process_needs(gateway: ClusterGateway) -> None:
    def loaded(pid: int) -> str:
        return Path(f"/proc/{pid}/maps").read_text()

    [cluster] = gateway.pids("cluster")
    assert "multidict" in loaded(cluster)
    for pid in gateway.pids("worker"):
        assert "multidict" not in loaded(pid)


@pytest.fixture
def own_plane() -> Iterator[ControlPlane]:
    with control_plane(with_controllers=True) as plane:
        yield plane
