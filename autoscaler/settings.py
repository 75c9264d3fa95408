"""What the process is told: flags and variables, as `zerogate.flags` reads them. Pure.

`--help` and the table in docs/autoscaler.md come from `OPTIONS`.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from autoscaler.injector import settings as webhook
from autoscaler.injector.settings import WebhookSettings
from zerogate.errors import DefinitionError, DefinitionErrors, shown
from zerogate.flags import Option, Program, admin_conflicts, ip_and_port, read_values
from zerogate.flags import parser as parser_of
from zerogate.runtime.interface import Address

PROG: Final = "python -m autoscaler"
IN_POD: Final = "in-pod"

_NAME: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"


class ExtraKind(msgspec.Struct, frozen=True):
    """A kind of workload beside Deployments and StatefulSets, such as CloneSet of apps.kruise.io/v1alpha1."""

    kind: str
    api_version: str


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The process's own settings. The reasons for the defaults are in `OPTIONS`."""

    kubeconfig: str
    """Empty: by the ServiceAccount of the pod."""
    namespace: str
    """zerogate's own."""
    release: str
    pod: str
    """Empty: the name of the machine."""
    watch: str
    """Empty: all namespaces."""
    kinds: tuple[ExtraKind, ...]
    stats: Address
    admin: Address
    audience: str
    reporters: tuple[str, ...]
    webhook: WebhookSettings


def _path(text: str) -> str:
    if text == IN_POD:
        return ""
    if not text.startswith("/"):
        raise DefinitionError(
            f"{shown(text)} is not an absolute path", hint=f"Write /home/me/.kube/config or {IN_POD}."
        )
    return text


def _name(text: str) -> str:
    if not re.fullmatch(_NAME, text):
        raise DefinitionError(f"{shown(text)} is not a name", hint="Small letters, digits and - inside; at most 63.")
    return text


def _pod(text: str) -> str:
    if text == "auto":
        return ""
    if not re.fullmatch("[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", text):
        raise DefinitionError(f"{shown(text)} is not the name of a pod", hint="Small letters, digits, - and . inside.")
    return text


def _namespace(text: str) -> str:
    return "" if text == "all" else _name(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(_name(part.strip()) for part in text.split(",") if part.strip())


def _kinds(text: str) -> tuple[ExtraKind, ...]:
    return () if text == "none" else tuple(_kind(part.strip()) for part in text.split(","))


def _kind(text: str) -> ExtraKind:
    match = re.fullmatch("([A-Z][A-Za-z0-9]*)\\.([a-z0-9.-]+/v[a-z0-9]+)", text)
    if match is None:
        raise DefinitionError(
            f"{shown(text)} is not a kind of workload", hint="Write CloneSet.apps.kruise.io/v1alpha1, or none."
        )
    return ExtraKind(match[1], match[2])


def _audience(text: str) -> str:
    if not re.fullmatch("[!-~]{1,253}", text):
        raise DefinitionError(f"{shown(text)} is not an audience", hint="Write zerogate-stats.")
    return text


OPTIONS: Final = (
    Option(
        name="kubeconfig", field="kubeconfig", metavar="PATH", parse=_path, default=IN_POD,
        says=f"the way into the cluster; {IN_POD}: the ServiceAccount of the pod that this runs in",
    ),
    Option(
        name="pod-namespace", field="namespace", metavar="NAME", parse=_name, default="zerogate-system",
        says="zerogate's own namespace, with its Lease, its ConfigMap and its gateways",
    ),
    Option(
        name="release", field="release", metavar="NAME", parse=_name, default="zerogate",
        says="what everything of this release is called by; the Lease is NAME-autoscaler",
    ),
    Option(
        name="pod-name", field="pod", metavar="NAME", parse=_pod, default="auto",
        says="this pod's name, in the Lease and in Events; auto: the machine's, which in a pod is the pod's",
    ),
    Option(
        name="watch-namespace", field="watch", metavar="NAME", parse=_namespace, default="all",
        says="the one namespace whose workloads are looked at, where a Role has to be enough",
    ),
    Option(
        name="kinds", field="kinds", metavar="KINDS", parse=_kinds, default="none",
        says="workloads beside Deployments and StatefulSets, with commas: CloneSet.apps.kruise.io/v1alpha1",
    ),
    Option(
        name="stats-listen", field="stats", metavar="ADDRESS", parse=ip_and_port, default="0.0.0.0:8090",
        says="where sidecars, gateways and activators report; port 0: any free one, told at the start",
    ),
    Option(
        name="admin", field="admin", metavar="ADDRESS", parse=ip_and_port, default="0.0.0.0:8081",
        says="where /readyz, /healthz, /metrics and the admin API are answered",
    ),
    Option(
        name="stats-audience", field="audience", metavar="NAME", parse=_audience, default="zerogate-stats",
        says="for whom the tokens of those that report have to be made: one for anything else proves nothing here",
    ),
    Option(
        name="reporters", field="reporters", metavar="NAMES", parse=_names,
        default="zerogate-gateway,zerogate-activator",
        says="ServiceAccounts in zerogate's own namespace that may report every service; other pods only their own",
    ),
    *webhook.OPTIONS,
)  # fmt: skip


PROGRAM: Final = Program(
    prog=PROG,
    description="Decides how many replicas the workloads of a Kubernetes cluster have, and writes it.",
    epilog="Each flag may also be given as the variable named beside it; the flag wins. Several of this process may "
    "run, and one leads. SIGTERM: give the lead away, then exit 0. Exit codes: 0 left, 1 machine or cluster, 2 wrong "
    "setting.",
    options=OPTIONS,
)


def parser() -> argparse.ArgumentParser:
    """The command line; `--help` prints and exits with 0."""
    return parser_of(PROGRAM)


def read(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings. Raises DefinitionErrors with all that is wrong. POD_NAMESPACE and POD_NAME, as the downward API
    gives them to a pod, stand for their flags."""
    given = {
        option.variable: environ[name]
        for option, name in ((OPTIONS[1], "POD_NAMESPACE"), (OPTIONS[3], "POD_NAME"))
        if environ.get(name)
    }
    values, errors = read_values(PROGRAM, arguments, {**given, **environ})
    if not errors:
        try:
            settings = Settings(webhook=webhook.take(values), **values)
        except DefinitionError as error:
            raise DefinitionErrors([error]) from None
        served = [settings.stats, *([settings.webhook.listen] if settings.webhook.listen else [])]
        errors = admin_conflicts(settings.admin, served)
        if not errors:
            return settings
    raise DefinitionErrors(errors)
