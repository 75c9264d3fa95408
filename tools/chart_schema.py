"""The schema of the chart's values, `deploy/chart/values.schema.json`. Written by `tools/write_docs.py`.

Generated because the policy keys in it are those of `zerogate/policy_keys.py` and `zerogate/kube/keys.py`, with what
their values may be: a typing error is refused by `helm install`, before anything is made. What is right for the parser
is right here; ranges of what has a unit, and what contradicts what, only the parser knows (`kubectl zerogate doctor`).
Helm names the place of a wrong value rightly only where keys are listed one by one, so they are.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from zerogate.kinds import Choice, Kind
from zerogate.kube.keys import CLUSTER_KEYS, SWITCH, ClusterKey
from zerogate.kube.policies import ORDERED, is_of_one_workload
from zerogate.policy_keys import KEYS, LATER_KEYS, Key

Schema = Mapping[str, Any]

_SWITCH: Final = {"type": "boolean"}
_TEXT: Final = {"type": "string"}
_LINES: Final = {"type": "array", "items": _TEXT}
_TEXTS: Final = {"type": "object", "additionalProperties": _TEXT}
_FREE: Final = {"type": "object"}
_PORT: Final = {"type": "integer", "minimum": 1, "maximum": 65535}
_HIGH_PORT: Final = {**_PORT, "minimum": 1024}
_COUNT: Final = {"type": "integer", "minimum": 1, "maximum": 100}
_SECONDS: Final = {"type": "integer", "minimum": 0, "maximum": 6 * 3600}
_MEMORY: Final = {
    "type": "string",
    "pattern": r"^([1-9][0-9]{0,5}(\.[0-9]+)?Mi|[1-9][0-9]{1,5}(\.[0-9]+)?M|[1-9][0-9]{0,2}(\.[0-9]+)?Gi?)$",
}
"""All of them are from 1Mi to 1Ti, as the flag wants it: a pod with another one would start again and again."""
_QUANTITY: Final = {"type": "string", "pattern": r"^(none|[0-9]+(\.[0-9]+)?(m|[KMGT]i?)?)$"}
_NAMES: Final = {
    "type": "array",
    "uniqueItems": True,
    "items": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 253},
}


def schema_text() -> str:
    """The whole file."""
    return json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", **_values()}, indent=1) + "\n"


def _object(
    properties: Mapping[str, Schema] | None = None, /, *, required: tuple[str, ...] = (), **more: Schema
) -> dict[str, Any]:
    every = {**(properties or {}), **more}
    found: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": every}
    return {**found, "required": list(required)} if required else found


def _list(items: Schema) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _word(*words: str) -> dict[str, Any]:
    return {"enum": list(words)}


def _values() -> dict[str, Any]:
    people, peers = _list(_person()), _list(_peer())
    return _object(
        {"global": _FREE},
        image=_object(
            repository={"type": "string", "minLength": 1},
            tag=_TEXT,
            digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
            pullPolicy=_word("Always", "IfNotPresent", "Never"),
        ),
        imagePullSecrets=_list(_object(name=_TEXT)),
        policy=_policy(),
        extraWorkloads=_list(_workload()),
        listenHost=_word("0.0.0.0", "::"),
        runAsUser={"type": ["integer", "null"], "minimum": 1},
        autoscaler=_object(_role(), unprovenSources=_word("taken", "refused")),
        gateway=_gateway(),
        activator=_object(
            {**_role(), **_drain()}, enabled=_SWITCH, ports=_object(first=_HIGH_PORT, last=_HIGH_PORT)
        ),
        webhook=_object(enabled=_SWITCH),
        certificates=_object(certManager=_object(enabled=_SWITCH, issuerRef=_FREE)),
        sidecar=_object(
            cpu=_QUANTITY, memory=_QUANTITY, cpuLimit=_QUANTITY, memoryLimit=_QUANTITY,
            bodyMemory={"type": "string", "pattern": r"^(auto|[0-9]+(\.[0-9]+)?[KMG]i?)$"},
            maxConnections={"type": ["integer", "string"], "pattern": "^(auto|[0-9]+)$", "minimum": 0},
        ),
        priorityClass=_object(create=_SWITCH, name=_TEXT, value={"type": "integer", "maximum": 1_000_000_000}),
        podDisruptionBudget=_object(enabled=_SWITCH),
        networkPolicy=_object(
            enabled=_SWITCH, adminFrom=peers, metricsFrom=peers, sidecarNamespaces=_NAMES,
            sidecarAdminPort={**_PORT, "minimum": 2, "maximum": 65534},
        ),
        access=_object(viewers=people),
        metrics=_object(
            serviceMonitor=_object(enabled=_SWITCH, labels=_TEXTS, interval=_TEXT),
            prometheusRule=_object(enabled=_SWITCH, labels=_TEXTS),
            dashboard=_object(enabled=_SWITCH, labels=_TEXTS),
        ),
        commonLabels=_TEXTS,
    )  # fmt: skip


def _policy() -> dict[str, Any]:
    bounds = _of_keys(lambda key: isinstance(key.kind, ORDERED), _value)
    neutral = {name: _word(later.neutral) for name, later in LATER_KEYS.items() if later.neutral is not None}
    return _object(
        default=_object({**_of_keys(lambda key: not is_of_one_workload(key), _value), **neutral}),
        least=_object(bounds),
        most=_object(bounds),
        only=_object(_of_keys(lambda key: isinstance(key.kind, Choice), _words)),
    )


def _of_keys(chosen: Callable[[Key | ClusterKey], bool], value: Callable[[Kind], Schema]) -> dict[str, Schema]:
    every: dict[str, Key | ClusterKey] = {**KEYS, **CLUSTER_KEYS}
    return {name: value(key.kind) for name, key in sorted(every.items()) if chosen(key)}


def _value(kind: Kind) -> Schema:
    """As in a file of one box; a switch may be a boolean, which the template writes as text."""
    return {"enum": [*kind.words, *_booleans(kind)]} if isinstance(kind, Choice) else kind.fragment()


def _words(kind: Kind) -> Schema:
    """Some of the words that there are: a list, or separated by commas."""
    words = [*kind.words, *_booleans(kind)] if isinstance(kind, Choice) else []
    one = "|".join(word for word in words if isinstance(word, str))
    types = ["string", "array", *(["boolean"] if _booleans(kind) else [])]
    return {"type": types, "pattern": f"^ *(?:{one}) *(?:, *(?:{one}) *)*$", "items": {"enum": words}, "minItems": 1}


def _booleans(kind: Kind) -> list[bool]:
    return [True, False] if kind == SWITCH else []


def _workload() -> dict[str, Any]:
    return _object(
        group={"type": "string", "minLength": 1},
        version={"type": "string", "pattern": "^v[a-z0-9]+$"},
        resource={"type": "string", "pattern": "^[a-z]+$"},
        kind={"type": "string", "pattern": "^[A-Z][A-Za-z]*$"},
        required=("group", "version", "resource", "kind"),
    )


def _role() -> dict[str, Any]:
    return {
        "replicas": _COUNT,
        "resources": _FREE,
        "env": _list({"type": "object", "required": ["name"]}),
        "podAnnotations": _TEXTS,
        "podLabels": _TEXTS,
        "nodeSelector": _TEXTS,
        "tolerations": _list(_FREE),
        "affinity": _FREE,
    }


def _drain() -> dict[str, Any]:
    return {"drainDeadlineSeconds": _SECONDS, "drainWaitSeconds": _SECONDS}


def _gateway() -> dict[str, Any]:
    service = _object(
        type=_word("ClusterIP", "NodePort", "LoadBalancer"),
        port=_PORT,
        annotations=_TEXTS,
        externalTrafficPolicy=_word("", "Cluster", "Local"),
        loadBalancerClass=_TEXT,
        loadBalancerSourceRanges=_LINES,
    )
    return _object(
        {**_role(), **_drain()},
        enabled=_SWITCH,
        workers={"oneOf": [{"type": "integer", "minimum": 1, "maximum": 64}, {"const": "auto"}]},
        service=service,
        tls=_object(secrets=_NAMES, port=_PORT),
        proxyProtocolFrom=_LINES,
        wakeNamespaces=_NAMES,
        bodyMemory=_MEMORY,
    )


def _person() -> dict[str, Any]:
    return _object(
        kind=_word("User", "Group", "ServiceAccount"), name=_TEXT, namespace=_TEXT, apiGroup=_TEXT,
        required=("kind", "name"),
    )  # fmt: skip


def _peer() -> dict[str, Any]:
    return {**_object(ipBlock=_FREE, namespaceSelector=_FREE, podSelector=_FREE), "minProperties": 1}
