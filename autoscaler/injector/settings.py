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
from zerogate.flags import Option, ip_and_port, size, whole
from zerogate.kube.objects import Resource, Workload
from zerogate.kube.sidecar import TOKEN_FOLDER, SidecarTerms
from zerogate.kube.sidecar_memory import ITSELF_BYTES, bounds_within, check_limit, memory_bytes
from zerogate.quantities import format_size
from zerogate.runtime.interface import Address

_QUANTITY: Final = r"[0-9]+(?:\.[0-9]+)?(?:m|k|Ki|M|Mi|G|Gi)?"
_DEFAULTS: Final = SidecarTerms(image="")
_LEAST_BODY_BYTES: Final = 1024 * 1024
"""The sidecar's own bound."""


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
    body_memory: str | None
    max_connections: int | None
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


def _memory(text: str) -> str:
    memory_bytes(_quantity(text))
    return text


def _memory_limit(text: str) -> str:
    check_limit(_quantity(text))
    return text


def _body_memory(text: str) -> str | None:
    if text == "auto":
        return None
    if size(text) < _LEAST_BODY_BYTES:
        raise DefinitionError(f"{shown(text)} is less than 1Mi", hint="Write auto, or 16Mi.")
    return text


def _connections(text: str) -> int | None:
    return None if text == "auto" else whole(text)


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
        name="sidecar-memory", field="webhook_memory", metavar="QUANTITY", parse=_memory,
        default=_DEFAULTS.memory_request, says="memory that a sidecar requests; 28 MiB are used at rest",
    ),
    Option(
        name="sidecar-cpu-limit", field="webhook_cpu_limit", metavar="QUANTITY", parse=_quantity_or_none,
        default="none", says="most CPU of a sidecar; none: throttled, it would add its pauses to every token",
    ),
    Option(
        name="sidecar-memory-limit", field="webhook_memory_limit", metavar="QUANTITY", parse=_memory_limit,
        default=_DEFAULTS.memory_limit,
        says="most memory of a sidecar, from 48Mi; what it keeps of bodies and how many connections it takes follow",
    ),
    Option(
        name="sidecar-body-memory", field="webhook_body_memory", metavar="SIZE", parse=_body_memory, default="auto",
        says="most bytes of bodies and answers that a sidecar keeps; auto: what fits its limit, 128Mi of 256Mi",
    ),
    Option(
        name="sidecar-max-connections", field="webhook_max_connections", metavar="N", parse=_connections,
        default="auto", says="most connections of a sidecar at once, 0 for no limit; auto: what fits, 768 of 256Mi",
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
    _check_memory(settings)
    return settings


def _check_memory(settings: WebhookSettings) -> None:
    limit = settings.memory_limit
    limit_bytes = memory_bytes(limit)
    if memory_bytes(settings.memory) > limit_bytes:
        raise DefinitionError(
            f"{shown(settings.memory)} is more than the limit, {limit}, and pods that ask for that are refused",
            key="--sidecar-memory", hint="Write no more than --sidecar-memory-limit.",
        )  # fmt: skip
    if settings.body_memory is not None and size(settings.body_memory) + ITSELF_BYTES > limit_bytes:
        fitting = bounds_within(limit_bytes).body_memory
        raise DefinitionError(
            f"{shown(settings.body_memory)} and the {format_size(ITSELF_BYTES)} of the process itself are more than "
            f"its limit, {limit}: it would be killed in the middle of its streams",
            key="--sidecar-body-memory", hint=f"Write auto, which is {fitting}, or raise --sidecar-memory-limit.",
        )  # fmt: skip


def terms_of(
    settings: WebhookSettings, *, namespace: str, release: str, audience: str, kinds: Mapping[str, Resource[Workload]]
) -> Terms:
    """What an `Injector` is told. `audience`: of the token that sidecars report with."""
    reports = f"{release}-autoscaler-stats.{namespace}.svc:8090"
    sidecar = SidecarTerms(
        image=settings.image, pull_policy=settings.pull_policy, listen_host=settings.host,
        cpu_request=settings.cpu, cpu_limit=settings.cpu_limit,
        memory_request=settings.memory, memory_limit=settings.memory_limit,
        body_memory=settings.body_memory, max_connections=settings.max_connections,
        run_as_user=settings.user, token_audience=audience,
        extra_env=(("ZEROGATE_STATS", reports), ("ZEROGATE_STATS_TOKEN_FILE", f"{TOKEN_FOLDER}/token")),
    )  # fmt: skip
    installation = Installation(namespace=namespace, service=f"{release}-autoscaler")
    return Terms(sidecar=sidecar, installation=installation, secret=f"{release}-webhook", kinds=kinds)
