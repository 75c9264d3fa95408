"""How a process of zerogate is told about its cluster: the way in, its own place, and what it looks at. Pure.

The same flags and words for all of them; see `zerogate.flags`.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from zerogate.errors import DefinitionError, shown
from zerogate.flags import VARIABLE_PREFIX, Option

IN_POD: Final = "in-pod"
HOME: Final = "zerogate-system"
"""zerogate's own namespace, where nobody says another one."""
_NAME: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOWNWARD: Final = ("POD_NAMESPACE", "POD_NAME")
"""What the downward API gives to a pod, and which flags these stand for by their names."""


class ExtraKind(msgspec.Struct, frozen=True):
    """A kind of workload beside Deployments and StatefulSets, such as CloneSet of apps.kruise.io/v1alpha1."""

    kind: str
    api_version: str


def kubeconfig(text: str) -> str:
    """An absolute path; empty for this pod's own account. This and the following raise DefinitionError."""
    if text == IN_POD:
        return ""
    if not text.startswith("/"):
        raise DefinitionError(
            f"{shown(text)} is not an absolute path", hint=f"Write /home/me/.kube/config or {IN_POD}."
        )
    return text


def name(text: str) -> str:
    """Of a namespace or a release."""
    if not re.fullmatch(_NAME, text):
        raise DefinitionError(f"{shown(text)} is not a name", hint="Small letters, digits and - inside; at most 63.")
    return text


def pod(text: str) -> str:
    """Empty: the machine's name."""
    if text == "auto":
        return ""
    if not re.fullmatch("[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", text):
        raise DefinitionError(f"{shown(text)} is not the name of a pod", hint="Small letters, digits, - and . inside.")
    return text


def namespace(text: str) -> str:
    """Empty: all of them."""
    return "" if text == "all" else name(text)


def kinds(text: str) -> tuple[ExtraKind, ...]:
    """`CloneSet.apps.kruise.io/v1alpha1`, several with commas, or `none`."""
    return () if text == "none" else tuple(_kind(part.strip()) for part in text.split(","))


def _kind(text: str) -> ExtraKind:
    match = re.fullmatch("([A-Z][A-Za-z0-9]*)\\.([a-z0-9.-]+/v[a-z0-9]+)", text)
    if match is None:
        raise DefinitionError(
            f"{shown(text)} is not a kind of workload", hint="Write CloneSet.apps.kruise.io/v1alpha1, or none."
        )
    return ExtraKind(match[1], match[2])


KUBECONFIG: Final = Option(
    name="kubeconfig", field="kubeconfig", metavar="PATH", parse=kubeconfig, default=IN_POD,
    says=f"the way into the cluster; {IN_POD}: the ServiceAccount of the pod that this runs in",
)  # fmt: skip
POD_NAME: Final = Option(
    name="pod-name", field="pod", metavar="NAME", parse=pod, default="auto",
    says="this pod's name, in Events and Leases; auto: the machine's, which in a pod is the pod's",
)  # fmt: skip
WATCH_NAMESPACE: Final = Option(
    name="watch-namespace", field="watch", metavar="NAME", parse=namespace, default="all",
    says="the one namespace whose workloads are looked at, where a Role has to be enough",
)  # fmt: skip
KINDS: Final = Option(
    name="kinds", field="kinds", metavar="KINDS", parse=kinds, default="none",
    says="workloads beside Deployments and StatefulSets, with commas: CloneSet.apps.kruise.io/v1alpha1",
)  # fmt: skip


def pod_namespace(what: str) -> Option:
    """`what`: that is there."""
    return Option(
        name="pod-namespace", field="namespace", metavar="NAME", parse=name, default=HOME,
        says=f"zerogate's own namespace, with {what}",
    )  # fmt: skip


def with_downward(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment, in which POD_NAMESPACE and POD_NAME stand for their flags where these are not given."""
    given = {VARIABLE_PREFIX + word: environ[word] for word in _DOWNWARD if environ.get(word)}
    return {**given, **environ}
