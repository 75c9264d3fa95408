"""What the autoscaler's process is told about its webhook: a part of its table of options. Pure.

`OPTIONS` belong to the process's own; `take` makes of their values what an `Injector` is given.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from autoscaler.injector.injector import Terms
from autoscaler.injector.manifests import Installation
from zerogate.errors import DefinitionError, shown
from zerogate.flags import Option, ip_and_port
from zerogate.kube.objects import Resource, Workload
from zerogate.kube.sidecar import TOKEN_FOLDER, SidecarTerms
from zerogate.runtime.interface import Address

_QUANTITY: Final = r"[0-9]+(?:\.[0-9]+)?(?:m|k|Ki|M|Mi|G|Gi)?"
_DEFAULTS: Final = SidecarTerms(image="")


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Values of `OPTIONS`. `listen` None: there is no webhook."""

    listen: Address | None
    image: str
    pull_policy: str | None
    host: str
    cpu: str
    memory: str
    cpu_limit: str | None
    memory_limit: str
    user: int | None


def _listen(text: str) -> Address | None:
    return None if text == "none" else ip_and_port(text)


def _image(text: str) -> str:
    if text == "none":
        return ""
    if not re.fullmatch("[!-~]{1,1024}", text):
        raise DefinitionError(f"{shown(text)} is not the name of an image")
    return text


def _pull_policy(text: str) -> str | None:
    if text not in ("auto", "Always", "IfNotPresent", "Never"):
        raise DefinitionError(f"{shown(text)} is not a pull policy", hint="Write auto, Always, IfNotPresent or Never.")
    return None if text == "auto" else text


def _host(text: str) -> str:
    if text not in ("0.0.0.0", "::"):
        raise DefinitionError(f"{shown(text)} is neither 0.0.0.0 nor ::")
    return text


def _quantity(text: str) -> str:
    if not re.fullmatch(_QUANTITY, text):
        raise DefinitionError(f"{shown(text)} is not a quantity of Kubernetes", hint="Write 25m, 0.5 or 64Mi.")
    return text


def _quantity_or_none(text: str) -> str | None:
    return None if text == "none" else _quantity(text)


def _user(text: str) -> int | None:
    if text != "none" and not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise DefinitionError(f"{shown(text)} is not a user's number", hint="From 1, or none.")
    return None if text == "none" else int(text)


OPTIONS: Final = (
    Option(
        name="webhook", field="webhook_listen", metavar="ADDRESS", parse=_listen, default="none",
        says="where API servers ask about pods and annotations, over TLS; in a pod 0.0.0.0:8443; none: no webhook",
    ),
    Option(
        name="sidecar-image", field="webhook_image", metavar="IMAGE", parse=_image, default="none",
        says="the image of sidecars; with a webhook it has to be given",
    ),
    Option(
        name="sidecar-pull-policy", field="webhook_pull_policy", metavar="WORD", parse=_pull_policy, default="auto",
        says="Always, IfNotPresent or Never; auto: Kubernetes' own, which asks the registry for `latest` only",
    ),
    Option(
        name="sidecar-host", field="webhook_host", metavar="ADDRESS", parse=_host, default=_DEFAULTS.listen_host,
        says="where sidecars listen: 0.0.0.0, or :: for both families where nodes have IPv6",
    ),
    Option(
        name="sidecar-cpu", field="webhook_cpu", metavar="QUANTITY", parse=_quantity, default=_DEFAULTS.cpu_request,
        says="CPU that a sidecar requests; an idle one takes a fiftieth of the default",
    ),
    Option(
        name="sidecar-memory", field="webhook_memory", metavar="QUANTITY", parse=_quantity,
        default=_DEFAULTS.memory_request, says="memory that a sidecar requests; 28 MiB are used at rest",
    ),
    Option(
        name="sidecar-cpu-limit", field="webhook_cpu_limit", metavar="QUANTITY", parse=_quantity_or_none,
        default="none", says="most CPU of a sidecar; none: throttled, it would add its pauses to every token",
    ),
    Option(
        name="sidecar-memory-limit", field="webhook_memory_limit", metavar="QUANTITY", parse=_quantity,
        default=_DEFAULTS.memory_limit,
        says="most memory of a sidecar: 64 MiB of requests that wait, on their way as much, and itself",
    ),
    Option(
        name="sidecar-user", field="webhook_user", metavar="NUMBER", parse=_user, default=str(_DEFAULTS.run_as_user),
        says="the user that sidecars run as; none: the cluster gives one itself, as OpenShift does",
    ),
)  # fmt: skip


def take(values: dict[str, Any]) -> WebhookSettings:
    """The values of `OPTIONS`, taken out of those of all options. Raises DefinitionError."""
    fields = {option.field.removeprefix("webhook_"): values.pop(option.field) for option in OPTIONS}
    settings = WebhookSettings(**fields)
    if settings.listen is not None and not settings.image:
        raise DefinitionError("is missing", key="--sidecar-image", hint="A webhook has to know what it puts into pods.")
    return settings


def terms_of(
    settings: WebhookSettings, *, namespace: str, release: str, audience: str, kinds: Mapping[str, Resource[Workload]]
) -> Terms:
    """What an `Injector` is told. `audience`: of the token that sidecars report with."""
    reports = f"{release}-autoscaler-stats.{namespace}.svc:8090"
    sidecar = SidecarTerms(
        image=settings.image, pull_policy=settings.pull_policy, listen_host=settings.host,
        cpu_request=settings.cpu, cpu_limit=settings.cpu_limit,
        memory_request=settings.memory, memory_limit=settings.memory_limit,
        run_as_user=settings.user, token_audience=audience,
        extra_env=(("ZEROGATE_STATS", reports), ("ZEROGATE_STATS_TOKEN_FILE", f"{TOKEN_FOLDER}/token")),
    )  # fmt: skip
    installation = Installation(namespace=namespace, service=f"{release}-autoscaler")
    return Terms(sidecar=sidecar, installation=installation, secret=f"{release}-webhook", kinds=kinds)
