"""The activator's own process, in a cluster that is a double."""

import asyncio

from activator.running import Activator
from activator.settings import read
from tests.zerogate.kube.double import ApiDouble


async def asked_by(*flags: str) -> set[str]:
    """What one that starts asks the API server for, without the queries."""
    cluster = ApiDouble()
    await cluster.start()
    activator = Activator(read(("--admin", "127.0.0.1:0", *flags), {}), cluster.access, name="activator-1")
    try:
        async with asyncio.timeout(30):
            await activator.start()
    finally:
        await activator.stop()
        await cluster.aclose()
    return {what.split("?")[0] for what in cluster.seen}


async def test_told_of_one_namespace_it_asks_for_workloads_pods_and_slices_of_that_one_only() -> None:
    anywhere, inside = await asked_by(), await asked_by("--watch-namespace", "ml")
    watched = {
        "apps/v1": ("deployments", "statefulsets"), "discovery.k8s.io/v1": ("endpointslices",), "v1": ("pods",)
    }  # fmt: skip
    for group, kinds in watched.items():
        folder = f"GET /apis/{group}" if "/" in group else f"GET /api/{group}"
        for kind in kinds:
            assert f"{folder}/{kind}" in anywhere - inside
            assert f"{folder}/namespaces/ml/{kind}" in inside - anywhere
