"""What `python -m gateway` is told: flags and variables, as `zerogate.flags` reads them. Pure.

`--help` and the document's table (a test compares) come from `OPTIONS`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

import msgspec

from zerogate.edge_kinds import CollectorUrl, Senders
from zerogate.errors import DefinitionError, DefinitionErrors, shown
from zerogate.flags import (
    Option,
    Positional,
    Program,
    duration,
    ip_and_port,
    one_of,
    overlap,
    read_values,
    switch,
    unix_socket,
    whole,
)
from zerogate.http.certificate_files import ListenTls
from zerogate.http.certificates import ClientCertificates, KeyPair
from zerogate.http.entrance import NOBODY, TrustedSenders
from zerogate.kinds import Percent
from zerogate.kube.cluster_flags import (
    KINDS,
    KUBECONFIG,
    POD_NAME,
    WATCH_NAMESPACE,
    ExtraKind,
    pod_namespace,
    with_downward,
)
from zerogate.reporting.targets import parse_targets
from zerogate.role_flags import (
    ACCESS_LOG,
    STATS_CA_FILE,
    STATS_TOKEN_FILE,
    admin_changes,
    admin_conflicts,
    body_memory,
    drain_options,
)
from zerogate.runtime.interface import Address

PROG: Final = "python -m gateway"
MOST_WORKERS: Final = 64
STATS_PORT: Final = 8090
LEAST_HUNG_S: Final = 3.0
"""A worker reports once a second, and one report may be late."""

Value = TypeVar("Value")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The process's own settings; times in seconds. The reasons for the defaults are in `OPTIONS`."""

    file: str | None
    """None where the services come from a cluster."""
    cluster: bool
    kubeconfig: str
    """Empty: this pod's own account."""
    namespace: str
    """zerogate's own."""
    pod: str
    """Empty: the name of the machine."""
    watch: str
    """Empty: all namespaces."""
    kinds: tuple[ExtraKind, ...]
    listen: Address
    listen_unix: Address | None
    listen_tls: Address | None
    certificates: ListenTls | None
    client_ca: str | None
    client_certificates: Literal["required", "optional"]
    trusted_senders: TrustedSenders | None
    admin: Address
    local_changes: bool
    workers: int | None
    """None: one for each core that it may use."""
    hung_after_s: float
    max_connections: int
    max_connections_per_client: int
    body_memory_bytes: int
    access_log: Literal["off", "sampled", "on"]
    trace_to: str | None
    trace_ratio: float
    drain_deadline_s: float
    drain_wait_s: float
    stats: tuple[Address, ...]
    stats_token_file: str
    stats_ca_file: str

    @property
    def tls(self) -> ListenTls | None:
        """Set together with `listen_tls`."""
        if self.certificates is None or self.client_ca is None:
            return self.certificates
        clients = ClientCertificates(self.client_ca, required=self.client_certificates == "required")
        return msgspec.structs.replace(self.certificates, clients=clients)

    @property
    def trusted(self) -> TrustedSenders:
        """Whose PROXY headers are believed."""
        return self.trusted_senders or NOBODY

    @property
    def source(self) -> str:
        """Where the services come from, for a person."""
        return "the cluster" if self.file is None else self.file


def _or_none(parse: Callable[[str], Value]) -> Callable[[str], Value | None]:
    return lambda text: None if text == "none" else parse(text)


def _workers(text: str) -> int | None:
    if text == "auto":
        return None
    number = whole(text)
    if not 1 <= number <= MOST_WORKERS:
        raise DefinitionError(f"{shown(text)} is not a whole number from 1 to {MOST_WORKERS}", hint="Or write auto.")
    return number


def _certificates(text: str) -> ListenTls:
    first, comma, second = text.partition(",")
    if not first or (comma and not second) or "," in second:
        hint = "Write the path of a folder with NAME.crt and NAME.key in it, or CERTIFICATE,KEY."
        raise DefinitionError(f"{shown(text)} is neither a folder nor a certificate with its key", hint=hint)
    return ListenTls(pairs=(KeyPair(first, second),)) if comma else ListenTls(folder=first)


def _senders(text: str) -> Any:
    return Senders().parse([word.strip() for word in text.split(",")])


def _targets(text: str) -> tuple[Address, ...] | None:
    return None if text == "auto" else parse_targets(text)


OPTIONS: Final = (
    Option(
        name="cluster", field="cluster", metavar="", parse=switch, default="false", is_switch=True,
        says="take services, policies and replicas from the Kubernetes API, and not from a file",
    ),
    KUBECONFIG,
    pod_namespace("its ConfigMap and its autoscalers"),
    POD_NAME,
    WATCH_NAMESPACE,
    KINDS,
    Option(
        name="listen", field="listen", metavar="ADDRESS", parse=ip_and_port, default="127.0.0.1:8080",
        says="where requests come in; 0.0.0.0:PORT for all interfaces; port 0: any free one, told at the start",
    ),
    Option(
        name="listen-unix", field="listen_unix", metavar="unix:PATH", parse=_or_none(unix_socket), default="none",
        says="a Unix socket where requests come in too",
    ),
    Option(
        name="listen-tls", field="listen_tls", metavar="ADDRESS", parse=_or_none(ip_and_port), default="none",
        says="where requests come in over TLS too; needs --tls",
    ),
    Option(
        name="tls", field="certificates", metavar="PATH", parse=_or_none(_certificates), default="none",
        says="certificates of --listen-tls: a folder with NAME.crt and NAME.key, chosen by SNI, or CERTIFICATE,KEY",
    ),
    Option(
        name="client-ca", field="client_ca", metavar="FILE", parse=_or_none(str), default="none",
        says="authorities of clients' certificates: clients of --listen-tls show one of theirs",
    ),
    Option(
        name="client-certificates", field="client_certificates", metavar="MODE",
        parse=one_of("required", "optional"), default="required",
        says="whether clients of --listen-tls must have a certificate of --client-ca, or may: required or optional",
    ),
    Option(
        name="proxy-protocol-from", field="trusted_senders", metavar="NETWORKS", parse=_or_none(_senders),
        default="none",
        says="balancers whose connections begin with a PROXY header (version 1 or 2): networks with commas between "
        "them, and the word unix",
    ),
    Option(
        name="admin", field="admin", metavar="ADDRESS", parse=ip_and_port, default="127.0.0.1:8081",
        says="where /readyz, /healthz, /metrics, /reload and /drain are answered; never on the traffic's port",
    ),
    admin_changes("/reload and /drain"),
    Option(
        name="workers", field="workers", metavar="N", parse=_workers, default="1",
        says="processes that take requests, or auto: one per core; each has its own holds and connections to sidecars",
    ),
    Option(
        name="hung-after", field="hung_after_s", metavar="TIME",
        parse=lambda text: duration(text, lowest_s=LEAST_HUNG_S), default="10s",
        says="a worker that says nothing for so long hangs: it is killed and replaced",
    ),
    Option(
        name="max-connections", field="max_connections", metavar="N", parse=whole, default="0",
        says="most connections of clients at once in each worker; one more gets 503 and is closed; 0: no limit",
    ),
    Option(
        name="max-connections-per-client", field="max_connections_per_client", metavar="N", parse=whole, default="0",
        says="the same for each client address; 0: no limit, since all clients of a balancer have one address",
    ),
    body_memory(
        "1Gi", "most bytes of bodies and answers that each worker keeps or that wait; beyond it new requests get 503"
    ),
    ACCESS_LOG,
    Option(
        name="trace-to", field="trace_to", metavar="URL", parse=_or_none(CollectorUrl().parse), default="none",
        says="an OpenTelemetry collector that takes OTLP over HTTP; needs zerogate[otel], and 20 MiB in each worker",
    ),
    Option(
        name="trace-sample", field="trace_ratio", metavar="SHARE", parse=Percent(0.0, 1.0).parse, default="100%",
        says="share of the traces that begin here which is recorded; those that began elsewhere were decided on there",
    ),
    *drain_options("what is in flight or waits", "balancers have noticed; in a cluster 5s"),
    Option(
        name="stats", field="stats", metavar="HOST:PORT", parse=_targets, default="auto",
        says="the autoscalers that hear what waits: a name that stands for all of them, or several, with commas; none; "
        "auto: with --cluster those of its namespace, else none",
    ),
    STATS_TOKEN_FILE,
    STATS_CA_FILE,
)  # fmt: skip

PROGRAM: Final = Program(
    prog=PROG,
    description="Routes requests to replicas that have sidecars, and holds them while none has a free slot.",
    epilog="Each flag may also be given as the variable named beside it; the flag wins. Times: 15s, 10m, 1h30m. "
    "SIGHUP: apply the changed file. SIGUSR2: restart the workers one by one. SIGTERM: finish what runs, then exit 0; "
    "again: at once. Exit codes: 0 left, 1 machine, 2 wrong setting or file.",
    options=OPTIONS,
    positional=Positional(
        "file", "FILE", "services, their policies and replicas, as JSON; see docs/gateway.md", is_optional=True
    ),
)


def read(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings. Raises DefinitionErrors with all that is wrong."""
    values, errors = read_values(PROGRAM, arguments, with_downward(environ))
    if not errors:
        if values["stats"] is None:
            service = f"zerogate-autoscaler-stats.{values['namespace']}"
            values["stats"] = (Address(service, STATS_PORT),) if values["cluster"] else ()
        settings = Settings(**values)
        errors = _conflicts(settings)
        if not errors:
            return settings
    raise DefinitionErrors(errors)


def _conflicts(settings: Settings) -> list[DefinitionError]:
    errors = _about_source(settings)
    secure = settings.listen_tls
    errors += admin_conflicts(settings.admin, [settings.listen, *([secure] if secure is not None else [])])
    if secure is not None and secure.port and overlap(secure, settings.listen):
        problem = f"{secure} is where requests come in without TLS"
        errors.append(DefinitionError(problem, key="--listen-tls", hint="Give another port."))
    if secure is not None and settings.certificates is None:
        errors.append(DefinitionError("needs --tls", key="--listen-tls", hint="Say which certificates: --tls FOLDER."))
    for flag, value in (("--tls", settings.certificates), ("--client-ca", settings.client_ca)):
        if secure is None and value is not None:
            hint = "Write --listen-tls ADDRESS."
            errors.append(DefinitionError("is about --listen-tls, which is not given", key=flag, hint=hint))
    return errors


def _about_source(settings: Settings) -> list[DefinitionError]:
    if settings.cluster and settings.file is not None:
        hint = "Take out one of them: services come from a file or from a cluster."
        return [DefinitionError(f"{shown(settings.file)} is given too", key="--cluster", hint=hint)]
    if not settings.cluster and settings.file is None:
        return [DefinitionError("FILE is missing", hint="Name a file of JSON, or write --cluster.")]
    if not settings.cluster and settings.kubeconfig:
        return [DefinitionError("is about --cluster, which is not given", key="--kubeconfig", hint="Write --cluster.")]
    return []
