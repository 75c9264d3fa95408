"""What `python -m activator` is told: flags and variables, as `zerogate.flags` reads them. Pure.

`--help` and the document's table (a test compares) come from `OPTIONS`.
"""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Final, Literal

import msgspec

from zerogate.errors import DefinitionError, DefinitionErrors, shown
from zerogate.flags import Option, Program, ip_and_port, read_values, whole
from zerogate.kube.cluster_flags import KINDS, KUBECONFIG, WATCH_NAMESPACE, ExtraKind, pod_namespace, with_downward
from zerogate.reporting.targets import parse_targets
from zerogate.role_flags import ACCESS_LOG, STATS_CA_FILE, STATS_TOKEN_FILE, admin_changes, body_memory, drain_options
from zerogate.runtime.interface import Address

PROG: Final = "python -m activator"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The process's own settings; times in seconds. The reasons for the defaults are in `OPTIONS`."""

    kubeconfig: str
    """Empty: by the ServiceAccount of the pod."""
    namespace: str
    """zerogate's own."""
    watch: str
    """Empty: all namespaces."""
    listen_host: str
    admin: Address
    local_changes: bool
    max_connections: int
    body_memory_bytes: int
    access_log: Literal["off", "sampled", "on"]
    drain_deadline_s: float
    drain_wait_s: float
    stats: tuple[Address, ...]
    stats_token_file: str
    stats_ca_file: str
    kinds: tuple[ExtraKind, ...]


def _host(text: str) -> str:
    try:
        return str(ip_address(text.strip("[]")))
    except ValueError:
        raise DefinitionError(f"{shown(text)} is not an address", hint="Write 0.0.0.0, :: or an address.") from None


OPTIONS: Final = (
    KUBECONFIG,
    pod_namespace("its ConfigMap"),
    WATCH_NAMESPACE,
    KINDS,
    Option(
        name="listen-host", field="listen_host", metavar="ADDRESS", parse=_host, default="0.0.0.0",
        says="where the ports of Services are opened; :: for both families, where nodes have IPv6",
    ),
    Option(
        name="admin", field="admin", metavar="ADDRESS", parse=ip_and_port, default="127.0.0.1:8081",
        says="where /readyz, /healthz, /metrics and /drain are answered; in a cluster 0.0.0.0:8081",
    ),
    admin_changes("/drain"),
    Option(
        name="max-connections", field="max_connections", metavar="N", parse=whole, default="0",
        says="most connections of clients at once on each port; one more gets 503 and is closed; 0: no limit",
    ),
    body_memory(
        "1Gi",
        "most bytes of bodies and answers that are kept or wait; beyond it new requests get 503 and uploads pause",
    ),
    ACCESS_LOG,
    *drain_options("what is in flight or waits", "nodes have noticed; in a cluster 5s"),
    Option(
        name="stats", field="stats", metavar="HOST:PORT", parse=parse_targets, default="none",
        says="the autoscalers that hear what waits: a name that stands for all of them, or several, with commas",
    ),
    STATS_TOKEN_FILE,
    STATS_CA_FILE,
)  # fmt: skip

PROGRAM: Final = Program(
    prog=PROG,
    description="Answers for Services whose workloads are at zero: holds their requests until a replica is up.",
    epilog="Each flag may also be given as the variable named beside it; the flag wins. Times: 15s, 10m, 1h30m. "
    "SIGTERM: finish what runs, then exit 0; again: at once. "
    "Exit codes: 0 left, 1 machine, 2 wrong setting.",
    options=OPTIONS,
)


def read(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings. Raises DefinitionErrors with all that is wrong."""
    values, errors = read_values(PROGRAM, arguments, with_downward(environ))
    if errors:
        raise DefinitionErrors(errors)
    return Settings(**values)
