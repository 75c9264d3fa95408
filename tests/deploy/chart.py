"""The chart as tests use it: Helm, what it renders, and the snapshots of that.

`python -m tests.deploy.chart` writes the snapshots anew; look at the difference before you commit it.
"""

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.kubernetes.harness import binaries

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "deploy" / "chart"
SNAPSHOTS: Final = Path(__file__).parent / "snapshots"
SYSTEM: Final = "zerogate-system"
_KUBERNETES: Final = binaries.KUBERNETES.removeprefix("v")

Object = dict[str, Any]

EVERYTHING: Final[Mapping[str, Any]] = {
    "policy": {
        "default": {"idle-timeout": "10m", "target-concurrency": 4},
        "least": {"idle-timeout": "1m"},
        "most": {"max-replicas": 8},
        "only": {"takeover": "false", "protocol": ["http1", "h2c"]},
    },
    "extraWorkloads": [
        {"group": "apps.kruise.io", "version": "v1alpha1", "resource": "clonesets", "kind": "CloneSet"},
        {
            "group": "leaderworkerset.x-k8s.io",
            "version": "v1",
            "resource": "leaderworkersets",
            "kind": "LeaderWorkerSet",
        },
    ],
    "gateway": {
        "tls": {"secrets": ["default", "models"]},
        "proxyProtocolFrom": ["10.0.0.0/8"],
        "service": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
        "wakeNamespaces": ["team-a"],
    },
    "activator": {"enabled": True},
    "listenHost": "::",
    "networkPolicy": {"sidecarNamespaces": ["team-a"], "adminFrom": [{"ipBlock": {"cidr": "192.0.2.0/28"}}]},
    "access": {"viewers": [{"kind": "Group", "name": "developers"}]},
    "metrics": {
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
}
"""Every part of the chart."""

CERT_MANAGER: Final[Mapping[str, Any]] = {"certificates": {"certManager": {"enabled": True}}}
CASES: Final[Mapping[str, Mapping[str, Any]]] = {
    "default": {}, "everything": EVERYTHING, "cert-manager": CERT_MANAGER
}  # fmt: skip


class HelmError(Exception):
    """Helm said no; the text is what it said."""


def helm(*arguments: str | Path, stdin: str = "", within_s: float = 60) -> str:
    """What Helm prints."""
    program = binaries.ensure(["helm"])["helm"]
    done = subprocess.run(
        [program, *arguments], input=stdin, capture_output=True, text=True, timeout=within_s, check=False
    )
    if done.returncode:
        raise HelmError(done.stderr + done.stdout)
    return done.stdout


def render(values: Mapping[str, Any] | None = None, *, name: str = "zerogate", namespace: str = SYSTEM) -> str:
    """All objects as Helm renders them."""
    return helm(
        "template", name, CHART, "--namespace", namespace, "--kube-version", _KUBERNETES, "--values", "-",
        stdin=yaml.safe_dump(dict(values or {})),
    )  # fmt: skip


def objects(
    values: Mapping[str, Any] | None = None, *, name: str = "zerogate", namespace: str = SYSTEM
) -> list[Object]:
    """The same, read."""
    return [one for one in yaml.safe_load_all(render(values, name=name, namespace=namespace)) if one]


def one(found: Iterable[Object], kind: str, name: str) -> Object:
    """The object of that kind and name."""
    (match,) = [each for each in found if each["kind"] == kind and each["metadata"]["name"] == name]
    return match


def pod_specs(found: Iterable[Object]) -> dict[str, Object]:
    """The pods of all Deployments, by component."""
    deployments = [each for each in found if each["kind"] == "Deployment"]
    return {each["spec"]["template"]["spec"]["containers"][0]["name"]: each["spec"]["template"] for each in deployments}


if __name__ == "__main__":
    SNAPSHOTS.mkdir(exist_ok=True)
    for case, chosen in CASES.items():
        (SNAPSHOTS / f"{case}.yaml").write_text(render(chosen))
