"""Settings that several roles have, each said once: how they leave, their admin port, memory, log and reports. Pure."""

from collections.abc import Iterable
from typing import Final

from zerogate.errors import DefinitionError, shown
from zerogate.flags import Option, duration_or_zero, one_of, overlap, size, token_file
from zerogate.runtime.interface import Address

_LEAST_MEMORY_BYTES: Final = 1024 * 1024

ACCESS_LOG: Final = Option(
    name="access-log", field="access_log", metavar="MODE", parse=one_of("off", "sampled", "on"), default="off",
    says="a JSON line per request on standard output: off, on, or sampled (all failures, 1 % of the others)",
)  # fmt: skip
STATS_TOKEN_FILE: Final = Option(
    name="stats-token-file", field="stats_token_file", metavar="PATH", parse=token_file, default="none",
    says="a file with the token that proves to autoscalers who reports; read again when it is replaced",
)  # fmt: skip
STATS_CA_FILE: Final = Option(
    name="stats-ca-file", field="stats_ca_file", metavar="PATH", parse=token_file, default="none",
    says="authorities (PEM) that vouch for autoscalers: reports go over TLS to who proves the name in --stats; "
    "read again for each connection",
)  # fmt: skip


def _changes(text: str) -> bool:
    if text not in ("local", "anybody"):
        raise DefinitionError(f"{shown(text)} is neither local nor anybody")
    return text == "local"


def admin_changes(paths: str) -> Option:
    """Who may ask for those paths of the admin port that change something."""
    return Option(
        name="admin-changes", field="local_changes", metavar="WORD", parse=_changes, default="local",
        says=f"who may ask for {paths}, wherever the admin port listens: local, which is this machine or pod (in a "
        "cluster by kubectl port-forward, a matter of RBAC), or anybody who reaches it",
    )  # fmt: skip


def _memory(text: str) -> int:
    size_bytes = size(text)
    if size_bytes < _LEAST_MEMORY_BYTES:
        raise DefinitionError(f"{shown(text)} is less than 1Mi", hint="Nobody would be served beside one that is slow.")
    return size_bytes


def body_memory(default: str, says: str) -> Option:
    """The bound of `zerogate.http.memory`."""
    return Option(
        name="body-memory", field="body_memory_bytes", metavar="SIZE", parse=_memory, default=default, says=says
    )


def drain_options(what: str, noticed: str) -> tuple[Option, Option]:
    """How a process leaves. `what` has until the deadline; `noticed`: who has to notice before the port closes."""
    return (
        Option(
            name="drain-deadline", field="drain_deadline_s", metavar="TIME", parse=duration_or_zero, default="30s",
            says=f"for {what} when told to leave, and of /drain; what Kubernetes gives a pod",
        ),
        Option(
            name="drain-wait", field="drain_wait_s", metavar="TIME", parse=duration_or_zero, default="0s",
            says=f"how long to go on after readiness is off, until {noticed}",
        ),
    )  # fmt: skip


def admin_conflicts(admin: Address, traffic: Iterable[Address]) -> list[DefinitionError]:
    """What is wrong with the admin port beside these."""
    if admin.port and any(overlap(admin, one) for one in traffic):
        return [DefinitionError(f"{admin} is where requests come in", key="--admin", hint="Give another port.")]
    return []
