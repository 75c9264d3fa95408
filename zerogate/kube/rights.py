"""What each of zerogate's roles may do on a cluster, as RBAC has it. Pure.

The chart's rules are these (a test compares), `docs/rights.md` shows them, and `kubectl zerogate doctor` asks the
API server about each and names the one that is missing. Nothing may be here that no role uses.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

Role: TypeAlias = Literal["autoscaler", "gateway", "activator"]
ROLES: Final[tuple[Role, ...]] = ("autoscaler", "gateway", "activator")
_WATCH: Final = ("list", "watch")
_HOOKS: Final = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")


class Right(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. `at_home`: in zerogate's own namespace alone. `names`: of those objects alone.

    Resources that begin with a slash are paths of the API server's own (`nonResourceURLs`).
    """

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    names: tuple[str, ...] = ()
    at_home: bool = False

    @property
    def is_path(self) -> bool:
        """Whether it is about paths."""
        return self.resources[0].startswith("/")


class Workloads(msgspec.Struct, frozen=True):
    """A kind that is scaled."""

    group: str
    resource: str


WORKLOADS: Final = (Workloads("apps", "deployments"), Workloads("apps", "statefulsets"))


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One question to the API server: may this be done? `name` and `namespace` are empty where it is for all.

    A resource that begins with a slash is a path of its own.
    """

    verb: str
    group: str
    resource: str
    subresource: str = ""
    name: str = ""
    namespace: str = ""

    @property
    def is_path(self) -> bool:
        """Whether it is about a path of the API server's own."""
        return self.resource.startswith("/")


def rights_of(
    role: Role,
    *,
    release: str = "zerogate",
    workloads: Sequence[Workloads] = WORKLOADS,
    has_webhook: bool = True,
    has_takeover: bool = True,
    has_cert_manager: bool = False,
) -> tuple[Right, ...]:
    """All rules of a role. `has_cert_manager`: it keeps the certificate, and tells API servers whom to trust."""
    found = [*_sees(workloads), *_scales(workloads), _tells()]
    if role in ("autoscaler", "gateway"):
        found.append(_routes())
    if role == "gateway":
        found.append(_backends())
    if role in ("gateway", "activator"):
        found.append(_hears())
    if role == "activator":
        found.append(_slices(_WATCH, "which ports are opened for which Services"))
    if role == "autoscaler":
        found += _decides(release, workloads)
        found.append(_says_of_routes())
        found += _injects(workloads) if has_webhook else ()
        found += _publishes() if has_webhook and not has_cert_manager else ()
        found += _takes_over() if has_takeover else ()
    return tuple(found)


def _sees(workloads: Sequence[Workloads]) -> Iterator[Right]:
    core = ("namespaces", "pods")
    yield Right(group="", resources=core, verbs=_WATCH, why="annotations that are defaults, and where replicas are")
    for one in workloads:
        why = "which workloads are services, and their annotations"
        yield Right(group=one.group, resources=(one.resource,), verbs=_WATCH, why=why)
    yield Right(
        group="", resources=("configmaps",), verbs=_WATCH, names=("zerogate-policy",), at_home=True,
        why="the cluster's defaults and bounds",
    )  # fmt: skip


def _scales(workloads: Sequence[Workloads]) -> Iterator[Right]:
    for one in workloads:
        why = "the number of replicas; gateways and activators go from 0 to 1 where no autoscaler answers or may write"
        yield Right(group=one.group, resources=(f"{one.resource}/scale",), verbs=("get", "patch"), why=why)


def _tells() -> Right:
    return Right(group="events.k8s.io", resources=("events",), verbs=("create", "patch"), why="what people should hear")


def _hears() -> Right:
    why = "why a StatefulSet's pods are not made, told to who waits for them"
    return Right(group="events.k8s.io", resources=("events",), verbs=("list",), why=why)


def _routes() -> Right:
    kinds = ("gatewayclasses", "gateways", "httproutes", "referencegrants")
    return Right(
        group="gateway.networking.k8s.io", resources=kinds, verbs=_WATCH,
        why="hosts and path prefixes of HTTPRoutes, where the cluster has them",
    )  # fmt: skip


def _backends() -> Right:
    return Right(group="", resources=("services",), verbs=_WATCH, why="which workload an HTTPRoute's backend is")


def _says_of_routes() -> Right:
    status = ("gatewayclasses/status", "gateways/status", "httproutes/status")
    return Right(
        group="gateway.networking.k8s.io", resources=status, verbs=("patch",), why="whether they are used, and why not"
    )  # fmt: skip


def _slices(verbs: tuple[str, ...], why: str) -> Right:
    return Right(group="discovery.k8s.io", resources=("endpointslices",), verbs=verbs, why=why)


def _decides(release: str, workloads: Sequence[Workloads]) -> Iterator[Right]:
    for one in workloads:
        why = "state.zerogate.dev/… on them"
        yield Right(group=one.group, resources=(one.resource,), verbs=("patch",), why=why)
    yield Right(group="", resources=("pods",), verbs=("patch",), why="controller.kubernetes.io/pod-deletion-cost")
    yield Right(
        group="",
        resources=("services",),
        verbs=_WATCH,
        why="which lead past the sidecars, or are backends of routes",
    )
    hpas = ("horizontalpodautoscalers",)
    yield Right(group="autoscaling", resources=hpas, verbs=("list", "patch"), why="`hpa: floor`, their minReplicas")
    yield Right(
        group="authentication.k8s.io", resources=("tokenreviews",), verbs=("create",), why="whose report it is"
    )  # fmt: skip
    yield Right(
        group="", resources=("/.well-known/openid-configuration", "/openid/v1/jwks"), verbs=("get",),
        why="the keys that tokens of ServiceAccounts are signed with: thousands are judged without a question for each",
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
    yield Right(
        group="", resources=("secrets",), verbs=("create",), at_home=True,
        why="the key of its certificate, and of what sidecars' keys are made",
    )  # fmt: skip
    yield Right(
        group="", resources=("secrets",), verbs=("get", "patch"), names=(f"{release}-webhook",), at_home=True,
        why="the same",
    )  # fmt: skip


def _injects(workloads: Sequence[Workloads]) -> Iterator[Right]:
    for one in workloads:
        yield Right(group=one.group, resources=(one.resource,), verbs=("get",), why="whose pod it is, asked anew")
    yield Right(group="apps", resources=("replicasets",), verbs=("get",), why="the same")
    yield Right(group="", resources=("namespaces",), verbs=("get",), why="its annotations, where the watch is behind")
    yield Right(
        group="", resources=("configmaps",), verbs=("get",), names=("zerogate-policy",), at_home=True, why="the same"
    )  # fmt: skip


def _publishes() -> Iterator[Right]:
    yield Right(
        group="admissionregistration.k8s.io", resources=_HOOKS, verbs=("get", "patch"), names=("zerogate",),
        why="the authority of the webhook's certificate",
    )  # fmt: skip


def _takes_over() -> Iterator[Right]:
    yield _slices((*_WATCH, "create", "patch", "delete"), "to answer for Services at zero")
    yield Right(
        group="", resources=("services",), verbs=("patch",), why="a numeric target port's name"
    )  # fmt: skip


def steps_of(right: Right, home: str) -> Iterator[Step]:
    """Each single thing that a rule allows."""
    for full in right.resources:
        resource, _, sub = (full, "", "") if right.is_path else full.partition("/")
        for verb in right.verbs:
            for name in right.names or ("",):
                yield Step(
                    verb=verb, group=right.group, resource=resource, subresource=sub, name=name,
                    namespace=home if right.at_home else "",
                )  # fmt: skip


def rule_text(step: Step) -> str:
    """The rule that allows it, as one line of a Role or ClusterRole."""
    if step.is_path:
        return f'{{nonResourceURLs: ["{step.resource}"], verbs: ["{step.verb}"]}}'
    full = f"{step.resource}/{step.subresource}" if step.subresource else step.resource
    names = f', resourceNames: ["{step.name}"]' if step.name else ""
    return f'{{apiGroups: ["{step.group}"], resources: ["{full}"]{names}, verbs: ["{step.verb}"]}}'
