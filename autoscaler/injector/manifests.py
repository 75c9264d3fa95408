"""The webhook configurations as objects for the API server: what is asked about, and of whom never. Pure.

`failurePolicy: Ignore` everywhere, a short timeout, and conditions that the API server checks itself: with every
autoscaler gone, pods start without a sidecar, after at most `TIMEOUT_S` each, and what is none of zerogate's business
does not even ask. The chart says the same in its own language, and is held to this by a test; what is installed without
the chart is made here.
"""

import base64
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from zerogate.kube.keys import PREFIX

TIMEOUT_S: Final = 3
"""An answer takes milliseconds; so long may each pod be late when the webhook's network is a black hole."""
OPT_OUT: Final = f"{PREFIX}injection"
"""Label of namespaces and of pods; `disabled` keeps the webhook from being asked."""
MUTATE_PATH: Final = "/mutate"
VALIDATE_PATH: Final = "/validate"
_NEVER: Final = ("kube-system", "kube-node-lease", "kube-public")

_TEMPLATES: Final = ("object.spec.template", "object.spec.leaderWorkerTemplate.leaderTemplate")


class Workloads(msgspec.Struct, frozen=True):
    """A kind with a pod template."""

    group: str
    resources: tuple[str, ...]
    versions: tuple[str, ...] = ("*",)


WORKLOADS: Final = (Workloads("apps", ("deployments", "statefulsets")),)


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """Where the webhook is. `ca_bundle`: PEM; empty until the autoscaler has made it."""

    name: str = "zerogate"
    namespace: str = "zerogate-system"
    service: str = "zerogate-autoscaler"
    port: int = 443
    ca_bundle: bytes = b""
    url: str | None = None
    """Instead of the Service, for a webhook outside of the cluster: https://HOST:PORT."""
    workloads: tuple[Workloads, ...] = WORKLOADS
    controllers: tuple[str, ...] = ("ReplicaSet", "StatefulSet", "CloneSet")
    """Kinds that own pods which may get a sidecar."""
    config_map: str = "zerogate-policy"


def server_names(installation: Installation) -> tuple[str, ...]:
    """What the certificate has to be for: the webhook, and the stream of reports."""
    if installation.url is not None:
        return (str(urlsplit(installation.url).hostname),)
    service, stats = (f"{installation.service}{more}.{installation.namespace}.svc" for more in ("", "-stats"))
    return (service, f"{service}.cluster.local", stats, f"{stats}.cluster.local", stats.removesuffix(".svc"))


def webhook_configurations(installation: Installation) -> tuple[dict[str, Any], dict[str, Any]]:
    """The mutating and the validating configuration."""
    return _configuration("Mutating", installation, [_pods(installation)]), _configuration(
        "Validating", installation, [_workloads(installation), _namespaces(installation), _config_map(installation)]
    )


def _configuration(kind: str, installation: Installation, webhooks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": installation.name, "labels": {"app.kubernetes.io/name": "zerogate"}},
        "webhooks": list(webhooks),
    }


def _webhook(installation: Installation, name: str, path: str, rule: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": f"{name}.{PREFIX.rstrip('/')}",
        "clientConfig": _client(installation, path),
        "rules": [rule],
        "failurePolicy": "Ignore",
        "matchPolicy": "Equivalent",
        "sideEffects": "NoneOnDryRun",  # Events tell of what was done
        "timeoutSeconds": TIMEOUT_S,
        "admissionReviewVersions": ["v1"],
    }


def _client(installation: Installation, path: str) -> dict[str, Any]:
    bundle = {"caBundle": base64.b64encode(installation.ca_bundle).decode()} if installation.ca_bundle else {}
    if installation.url is not None:
        return {"url": installation.url + path, **bundle}
    service = {"namespace": installation.namespace, "name": installation.service, "path": path}
    return {"service": {**service, "port": installation.port}, **bundle}


def _rule(group: str, versions: Sequence[str], resources: Sequence[str], operations: Sequence[str], scope: str) -> Any:
    return {
        "apiGroups": [group],
        "apiVersions": list(versions),
        "resources": list(resources),
        "operations": list(operations),
        "scope": scope,
    }


def _other_namespaces(installation: Installation) -> dict[str, Any]:
    """Never zerogate's own, whose pods have to start while it is down, nor those that a cluster lives by."""
    never = [*_NEVER, installation.namespace]
    return {
        "matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": never},
            {"key": OPT_OUT, "operator": "NotIn", "values": ["disabled"]},
        ]
    }


def _pods(installation: Installation) -> dict[str, Any]:
    kinds = ", ".join(f"'{kind}'" for kind in installation.controllers)
    owned = (
        "has(object.metadata.ownerReferences) && object.metadata.ownerReferences.exists("
        f"o, has(o.controller) && o.controller && o.kind in [{kinds}])"
    )
    webhook = _webhook(installation, "pods", MUTATE_PATH, _rule("", ["v1"], ["pods"], ["CREATE"], "Namespaced"))
    return {
        **webhook,
        "reinvocationPolicy": "IfNeeded",
        "namespaceSelector": _other_namespaces(installation),
        "objectSelector": {"matchExpressions": [{"key": OPT_OUT, "operator": "NotIn", "values": ["disabled"]}]},
        "matchConditions": [{"name": "made-by-a-workload", "expression": owned}],
    }


def _workloads(installation: Installation) -> dict[str, Any]:
    rules = [
        _rule(kind.group, kind.versions, kind.resources, ["CREATE", "UPDATE"], "Namespaced")
        for kind in installation.workloads
    ]
    webhook = _webhook(installation, "workloads", VALIDATE_PATH, rules[0])
    return {
        **webhook,
        "rules": rules,
        "namespaceSelector": _other_namespaces(installation),
        "matchConditions": [{"name": "has-keys", "expression": _has_keys()}],
    }


def _has_keys() -> str:
    """In the expression language of the API server: one of ours stands on the object or on its pod template."""
    places = ["object", *_TEMPLATES]
    return " || ".join(f"({_has(place)})" for place in places)


def _has(place: str) -> str:
    steps = f"{place}.metadata.annotations".split(".")
    paths = [".".join(steps[:count]) for count in range(3 if place != "object" else 2, len(steps) + 1)]
    guards = [f"has({path})" for path in paths if path.count(".") > 0]
    return " && ".join([*guards, f"{paths[-1]}.exists(k, k.startsWith('{PREFIX}'))"])


def _namespaces(installation: Installation) -> dict[str, Any]:
    webhook = _webhook(
        installation, "namespaces", VALIDATE_PATH,
        _rule("", ["v1"], ["namespaces"], ["CREATE", "UPDATE"], "Cluster"),
    )  # fmt: skip
    return {**webhook, "matchConditions": [{"name": "has-keys", "expression": _has("object")}]}


def _config_map(installation: Installation) -> dict[str, Any]:
    webhook = _webhook(
        installation, "policy", VALIDATE_PATH,
        _rule("", ["v1"], ["configmaps"], ["CREATE", "UPDATE"], "Namespaced"),
    )  # fmt: skip
    own = {"kubernetes.io/metadata.name": installation.namespace}
    named = {"name": "is-the-policy", "expression": f"object.metadata.name == '{installation.config_map}'"}
    return {**webhook, "namespaceSelector": {"matchLabels": own}, "matchConditions": [named]}
