"""What is answered to a review: a pod's patch, and whether somebody's annotations are right.

The facts come from a `Lookup`, the decisions from `zerogate.kube.injection` and `zerogate.kube.policies`. A pod is
never refused. A workload is refused for what stands in it itself, not if another workload made it, and on an update
only where its annotations changed: a controller goes on writing to what has an old mistake. Called by
`autoscaler.injector.server`.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final

import msgspec

from autoscaler.injector.lookup import Lookup, Workload, controller_of, workload_of
from autoscaler.injector.review import UNCHANGED, Answer, Request
from zerogate.kube.catalog import recorded_replicas
from zerogate.kube.injection import Injection, Refused, inject
from zerogate.kube.policies import Layer, Reading, ours, read_defaults, read_workload
from zerogate.kube.ports import Json
from zerogate.kube.sidecar import SIDECAR, SidecarTerms
from zerogate.schedule_text import MOST_REPLICAS

WORKER_INDEX: Final = "leaderworkerset.sigs.k8s.io/worker-index"
"""Label of the pods of a group; the leader, 0, is the one that serves."""
KINDS: Final = ("Deployment", "ReplicaSet", "StatefulSet", "CloneSet", "LeaderWorkerSet")
"""What has a `/scale` that zerogate writes. A ReplicaSet only where no Deployment has it."""
INJECTED: Final = "SidecarInjected"
_INJECTED: Final = f"New pods get the sidecar {SIDECAR}."
_MOST_SAID: Final = 20
"""Mistakes in one refusal: more do not fit a terminal."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Something about a workload that its owner should hear, beside the warnings that reach whoever made the pod.

    `reason` is a word for programs, as an Event has it.
    """

    namespace: str
    workload: Workload
    reason: str
    text: str
    is_warning: bool = True


class Answering:
    """Answers reviews. `new_token`: makes the secret of a pod's `/drain`; `new_key(service)`: the key by which
    autoscalers prove themselves to the pod's sidecar, empty for none.

    `notice`: told what is worth an Event, which reviews for show only (`--dry-run=server`) are not.
    """

    def __init__(
        self,
        lookup: Lookup,
        terms: SidecarTerms,
        *,
        notice: Callable[[Notice], None],
        new_token: Callable[[], str],
        new_key: Callable[[str], str] = lambda _: "",
        kinds: Container[str] = KINDS,
        config_map: str = "zerogate-policy",
    ) -> None:
        self._lookup = lookup
        self._terms = terms
        self._notice = notice
        self._new_token = new_token
        self._new_key = new_key
        self._kinds = kinds
        self._config_map = config_map

    async def mutate(self, request: Request) -> Answer:
        """The sidecar for a pod that is to have one."""
        pod = request.object
        if pod is None or request.kind.kind != "Pod" or request.operation != "CREATE" or _is_worker(pod):
            return UNCHANGED
        namespace = request.namespace
        workload = await workload_of(self._lookup, namespace, pod, self._kinds)
        if workload is None:
            return UNCHANGED
        own = _annotations(pod)
        if "enabled" not in ours(workload.annotations) and "enabled" not in ours(own):
            return UNCHANGED
        source = f"{workload.kind} {namespace}/{workload.name}"
        noted = recorded_replicas(workload.annotations)
        # while nothing is noted its number is not known here, and its owner is told at the workload
        had = MOST_REPLICAS if noted is None else noted
        reading = await self._read(namespace, source, workload.annotations, own, had=had)
        if not reading.policy.cluster.enabled or not reading.policy.cluster.inject:
            return UNCHANGED
        services = await self._lookup.services(namespace) if reading.policy.cluster.takeover else ()
        service = f"{namespace}/{workload.name}"
        outcome = inject(
            pod, reading.policy, self._terms, service=service, services=services, token=self._new_token(),
            key=self._new_key(service),
        )  # fmt: skip
        mistakes = [str(mistake.error) for mistake in reading.mistakes]
        refused = [f"{source} gets no sidecar: {outcome.reason}."] if isinstance(outcome, Refused) else []
        hints = outcome.warnings if isinstance(outcome, Injection) else ()
        if not request.dry_run:
            notes = {"PolicyMistaken": mistakes, "SidecarRefused": refused, "SidecarLimited": hints}
            self._tell(namespace, workload, notes, outcome)
        return Answer(
            operations=outcome.operations if isinstance(outcome, Injection) else (),
            warnings=[*mistakes, *refused, *hints],
        )

    def _tell(
        self,
        namespace: str,
        workload: Workload,
        notes: Mapping[str, Sequence[str]],
        outcome: Injection | Refused,
    ) -> None:
        for reason, texts in notes.items():
            for text in texts:
                self._notice(Notice(namespace=namespace, workload=workload, reason=reason, text=text))
        if isinstance(outcome, Injection) and outcome.operations:
            self._notice(
                Notice(namespace=namespace, workload=workload, reason=INJECTED, text=_INJECTED, is_warning=False)
            )

    async def validate(self, request: Request) -> Answer:
        """Whether the annotations of a workload, its pods or a namespace are right, or the cluster's own policy."""
        obj = request.object
        if obj is None or request.operation not in ("CREATE", "UPDATE"):
            return UNCHANGED
        if request.kind.kind == "ConfigMap":
            return self._cluster_policy(obj)
        if request.kind.kind == "Namespace":
            reading = await self._read_namespace(obj)
            warnings: list[str] = []
        else:
            own, template = _annotations(obj), _annotations(_template(obj))
            if not ours(own) and not ours(template):
                return UNCHANGED
            source = f"{request.kind.kind} {request.namespace}/{_name(request, obj)}"
            reading = await self._read(request.namespace, source, own, template, had=_had(obj))
            warnings = _foreseen(obj, reading, self._terms)
        warnings += [str(mistake.error) for mistake in reading.mistakes if not mistake.is_own]
        wrong = [str(mistake.error) for mistake in reading.mistakes if mistake.is_own]
        if wrong and _has_changed(request) and not self._is_made_by_another(obj):
            return Answer(refusal=_listed(wrong), warnings=warnings)
        return Answer(warnings=[*wrong, *warnings])

    def _is_made_by_another(self, obj: Json) -> bool:
        """A ReplicaSet has its Deployment's annotations: who would be refused is a controller, not a person."""
        reference = controller_of(obj)
        return reference is not None and reference.kind in self._kinds

    async def _read(
        self, namespace: str, source: str, own: Mapping[str, str], template: Mapping[str, str], *, had: int = 0
    ) -> Reading:
        above = ours(await self._lookup.namespace_annotations(namespace))
        layers = [
            Layer(source=f"Namespace {namespace}", raw=above, is_of_one_workload=False),
            Layer(source=source, raw=ours(own), is_own=True),
            Layer(source=f"{source}, pod template", raw=ours(template), is_own=True),
        ]
        return read_workload(await self._lookup.defaults(), layers, had=had)

    async def _read_namespace(self, obj: Json) -> Reading:
        name = obj.get("metadata", {}).get("name", "")
        raw = ours(_annotations(obj))
        layer = Layer(source=f"Namespace {name}", raw=raw, is_of_one_workload=False, is_own=True)
        return read_workload(await self._lookup.defaults(), [layer])

    def _cluster_policy(self, obj: Json) -> Answer:
        meta = obj.get("metadata", {})
        if meta.get("name") != self._config_map:
            return UNCHANGED
        source = f"ConfigMap {meta.get('namespace', '')}/{self._config_map}"
        _, errors = read_defaults(obj.get("data") or {}, source)
        return Answer(refusal=_listed([str(error) for error in errors])) if errors else UNCHANGED


def _annotations(obj: Json) -> Mapping[str, str]:
    annotations: Mapping[str, str] = (obj.get("metadata") or {}).get("annotations") or {}
    return annotations


def _had(obj: Json) -> int:
    """As `catalog.had` reads it, from the object as it was sent."""
    noted = recorded_replicas(_annotations(obj))
    number = (obj.get("spec") or {}).get("replicas")
    return noted if noted is not None else number if isinstance(number, int) else 1


def _template(obj: Json) -> Json:
    """The pod template: of a group the leader's."""
    spec = obj.get("spec") or {}
    group = spec.get("leaderWorkerTemplate") or {}
    template: Json = spec.get("template") or group.get("leaderTemplate") or group.get("workerTemplate") or {}
    return template


def _name(request: Request, obj: Json) -> str:
    meta = obj.get("metadata") or {}
    return request.name or meta.get("name") or f"{meta.get('generateName', '')}…"


def _is_worker(pod: Json) -> bool:
    labels = (pod.get("metadata") or {}).get("labels") or {}
    return bool(labels.get(WORKER_INDEX, "0") != "0")


def _has_changed(request: Request) -> bool:
    """Whether it is new, or its keys are others than before."""
    old, new = request.old_object, request.object or {}
    if request.operation == "CREATE" or old is None:
        return True
    return any(ours(_annotations(get(old))) != ours(_annotations(get(new))) for get in (_itself, _template))


def _itself(obj: Json) -> Json:
    return obj


def _foreseen(obj: Json, reading: Reading, terms: SidecarTerms) -> list[str]:
    """What can be said already of the pods that the workload will have."""
    template: dict[str, Any] = dict(_template(obj))
    cluster = reading.policy.cluster
    if not cluster.enabled or not cluster.inject or not (template.get("spec") or {}).get("containers"):
        return []
    without = msgspec.structs.replace(
        reading.policy, cluster=msgspec.structs.replace(cluster, takeover=False)
    )  # fmt: skip
    outcome = inject(template, without, terms, service="-", services=(), token="")
    return [f"its pods get no sidecar: {outcome.reason}."] if isinstance(outcome, Refused) else [*outcome.warnings]


def _listed(errors: Sequence[str]) -> str:
    more = f"\n… and {len(errors) - _MOST_SAID} more." if len(errors) > _MOST_SAID else ""
    return "\n".join(errors[:_MOST_SAID]) + more
