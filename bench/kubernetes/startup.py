"""What the sidecar adds to a pod's start: two Deployments on one node, woken in turns, one of them injected.

Two ends are measured from the write of `/scale`: the pod is Ready in the kubelet's words, which Services wait for, and
the first answer from the port where requests come in, which is when the sidecar tells gateways. What is added is how
much later than the usual start without a sidecar (the median) 95 of 100 with one are there: a slow start without one,
of which there are as many, makes nothing better. The kubelet looks at containers once a second, so starts differ by
whole seconds.
"""

import sys
import time
import urllib.request
from collections.abc import Callable
from itertools import count

import msgspec

from bench.table import Figure, at_most, percentile
from tests.kubernetes.harness.manifests import STUB, container, deployment
from tests.kubernetes.harness.node import Node, node
from tests.kubernetes.release import AUTOSCALERS_ONLY, installed

STARTS = 20
"""Of each kind."""
GOAL_S = 1.3
MODEL, SIDECAR = 8000, 8012
_STEP_S = 0.01
_ELSEWHERE = {"autoscaler": {"env": [{"name": "ZEROGATE_WATCH_NAMESPACE", "value": "elsewhere"}]}}
"""The webhook is asked about all namespaces; who scales here is the benchmark."""


class Start(msgspec.Struct, frozen=True):
    """Seconds from the write to the first answer, and to Ready."""

    answer_s: float
    ready_s: float


class Kind(msgspec.Struct, frozen=True):
    """One of the two Deployments, and where its requests come in."""

    name: str
    port: int
    starts: list[Start]


def run() -> list[Figure]:
    with node() as one, installed(one, {**AUTOSCALERS_ONLY, **_ELSEWHERE}):
        one.cluster.create("/api/v1/namespaces", {"metadata": {"name": "bench"}})
        plain, injected = Kind("plain", MODEL, []), Kind("injected", SIDECAR, [])
        for kind in (plain, injected):
            keys = {"zerogate.dev/enabled": "true"} if kind is injected else {}
            model = container("model", STUB, port=MODEL)
            made = deployment(kind.name, model, replicas=0, annotations=keys)
            one.cluster.apply(made, namespace="bench")
            one.cluster.until(_pods(kind), lambda found: not found["items"])
        for turn in range(STARTS + 1):
            for kind in (plain, injected):
                start = _woken(one, kind)
                if turn:  # the first reads the image's files
                    kind.starts.append(start)
                print(f"  {turn}/{STARTS} {kind.name} {start.answer_s:.2f} {start.ready_s:.2f}", file=sys.stderr)
    return _figures(plain.starts, injected.starts)


def _pods(kind: Kind) -> str:
    return f"/api/v1/namespaces/bench/pods?labelSelector=app%3D{kind.name}"


def _woken(one: Node, kind: Kind) -> Start:
    """From zero to one and back."""
    cluster = one.cluster
    path = f"/apis/apps/v1/namespaces/bench/deployments/{kind.name}/scale"
    began_s = time.monotonic()
    cluster.patch(path, {"spec": {"replicas": 1}})
    answer_s = ready_s = 0.0
    for _ in count():
        (pod,) = cluster.get(_pods(kind))["items"] or [None]
        if pod is not None and not answer_s and pod["status"].get("podIP"):
            address = f"http://127.0.0.1:{one.reach(kind.port, pod['status']['podIP'])}/echo"
            if _is_answered(address):
                answer_s = time.monotonic() - began_s
        if pod is not None and not ready_s and _is_ready(pod):
            ready_s = time.monotonic() - began_s
        if answer_s and ready_s:
            break
        time.sleep(_STEP_S)
    cluster.patch(path, {"spec": {"replicas": 0}})
    cluster.until(_pods(kind), lambda found: not found["items"])
    return Start(answer_s, ready_s)


def _is_answered(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _is_ready(pod: dict[str, object]) -> bool:
    conditions = pod["status"].get("conditions", [])  # type: ignore[attr-defined]
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _figures(plain: list[Start], injected: list[Start]) -> list[Figure]:
    figures: list[Figure] = []
    ends: tuple[tuple[str, Callable[[Start], float]], ...] = (
        ("Ready", lambda start: start.ready_s),
        ("first answer", lambda start: start.answer_s),
    )
    for end, of in ends:
        without, given = [of(start) for start in plain], [of(start) for start in injected]
        note = (
            f"median {percentile(without, 50):.2f} s without and {percentile(given, 50):.2f} s with, p95 "
            f"{percentile(without, 95):.2f} s and {percentile(given, 95):.2f} s, of {len(given)} starts each"
        )
        added_s = percentile(given, 95) - percentile(without, 50)
        figures.append(at_most(f"the sidecar adds to a pod's {end}, p95", added_s, GOAL_S, "s", digits=2, note=note))
    return figures
