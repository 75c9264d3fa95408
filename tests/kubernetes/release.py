"""zerogate on a node of the tests, installed as a user does: by the chart."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.chart import CHART, SYSTEM, HelmError, helm
from tests.kubernetes.harness.access import MERGE_PATCH, Cluster
from tests.kubernetes.harness.images import ZEROGATE
from tests.kubernetes.harness.node import Node
from tests.kubernetes.harness.processes import ClusterError, until

AUTOSCALERS_ONLY: Mapping[str, Any] = {"gateway": {"enabled": False}, "activator": {"enabled": False}}


@contextmanager
def installed(node: Node, values: Mapping[str, Any] = AUTOSCALERS_ONLY) -> Iterator[None]:
    """Ready, and its webhook asked; gone at the end."""
    repository, _, tag = ZEROGATE.rpartition(":")
    image = {"repository": repository, "tag": tag, "pullPolicy": "Never"}
    where: list[str | Path] = ["zerogate", "--namespace", SYSTEM, "--kubeconfig", node.cluster.kubeconfig]
    given = yaml.safe_dump({"image": image, **values})
    try:
        helm("install", *where, CHART, "--create-namespace", "--wait", "--timeout=60s", "--values=-", stdin=given)
    except HelmError as error:
        pods = node.cluster.kubectl("logs", "-n", SYSTEM, "-l", "app.kubernetes.io/name=zerogate", "--tail=50")
        raise ClusterError(f"{error}\n{pods}") from error
    try:
        until(lambda: is_asked(node.cluster), within_s=30, what="the first question of the API server")
        yield
    finally:
        helm("uninstall", *where)


def is_asked(cluster: Cluster) -> bool:
    """Whether API servers reach the webhook and believe it."""
    wrong = {"metadata": {"annotations": {"zerogate.dev/idle-timeout": "5"}}}
    return cluster.ask("PATCH", "/api/v1/namespaces/default?dryRun=All", wrong, kind=MERGE_PATCH).status == 422
