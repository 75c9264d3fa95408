import asyncio
import io
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from autoscaler.injector.authority import BUNDLE, LEAF, LEAF_KEY, read_held, take
from autoscaler.injector.review import Answer, Request
from autoscaler.injector.server import LARGEST_BODY_BYTES, Webhook
from autoscaler.injector.validity import plan
from tests.autoscaler.injector.reviews import World, posted, response
from tests.zerogate.kube.pods import patched
from zerogate.clock import wall
from zerogate.kube.sidecar import SIDECAR

NAMES = ("localhost",)


def certificates() -> dict[str, bytes]:
    data: dict[str, bytes] = {}
    while (step := plan(read_held(data), NAMES, wall()).step) is not None:
        data = take(step, data, NAMES, wall())
    return data


class Served:
    """A webhook and who asks it."""

    def __init__(self, port: int, webhook: Webhook, data: dict[str, bytes]) -> None:
        self.url = f"https://localhost:{port}"
        self.webhook = webhook
        self.trusts(data)

    def trusts(self, data: dict[str, bytes]) -> None:
        self.context = ssl.create_default_context(cadata=data[BUNDLE].decode())

    async def post(self, body: bytes, path: str = "/mutate") -> tuple[int, bytes]:
        connector = aiohttp.TCPConnector(ssl=self.context, family=socket.AF_INET)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post(self.url + path, data=io.BytesIO(body)) as answer,
        ):
            return answer.status, await answer.read()

    async def asked(self, obj: dict[str, Any], path: str = "/mutate", kind: str = "Pod") -> dict[str, Any]:
        status, body = await self.post(posted(obj, kind), path)
        assert status == 200
        return response(body)


@asynccontextmanager
async def served(mutate: Any = None, validate: Any = None, deadline_s: float = 2.0) -> AsyncIterator[Served]:
    world = World()
    world.deploy(enabled="true")
    webhook = Webhook(
        mutate or world.answering.mutate, validate or world.answering.validate, deadline_s=deadline_s
    )  # fmt: skip
    data = certificates()
    webhook.use(data[LEAF], data[LEAF_KEY])
    sock = socket.create_server(("127.0.0.1", 0))
    await webhook.start(sock)
    try:
        yield Served(sock.getsockname()[1], webhook, data)
    finally:
        await webhook.stop()


async def test_a_pod_is_patched_over_tls() -> None:
    pod = World().pod_of()
    async with served() as it:
        answer = await it.asked(pod)
        assert answer["allowed"]
        assert patched(pod, answer["patch"])["spec"]["initContainers"][0]["name"] == SIDECAR
        assert it.webhook.counts["answered"] == 1


async def test_a_wrong_workload_is_refused_over_tls() -> None:
    wrong = {"metadata": {"name": "llm", "annotations": {"zerogate.dev/enabled": "yes"}}}
    async with served() as it:
        answer = await it.asked(wrong, "/validate", "Deployment")
        assert not answer["allowed"]
        assert 'zerogate.dev/enabled: "yes" is not allowed' in answer["status"]["message"]
        assert it.webhook.counts["refused"] == 1


async def test_a_mistake_of_ours_stops_nobodys_pod(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: Request) -> Answer:
        raise KeyError("name")

    async with served(broken, broken) as it:
        for path in ("/mutate", "/validate"):
            answer = await it.asked(World().pod_of(), path)
            assert answer["allowed"]
            assert "patch" not in answer
            assert "let through unchanged and unchecked: KeyError" in answer["warnings"][0]
        assert it.webhook.counts["failed"] == 2
    assert "a review of Pod default/" in caplog.text


async def test_a_cluster_that_does_not_answer_stops_nobodys_pod() -> None:
    async def stuck(_: Request) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    async with served(stuck, deadline_s=0.05) as it:
        answer = await it.asked(World().pod_of())
        assert answer["allowed"]
        assert "did not answer in time" in answer["warnings"][0]


@pytest.mark.parametrize("broken", [{"spec": {}}, {"metadata": {"labels": 7}}, {}, {"spec": {"containers": [{}]}}])
async def test_a_pod_that_no_api_server_would_send_is_allowed(broken: dict[str, Any]) -> None:
    async with served() as it:
        assert (await it.asked({**World().pod_of(), **broken}))["allowed"]


async def test_what_is_no_review_or_too_long_is_an_error() -> None:
    async with served() as it:
        assert (await it.post(b"{}"))[0] == 400
        assert (await it.post(b" " * (LARGEST_BODY_BYTES + 1)))[0] == 413
        assert (await it.post(b"{}", "/other"))[0] == 404
        assert it.webhook.counts["malformed"] == 1


async def test_a_renewed_certificate_is_served_to_the_next_connection() -> None:
    async with served() as it:
        assert (await it.asked(World().pod_of()))["allowed"]
        renewed = certificates()
        it.webhook.use(renewed[LEAF], renewed[LEAF_KEY])
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await it.asked(World().pod_of())
        it.trusts(renewed)
        assert (await it.asked(World().pod_of()))["allowed"]


async def test_who_leaves_goes_on_answering_and_ends_each_connection_with_the_answer() -> None:
    async with served() as it:
        connector = aiohttp.TCPConnector(ssl=it.context, family=socket.AF_INET)
        async with aiohttp.ClientSession(connector=connector) as session:
            for leaving, said in ((False, None), (True, "close")):
                it.webhook.is_leaving = leaving
                async with session.post(it.url + "/mutate", data=posted(World().pod_of())) as answer:
                    assert "patch" in response(await answer.read())
                    assert answer.headers.get("Connection") == said
