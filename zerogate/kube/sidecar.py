"""The sidecar as a container of a pod: what it is told, what it may use, how it is known again. Pure.

It is a native sidecar: an init container with `restartPolicy: Always`, which starts before and ends after the others.
It fits the restricted pod security level, and a Guaranteed pod stays one. `queueproxy/settings.py` has the variables; a
test reads with it what is written here. Called by `zerogate.kube.injection`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from zerogate.kube.keys import PREFIX
from zerogate.kube.policies import WorkloadPolicy
from zerogate.kube.sidecar_memory import bounds_within, memory_bytes

SIDECAR: Final = "zerogate-queueproxy"
LABEL: Final = f"{PREFIX}sidecar"
"""`true` on pods that have one: for NetworkPolicies, scrapers and watches."""
PORT_NAME: Final = "zg-http"
ADMIN_NAME: Final = "zg-admin"
DRAIN_TOKEN: Final = "zerogate-drain-token"
"""Request header. Kubelets come over the network, so the admin port is open there; `/drain` is not, without this."""
TOKEN_VOLUME: Final = "zerogate-token"
TOKEN_FOLDER: Final = "/var/run/secrets/zerogate.dev"
_TOKEN_LIVES_S: Final = 3600
"""The kubelet renews it after four fifths; it is the least that serves a slow kubelet."""

_VARIABLE: Final = "ZEROGATE_"


class SidecarTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What the cluster's owner decides about all sidecars; of the chart's values."""

    image: str
    pull_policy: str | None = None
    """None: Kubernetes' own, which asks the registry for `latest` only."""
    command: tuple[str, ...] = ("python", "-m", "queueproxy")
    listen_host: str = "0.0.0.0"
    """`::` takes both families, where nodes have IPv6."""
    first_port: int = 8012
    """Of two that no container of the pod declares."""
    cpu_request: str = "25m"
    """An idle one takes a fiftieth of that."""
    cpu_limit: str | None = None
    """None: throttled, it would add its pauses to every token."""
    guaranteed_cpu: str = "250m"
    """Request and limit in a pod whose containers all have both alike: without a limit the pod would lose its class."""
    memory_request: str = "64Mi"
    memory_limit: str = "256Mi"
    """Itself, 64 MiB of requests that wait and as much again for what is on its way, and 768 connections."""
    body_memory: str | None = None
    """Of bodies and answers; None: what fits the limit, and so for connections."""
    max_connections: int | None = None
    run_as_user: int | None = 65532
    """None where the cluster gives users itself, as OpenShift does."""
    token_audience: str | None = None
    """Of a token that the sidecar shows when it reports; None: it has none."""
    extra_env: tuple[tuple[str, str], ...] = ()


class Placed(msgspec.Struct, frozen=True):
    """Where a pod's sidecar listens, and what it is in front of. `token` is asked for by `/drain`."""

    port: int
    admin: int
    model: int
    token: str


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """Whether an init container is ours, whatever others have changed in it."""
    return (
        container.get("name") == SIDECAR
        and container.get("restartPolicy") == "Always"
        and f"{_VARIABLE}UPSTREAM" in _plain_env(container)
    )


def sidecar_of(spec: Mapping[str, Any]) -> Placed | None:
    """Where the sidecar of a pod listens; None where it has none."""
    for container in spec.get("initContainers") or ():
        if is_sidecar(container):
            env = _plain_env(container)
            names = ("LISTEN", "ADMIN", "UPSTREAM")
            port, admin, model = (_port_in(env.get(f"{_VARIABLE}{name}", "")) for name in names)
            if port and admin and model:
                return Placed(port, admin, model, env.get(f"{_VARIABLE}DRAIN_TOKEN", ""))
    return None


def _plain_env(container: Mapping[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry.get("value") or "" for entry in container.get("env") or () if "name" in entry}


def _port_in(address: str) -> int:
    number = address.rpartition(":")[2]
    return int(number) if number.isdigit() else 0


def container_of(
    terms: SidecarTerms,
    wanted: WorkloadPolicy,
    placed: Placed,
    *,
    service: str,
    ready_path: str,
    port_names: Sequence[str],
    leads_services: bool,
    pod_spec: Mapping[str, Any],
    key: str = "",
) -> dict[str, Any]:
    """The container. `port_names`: all that Services may know the traffic's port by; `leads_services`: some do;
    `key`: autoscalers are known by it, where it is not empty."""
    env = {
        **_from_policy(wanted),
        **_within_memory(terms),
        **_places(terms, placed, service, ready_path, leads_services=leads_services),
    }
    if key:
        env["STATS_KEY"] = key
    container: dict[str, Any] = {
        "name": SIDECAR,
        "image": terms.image,
        "command": list(terms.command),
        "restartPolicy": "Always",
        "env": [
            *({"name": _VARIABLE + name, "value": value} for name, value in env.items()),
            *({"name": name, "value": value} for name, value in terms.extra_env),
        ],
        "ports": [
            *({"name": name, "containerPort": placed.port, "protocol": "TCP"} for name in port_names),
            {"name": ADMIN_NAME, "containerPort": placed.admin, "protocol": "TCP"},
        ],
        # no startup probe: the model need not wait for it, and no liveness probe: a restart would cut every stream
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": placed.admin},
            "periodSeconds": 1,
            "timeoutSeconds": 2,
            "failureThreshold": 2,
        },
        "resources": _resources(terms, pod_spec),
        "securityContext": _security(terms),
    }
    if terms.pull_policy is not None:
        container["imagePullPolicy"] = terms.pull_policy
    if terms.token_audience is not None:
        container["volumeMounts"] = [{"name": TOKEN_VOLUME, "mountPath": TOKEN_FOLDER, "readOnly": True}]
    return container


def _places(
    terms: SidecarTerms, placed: Placed, service: str, ready_path: str, *, leads_services: bool
) -> dict[str, str]:
    host = f"[{terms.listen_host}]" if ":" in terms.listen_host else terms.listen_host
    return {
        "UPSTREAM": str(placed.model),
        "LISTEN": f"{host}:{placed.port}",
        "ADMIN": f"{host}:{placed.admin}",
        "SERVICE": service,
        "PROBE_PATH": ready_path,
        "DRAIN_TOKEN": placed.token,
        "DRAIN_WAIT": _SERVICES_NOTICE if leads_services else "0s",
    }


def _from_policy(wanted: WorkloadPolicy) -> dict[str, str]:
    policy = wanted.policy
    quiet = _time(policy.idle_timeout_s) if policy.idle_websocket == "quiet" else "none"
    return {
        "CONCURRENCY_LIMIT": str(policy.concurrency_limit),
        "RELEASE_LIMIT": str(max(1, int(policy.target_concurrency))),
        "PROTOCOL": policy.protocol,
        "HOLD_TIMEOUT": _time(policy.hold_timeout_s),
        "CONNECT_TIMEOUT": _time(policy.connect_timeout_s),
        "FIRST_BYTE_TIMEOUT": _time(policy.first_byte_timeout_s),
        "IDLE_STREAM_TIMEOUT": _time(policy.idle_stream_timeout_s),
        "TOTAL_TIMEOUT": "none" if policy.total_timeout_s is None else _time(policy.total_timeout_s),
        "WEBSOCKET_QUIET_AFTER": quiet,
        "DRAIN_DEADLINE": _time(wanted.cluster.drain_deadline_s),
    }


def _within_memory(terms: SidecarTerms) -> dict[str, str]:
    """By the limit also in a pod that has limits of its own as a whole: they are no smaller than those of its model."""
    bounds = bounds_within(memory_bytes(terms.memory_limit))
    connections = bounds.max_connections if terms.max_connections is None else terms.max_connections
    return {
        "BODY_MEMORY": terms.body_memory or bounds.body_memory,
        "MAX_CONNECTIONS": str(connections),
    }


_SERVICES_NOTICE: Final = "3s"
"""From a pod's end until no node sends it requests of a Service: kube-proxies follow about once a second."""
_LONGEST_S: Final = 7 * 86400.0
"""The sidecar's own bound of times."""


def _time(seconds: float) -> str:
    """Exact, as the sidecar reads times."""
    return f"{min(seconds, _LONGEST_S):.3f}".rstrip("0").rstrip(".") + "s"


def _resources(terms: SidecarTerms, spec: Mapping[str, Any]) -> dict[str, Any]:
    if spec.get("resources"):
        return {}  # the pod's own sum stays as it is, and with it what the sidecar may use
    if is_guaranteed(spec):
        both = {"cpu": terms.guaranteed_cpu, "memory": terms.memory_limit}
        return {"requests": both, "limits": dict(both)}
    limits = {"memory": terms.memory_limit, **({"cpu": terms.cpu_limit} if terms.cpu_limit else {})}
    return {"requests": {"cpu": terms.cpu_request, "memory": terms.memory_request}, "limits": limits}


def is_guaranteed(spec: Mapping[str, Any]) -> bool:
    """Whether all containers have CPU and memory limits, and requests that are the same or left to them."""
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    return bool(containers) and all(_has_both_alike(container.get("resources") or {}) for container in containers)


def _has_both_alike(resources: Mapping[str, Any]) -> bool:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    return all(name in limits and requests.get(name, limits[name]) == limits[name] for name in ("cpu", "memory"))


def _security(terms: SidecarTerms) -> dict[str, Any]:
    """All that the restricted level asks of a container, whatever the pod says."""
    user = {} if terms.run_as_user is None else {"runAsUser": terms.run_as_user, "runAsGroup": terms.run_as_user}
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        **user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def drain_hook(placed: Placed) -> dict[str, Any]:
    """A preStop handler: the kubelet asks the sidecar, so that the image needs no shell, and waits for the answer."""
    headers = [{"name": DRAIN_TOKEN, "value": placed.token}]
    return {"httpGet": {"path": "/drain?wait", "port": placed.admin, "httpHeaders": headers}}


def token_volume(audience: str) -> dict[str, Any]:
    """A token of the pod's own account that is good for nothing but reports."""
    source = {"audience": audience, "expirationSeconds": _TOKEN_LIVES_S, "path": "token"}
    return {"name": TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": source}]}}
