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
from zerogate.flags import Option, Program, ip_and_port, read_values, token_file
from zerogate.flags import parser as parser_of
from zerogate.kube.cluster_flags import (
    KINDS,
    KUBECONFIG,
    POD_NAME,
    WATCH_NAMESPACE,
    ExtraKind,
    name,
    pod_namespace,
    with_downward,
)
from zerogate.role_flags import admin_conflicts
from zerogate.runtime.interface import Address

PROG: Final = "python -m autoscaler"


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
    takes_unproven: bool
    certificate_folder: str
    """Empty: certificates are made and renewed by the process."""
    activators: str
    """Empty: there are none."""
    takeover_ports: tuple[int, int]
    webhook: WebhookSettings


def _names(text: str) -> tuple[str, ...]:
    return tuple(name(part.strip()) for part in text.split(",") if part.strip())


def _audience(text: str) -> str:
    if not re.fullmatch("[!-~]{1,253}", text):
        raise DefinitionError(f"{shown(text)} is not an audience", hint="Write zerogate-stats.")
    return text


def _taken(text: str) -> bool:
    if text not in ("taken", "refused"):
        raise DefinitionError(f"{shown(text)} is neither taken nor refused")
    return text == "taken"


def _name_or_none(text: str) -> str:
    return "" if text == "none" else name(text)


def _ports(text: str) -> tuple[int, int]:
    found = re.fullmatch("([1-9][0-9]{3,4})-([1-9][0-9]{3,4})", text)
    if not found or not 1024 <= int(found[1]) <= int(found[2]) <= 65535:
        raise DefinitionError(
            f"{shown(text)} is not a range of ports", hint="Write FIRST-LAST, both from 1024 to 65535: 20000-24999."
        )
    return int(found[1]), int(found[2])


OPTIONS: Final = (
    KUBECONFIG,
    pod_namespace("its Lease, its ConfigMap and its gateways"),
    Option(
        name="release", field="release", metavar="NAME", parse=name, default="zerogate",
        says="what everything of this release is called by; the Lease is NAME-autoscaler",
    ),
    POD_NAME,
    WATCH_NAMESPACE,
    KINDS,
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
    Option(
        name="unproven-sources", field="takes_unproven", metavar="WORD", parse=_taken, default="refused",
        says="taken or refused: reports of sources that ask for no proof of this process: whoever answers in its "
        "place is believed, and gets their tokens",
    ),
    Option(
        name="certificate-folder", field="certificate_folder", metavar="PATH", parse=token_file, default="none",
        says="where somebody else keeps tls.crt and tls.key for the webhook and for reports; "
        "none: made and renewed here, in the Secret NAME-webhook",
    ),
    Option(
        name="activators", field="activators", metavar="NAME", parse=_name_or_none, default="none",
        says="the Service of the activators, which answer for Services at zero where zerogate.dev/takeover says so; "
        "none: nothing is taken over",
    ),
    Option(
        name="takeover-ports", field="takeover_ports", metavar="FIRST-LAST", parse=_ports, default="20000-24999",
        says="the activators' ports, one for each port of a Service that is taken over",
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
    values, errors = read_values(PROGRAM, arguments, with_downward(environ))
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
