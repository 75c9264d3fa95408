"""What each of zerogate's roles may do on a cluster, as RBAC has it. Pure.

The chart's rules are these (a test compares), `docs/kubernetes.md` shows them, and `kubectl zerogate doctor` asks the
API server about each and names the one that is missing. Nothing may be here that no role uses.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

Role: TypeAlias = Literal["autoscaler", "gateway", "activator"]
ROLES: Final[tuple[Role, ...]] = ("autoscaler", "gateway", "activator")
READ: Final = ("get", "list", "watch")
_HOOKS: Final = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")


class Right(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. `at_home`: in zerogate's own namespace alone. `names`: of those objects alone."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    names: tuple[str, ...] = ()
    at_home: bool = False


class Workloads(msgspec.Struct, frozen=True):
    """A kind that is scaled."""

    group: str
    resource: str


WORKLOADS: Final = (Workloads("apps", "deployments"), Workloads("apps", "statefulsets"))


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One question to the API server: may this be done? `name` and `namespace` are empty where it is for all."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    name: str = ""
    namespace: str = ""


def rights_of(
    role: Role, *, release: str = "zerogate", workloads: Sequence[Workloads] = WORKLOADS, has_webhook: bool = True
) -> tuple[Right, ...]:
    """All rules of a role."""
    common = [*_sees(workloads), *_scales(workloads)]
    if role == "autoscaler":
        return (*common, *_decides(release, workloads), *(_injects(release) if has_webhook else ()))
    if role == "activator":
        return (*common, _answers())
    return (*common, _tells())


def _sees(workloads: Sequence[Workloads]) -> Iterator[Right]:
    core = ("namespaces", "pods", "services")
    yield Right(group="", resources=core, verbs=READ, why="which workloads are services, and where their replicas are")
    for one in workloads:
        yield Right(group=one.group, resources=(one.resource,), verbs=READ, why="their annotations and numbers")
    yield Right(
        group="discovery.k8s.io", resources=("endpointslices",), verbs=READ, why="whom a Service leads to"
    )  # fmt: skip
    yield Right(
        group="", resources=("configmaps",), verbs=READ, names=("zerogate-policy",), at_home=True,
        why="the cluster's defaults and bounds",
    )  # fmt: skip


def _scales(workloads: Sequence[Workloads]) -> Iterator[Right]:
    for one in workloads:
        why = "the number of replicas; gateways and activators use it when no autoscaler answers, from 0 to 1"
        yield Right(group=one.group, resources=(f"{one.resource}/scale",), verbs=("get", "patch"), why=why)


def _decides(release: str, workloads: Sequence[Workloads]) -> Iterator[Right]:
    for one in workloads:
        yield Right(group=one.group, resources=(one.resource,), verbs=("patch",), why="state.zerogate.dev/… on them")
    yield Right(group="", resources=("pods",), verbs=("patch",), why="controller.kubernetes.io/pod-deletion-cost")
    yield Right(
        group="autoscaling", resources=("horizontalpodautoscalers",), verbs=(*READ, "patch"), why="`hpa: floor`"
    )  # fmt: skip
    yield _tells()
    yield Right(
        group="authentication.k8s.io", resources=("tokenreviews",), verbs=("create",), why="whose report it is"
    )  # fmt: skip
    leases = ("leases",)
    yield Right(
        group="coordination.k8s.io", resources=leases, verbs=("create",), at_home=True,
        why="who leads; RBAC knows no names where something is made",
    )  # fmt: skip
    yield Right(
        group="coordination.k8s.io", resources=leases, verbs=("get", "patch"), names=(f"{release}-autoscaler",),
        at_home=True, why="who leads",
    )  # fmt: skip


def _tells() -> Right:
    return Right(
        group="events.k8s.io", resources=("events",), verbs=("create", "patch"), why="what happened, for people"
    )


def _injects(release: str) -> Iterator[Right]:
    yield Right(group="apps", resources=("replicasets",), verbs=("get",), why="whose pod the webhook is asked about")
    yield Right(
        group="admissionregistration.k8s.io", resources=_HOOKS, verbs=("get", "patch"), names=("zerogate",),
        why="the authority of the webhook's certificate",
    )  # fmt: skip
    yield Right(
        group="", resources=("secrets",), verbs=("create",), at_home=True, why="the key of the webhook's certificate"
    )  # fmt: skip
    yield Right(
        group="", resources=("secrets",), verbs=("get", "patch"), names=(f"{release}-webhook",), at_home=True,
        why="the same",
    )  # fmt: skip


def _answers() -> Right:
    return Right(
        group="discovery.k8s.io", resources=("endpointslices",), verbs=("create", "patch", "delete"),
        why="to answer for Services at zero",
    )  # fmt: skip


def steps_of(right: Right, home: str) -> Iterator[Step]:
    """Each single thing that a rule allows."""
    for full in right.resources:
        resource, _, sub = full.partition("/")
        for verb in right.verbs:
            for name in right.names or ("",):
                yield Step(
                    verb=verb, group=right.group, resource=resource, subresource=sub, name=name,
                    namespace=home if right.at_home else "",
                )  # fmt: skip


def rule_text(step: Step) -> str:
    """The rule that allows it, as one line of a Role or ClusterRole."""
    full = f"{step.resource}/{step.subresource}" if step.subresource else step.resource
    names = f', resourceNames: ["{step.name}"]' if step.name else ""
    return f'{{apiGroups: ["{step.group}"], resources: ["{full}"]{names}, verbs: ["{step.verb}"]}}'
