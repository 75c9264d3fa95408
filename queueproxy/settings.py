"""What the process is told: flags and variables, as `zerogate.flags` reads them. Pure.

`--help` and the document's table (a test compares) come from `OPTIONS`.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Final, Literal

import msgspec

from zerogate.errors import DefinitionError, DefinitionErrors, shown
from zerogate.flags import (
    Option,
    Program,
    duration,
    duration_or_none,
    ip_and_port,
    overlap,
    read_values,
    size,
    unix_socket,
    whole,
)
from zerogate.flags import parser as parser_of
from zerogate.reporting.targets import parse_targets
from zerogate.role_flags import ACCESS_LOG, STATS_TOKEN_FILE, admin_conflicts, body_memory, drain_options
from zerogate.runtime.interface import Address

PROG: Final = "python -m queueproxy"
QUEUED_PER_SLOT: Final = 10
"""Depth of the queue for each slot where none is given; Knative's queue-proxy takes as many."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The process's own settings; times in seconds. The reasons for the defaults are in `OPTIONS`."""

    upstream: Address
    listen: Address
    admin: Address
    service: str
    concurrency_limit: int
    release_limit: int
    queue_depth: int | None
    queue_bytes: int
    body_memory_bytes: int
    max_connections: int
    protocol: Literal["http1", "h2c"]
    probe_path: str
    probe_interval_s: float
    probe_timeout_s: float
    hold_timeout_s: float
    connect_timeout_s: float
    first_byte_timeout_s: float
    idle_stream_timeout_s: float
    total_timeout_s: float | None
    websocket_quiet_after_s: float | None
    drain_deadline_s: float
    drain_wait_s: float
    stats: tuple[Address, ...]
    stats_source: str
    """Empty: the name of the machine."""
    stats_token_file: str
    stats_key: str
    """Empty: whoever answers is taken for an autoscaler."""
    drain_token: str | None
    access_log: Literal["off", "sampled", "on"]

    @property
    def queue_limit(self) -> int:
        """Most requests in the queue."""
        return QUEUED_PER_SLOT * self.concurrency_limit if self.queue_depth is None else self.queue_depth


def _upstream(text: str) -> Address:
    return unix_socket(text) if text.startswith("unix:") else ip_and_port(text, lowest_port=1)


def _at_least_one(text: str) -> int:
    number = whole(text)
    if not number:
        raise DefinitionError("0 is not a whole number from 1", hint="Nothing that was held would ever be let in.")
    return number


def _depth(text: str) -> int | None:
    return None if text == "auto" else whole(text)


def _protocol(text: str) -> str:
    if text not in ("http1", "h2c"):
        raise DefinitionError(f"{shown(text)} is not a protocol", hint="Write http1 or h2c.")
    return text


def _path(text: str) -> str:
    if not re.fullmatch("/[!-~]{0,1023}", text) or "#" in text:
        raise DefinitionError(f"{shown(text)} is not a path", hint="Write it with a slash at its beginning: /health.")
    return text


def _token(text: str) -> str | None:
    if text != "none" and not re.fullmatch("[A-Za-z0-9_-]{16,128}", text):
        raise DefinitionError("is not a token", hint="16 to 128 letters, digits, - and _; it is not shown here.")
    return None if text == "none" else text


def _key(text: str) -> str:
    if text == "none":
        return ""
    from zerogate.reporting.proof import parse_key  # only who reports needs it

    return parse_key(text).text()


def _name(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,251}[A-Za-z0-9])?", text):
        raise DefinitionError(f"{shown(text)} is not a name", hint="Letters, digits and . _ - / inside.")
    return text


def _source(text: str) -> str:
    return "" if text == "auto" else _name(text)


OPTIONS: Final = (
    Option(
        name="upstream", field="upstream", metavar="ADDRESS", parse=_upstream, default=None,
        says="the model server: its port, IP:PORT, or unix:PATH",
    ),
    Option(
        name="listen", field="listen", metavar="ADDRESS", parse=ip_and_port, default="127.0.0.1:8012",
        says="where requests come in; 0.0.0.0:PORT for all interfaces; port 0: any free one, told at the start",
    ),
    Option(
        name="admin", field="admin", metavar="ADDRESS", parse=ip_and_port, default="127.0.0.1:8013",
        says="where /readyz, /healthz, /metrics, /stats and /drain are answered; never on the traffic's port",
    ),
    Option(
        name="service", field="service", metavar="NAME", parse=_name, default="service",
        says="the name of the service in metrics, reports and refusals",
    ),
    Option(
        name="concurrency-limit", field="concurrency_limit", metavar="N", parse=whole, default="0",
        says="most requests inside the model server at once; 0: no limit (engines that batch queue by themselves)",
    ),
    Option(
        name="release-limit", field="release_limit", metavar="N", parse=_at_least_one, default="8",
        says="without a concurrency limit: most held requests that gateways let in at a time; as target-concurrency",
    ),
    Option(
        name="queue-depth", field="queue_depth", metavar="N", parse=_depth, default="auto",
        says=f"most requests that wait for a slot, further ones get 429 at once; auto: {QUEUED_PER_SLOT} per slot",
    ),
    Option(
        name="queue-bytes", field="queue_bytes", metavar="SIZE", parse=size, default="64Mi",
        says="most memory of those that wait, bodies included; four of the largest bodies that are kept whole",
    ),
    body_memory(
        "128Mi",
        "most bytes of bodies and answers that are kept or wait, then 503; the queue's and as much on its way",
    ),
    Option(
        name="max-connections", field="max_connections", metavar="N", parse=whole, default="768",
        says="most connections at once, but for gateways' own; one more gets 503 as not sent; with the rest they fit "
        "256 MiB at 132 KiB each, the most that one may cost; 0: no limit",
    ),
    Option(
        name="protocol", field="protocol", metavar="PROTOCOL", parse=_protocol, default="http1",
        says="what the model server speaks: http1, or h2c (HTTP/2 without TLS), which gRPC needs",
    ),
    Option(
        name="probe-path", field="probe_path", metavar="PATH", parse=_path, default="/health",
        says="asked of the model server; any answer below 500 is ready; every 25 ms until it is; gRPC: docs/grpc.md",
    ),
    Option(
        name="probe-interval", field="probe_interval_s", metavar="TIME", parse=duration, default="1s",
        says="how often it is asked while it is ready",
    ),
    Option(
        name="probe-timeout", field="probe_timeout_s", metavar="TIME", parse=duration, default="2s",
        says="for one answer; three in a row may be late before a ready server, which may be busy, counts as lost",
    ),
    Option(
        name="hold-timeout", field="hold_timeout_s", metavar="TIME", parse=duration, default="9m",
        says="most time in the queue; OpenAI's client gives up at 10 minutes; `Prefer: wait=N` shortens it",
    ),
    Option(
        name="connect-timeout", field="connect_timeout_s", metavar="TIME", parse=duration, default="5s",
        says="for a connection to the model server",
    ),
    Option(
        name="first-byte-timeout", field="first_byte_timeout_s", metavar="TIME", parse=duration, default="10m",
        says="from the request's last byte to the head of the answer",
    ),
    Option(
        name="idle-stream-timeout", field="idle_stream_timeout_s", metavar="TIME", parse=duration, default="5m",
        says="without a byte from the model server while the client could take one",
    ),
    Option(
        name="total-timeout", field="total_timeout_s", metavar="TIME", parse=duration_or_none, default="none",
        says="from dispatch to the last byte, or none: long answers are not cut",
    ),
    Option(
        name="websocket-quiet-after", field="websocket_quiet_after_s", metavar="TIME", parse=duration_or_none,
        default="none",
        says="a WebSocket without a data frame for so long is not in flight in reports; none: it is until it is closed",
    ),
    *drain_options("what is in flight", "whoever sends requests has noticed"),
    Option(
        name="stats", field="stats", metavar="HOST:PORT", parse=parse_targets, default="none",
        says="the autoscalers that hear what is counted: a name that stands for all of them, or several, with commas",
    ),
    Option(
        name="stats-source", field="stats_source", metavar="NAME", parse=_source, default="auto",
        says="this sidecar's own name in reports, unlike any other's; auto: the machine's, which in a pod is the pod's",
    ),
    STATS_TOKEN_FILE,
    Option(
        name="stats-key", field="stats_key", metavar="KEY", parse=_key, default="none",
        says="what autoscalers have to know before they are told anything or obeyed; the injector writes it",
    ),
    Option(
        name="drain-token", field="drain_token", metavar="TOKEN", parse=_token, default="none",
        says="what /drain has to be asked with, as the header zerogate-drain-token, where others reach the admin port",
    ),
    ACCESS_LOG,
)  # fmt: skip


PROGRAM: Final = Program(
    prog=PROG,
    description="Stands in front of one HTTP model server: limits what is inside, queues a little, measures.",
    epilog="Each flag may also be given as the variable named beside it; the flag wins. Times: 15s, 10m, 1h30m. "
    "SIGTERM: finish what runs, then exit 0; again: at once. Exit codes: 0 left, 1 machine, 2 wrong setting.",
    options=OPTIONS,
)


def parser() -> argparse.ArgumentParser:
    """The command line; `--help` prints and exits with 0."""
    return parser_of(PROGRAM)


def read(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings. Raises DefinitionErrors with all that is wrong."""
    values, errors = read_values(PROGRAM, arguments, environ)
    if not errors:
        settings = Settings(**values)
        errors = _conflicts(settings)
        if not errors:
            return settings
    raise DefinitionErrors(errors)


_OTHER: Final = "Give another port."


def _conflicts(settings: Settings) -> list[DefinitionError]:
    found = admin_conflicts(settings.admin, [settings.listen])
    for key, own in (("--listen", settings.listen), ("--admin", settings.admin)):
        upstream = settings.upstream
        if upstream.path:
            continue
        if overlap(own, upstream) and (own.host == upstream.host or ip_address(upstream.host).is_loopback):
            found.append(DefinitionError(f"{own} is the model server's own address", key=key, hint=_OTHER))
    return found
