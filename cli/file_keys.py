"""The table of keys of the box file, outside the policies. Pure.

One row per key; the parser (`cli.file`), the JSON Schema (`cli.schema`) and the documentation are made from the rows.
The keys of a policy are in `zerogate.policy_keys`.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from cli.file_kinds import CommandLine, EndpointUrl, Environment, Flag, ListenAddress
from zerogate.edge_kinds import CollectorUrl, Senders
from zerogate.kinds import Choice, Duration, Kind, Percent, Size, Text, Whole

SERVICE_NAME_PATTERN: Final = "^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"
"""A DNS label: the name stands in host names, file names and metric labels."""

ENVIRONMENT: Final = Environment()

_PATH: Final = Text(r"[^\x00-\x1f\x7f]+", "a path", "./models", longest=4095)


class FileKey(msgspec.Struct, frozen=True, kw_only=True):
    """One row: a key, its kind, its default as a user would write it, and why."""

    name: str
    kind: Kind
    doc: str
    default: str | bool = ""
    reason: str = ""
    runs: bool = False
    """Only beside `command`."""

    def default_value(self) -> Any:
        """The default, parsed."""
        return self.kind.parse(self.default) if self.default else None


def _table(*rows: FileKey) -> Mapping[str, FileKey]:
    return {row.name: row for row in rows}


BOX_KEYS: Final = _table(
    FileKey(
        name="listen",
        kind=ListenAddress(unix=True),
        doc="Address for traffic.",
        default="127.0.0.1:8080",
        reason="Nothing is open to the network unless it was asked for.",
    ),
    FileKey(
        name="listen-tls",
        kind=ListenAddress(unix=True),
        doc="Address for traffic over TLS, beside listen; tls says with which certificates.",
    ),
    FileKey(
        name="client-ca",
        kind=_PATH,
        doc="File with the authorities of clients' certificates: those of listen-tls have to show one of theirs.",
    ),
    FileKey(
        name="client-certificates",
        kind=Choice(("required", "optional")),
        doc="Whether a client of listen-tls must have a certificate of client-ca, or may.",
        default="required",
        reason="Whoever names an authority wants others kept out.",
    ),
    FileKey(
        name="proxy-protocol-from",
        kind=Senders(),
        doc="Balancers whose connections begin with a PROXY header (version 1 or 2), and whose word for the client's "
        "address is taken. Connections from elsewhere are served as they are.",
    ),
    FileKey(
        name="admin",
        kind=ListenAddress(),
        doc="Address for status, metrics and commands; never reachable through the traffic address.",
        default="127.0.0.1:8081",
        reason="Beside the traffic, on loopback: whoever reaches it can stop services.",
    ),
    FileKey(
        name="state-dir",
        kind=_PATH,
        doc="Folder for logs, pins and what was learned; relative to the file.",
        default="${XDG_STATE_HOME:-~/.local/state}/zerogate",
        reason="Where the XDG Base Directory Specification puts logs and history.",
    ),
    FileKey(
        name="access-log",
        kind=Choice(("off", "sampled", "on")),
        doc="One JSON line per request, for all or for a sample.",
        default="off",
        reason="Writing a line is work on the path of every request.",
    ),
    FileKey(
        name="trace-to",
        kind=CollectorUrl(),
        doc="URL of an OpenTelemetry collector that takes OTLP over HTTP: requests are traced, and their spans sent "
        "there. By default traceparent and tracestate pass like any other field.",
    ),
    FileKey(
        name="trace-sample",
        kind=Percent(0.0, 1.0),
        doc="Share of the traces that begin here which is recorded. One that began elsewhere was decided on there.",
        default="100%",
        reason="As OpenTelemetry's own; model servers answer tens of requests a second, and a queue bounds the rest.",
    ),
    FileKey(
        name="max-connections",
        kind=Whole(0, 1_000_000),
        doc="Most connections of clients at once; one more is answered with 503 and closed. 0 is no limit.",
        default="0",
        reason="The open files that the system grants are the limit, and running out of them is survived.",
    ),
    FileKey(
        name="max-connections-per-client",
        kind=Whole(0, 1_000_000),
        doc="The same for each client address.",
        default="0",
        reason="All clients of a balancer or of an office have one address.",
    ),
    FileKey(
        name="body-memory",
        kind=Size(1024 * 1024, 1 << 40),
        doc="Most bytes in all of request bodies that are kept, held or searched for their model, of uploads that "
        "replicas do not take and of answers that clients do not take; beyond it new requests get 503 and "
        "running uploads pause.",
        default="1Gi",
        reason="Sixteen of the largest bodies that are searched, and what small machines have left.",
    ),
)
"""At the top of the file; `services` and `tls` stand beside them."""

PAIR_KEYS: Final = _table(
    FileKey(
        name="certificate",
        kind=_PATH,
        doc="Certificate in PEM, the server's own first, then those up to its authority; relative to the file.",
    ),
    FileKey(name="key", kind=_PATH, doc="Its private key in PEM, without a password; relative to the file."),
)
"""Of one entry of `tls` at the top."""

ENDPOINT_TLS_KEYS: Final = _table(
    FileKey(
        name="ca",
        kind=_PATH,
        doc="File with the certificates that the endpoint's has to be, or to come from. By default those that the "
        "system trusts.",
    ),
    *(
        FileKey(name=row.name, kind=row.kind, doc=f"Shown to the endpoint, with {other}: {what}")
        for row, other, what in (
            (PAIR_KEYS["certificate"], "key", "a client's certificate in PEM."),
            (PAIR_KEYS["key"], "certificate", "the private key of the client's certificate."),
        )
    ),
    FileKey(
        name="server-name",
        kind=Text("[A-Za-z0-9._:-]+", "a host name or an IP address", "models.lan", longest=253),
        doc="Name that the endpoint's certificate has to be for. By default the host of the endpoint.",
    ),
    FileKey(
        name="verify",
        kind=Flag(),
        doc="false: any certificate is taken, and anybody between may read and change everything.",
        default=True,
        reason="A certificate that is not looked at protects nothing.",
    ),
)
"""Of `tls` beside an endpoint."""

SERVICE_KEYS: Final = _table(
    FileKey(
        name="command",
        kind=CommandLine(),
        doc="Program that serves the model; the port to listen on is {port} in it or in a value of env, and $PORT in "
        "its environment.",
        runs=True,
    ),
    FileKey(
        name="endpoint",
        kind=EndpointUrl(),
        doc="URL of a service that somebody else runs, or unix:PATH: routed and measured, never scaled.",
    ),
    FileKey(
        name="cwd",
        kind=_PATH,
        doc="Folder that the command runs in; relative to the file.",
        default=".",
        reason="The file's own folder: the same wherever zerogate is started from.",
        runs=True,
    ),
    FileKey(
        name="start-timeout",
        kind=Duration(1, 86400),
        doc="A replica that is not ready after this time is stopped, and its held requests are told.",
        default="10m",
        reason="Loading tens of GiB of weights from a network disk takes minutes.",
        runs=True,
    ),
    FileKey(
        name="stop-grace",
        kind=Duration(1, 3600),
        doc="Time from SIGTERM to SIGKILL.",
        default="30s",
        reason="As on Kubernetes.",
        runs=True,
    ),
    FileKey(
        name="log-file",
        kind=_PATH,
        doc="File for what the command prints; relative to the file. By default one per service in the state folder.",
        runs=True,
    ),
)
"""Of one service; `env`, `tls`, `policy` and the routing keys of a policy stand beside them."""
