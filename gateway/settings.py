"""What `python -m gateway` is told: flags and variables, as `zerogate.flags` reads them. Pure.

`--help` and the document's table (a test compares) come from `OPTIONS`.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from zerogate.errors import DefinitionError, DefinitionErrors, shown
from zerogate.flags import (
    Option,
    Positional,
    Program,
    duration_or_zero,
    ip_and_port,
    overlap,
    read_values,
    token_file,
    unix_socket,
    whole,
)
from zerogate.reporting.targets import parse_targets
from zerogate.runtime.interface import Address

PROG: Final = "python -m gateway"
MOST_WORKERS: Final = 64
_LOGS: Final = ("off", "sampled", "on")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The process's own settings; times in seconds. The reasons for the defaults are in `OPTIONS`."""

    file: str
    listen: Address
    listen_unix: Address | None
    admin: Address
    workers: int | None
    """None: one for each core that it may use."""
    access_log: Literal["off", "sampled", "on"]
    drain_deadline_s: float
    drain_wait_s: float
    stats: tuple[Address, ...]
    stats_token_file: str


def _unix_or_none(text: str) -> Address | None:
    return None if text == "none" else unix_socket(text)


def _workers(text: str) -> int | None:
    if text == "auto":
        return None
    number = whole(text)
    if not 1 <= number <= MOST_WORKERS:
        raise DefinitionError(f"{shown(text)} is not a whole number from 1 to {MOST_WORKERS}", hint="Or write auto.")
    return number


def _log(text: str) -> str:
    if text not in _LOGS:
        raise DefinitionError(f"{shown(text)} is none of {', '.join(_LOGS)}")
    return text


OPTIONS: Final = (
    Option(
        name="listen", field="listen", metavar="ADDRESS", parse=ip_and_port, default="127.0.0.1:8080",
        says="where requests come in; 0.0.0.0:PORT for all interfaces; port 0: any free one, told at the start",
    ),
    Option(
        name="listen-unix", field="listen_unix", metavar="unix:PATH", parse=_unix_or_none, default="none",
        says="a Unix socket where requests come in too",
    ),
    Option(
        name="admin", field="admin", metavar="ADDRESS", parse=ip_and_port, default="127.0.0.1:8081",
        says="where /readyz, /healthz, /metrics, /reload and /drain are answered; never on the traffic's port",
    ),
    Option(
        name="workers", field="workers", metavar="N", parse=_workers, default="1",
        says="processes that take requests, or auto: one per core; each has its own holds and connections to sidecars",
    ),
    Option(
        name="access-log", field="access_log", metavar="MODE", parse=_log, default="off",
        says="a JSON line per request on standard output: off, on, or sampled (all failures, 1 % of the others)",
    ),
    Option(
        name="drain-deadline", field="drain_deadline_s", metavar="TIME", parse=duration_or_zero, default="30s",
        says="for what is in flight or waits when told to leave, and of /drain; what Kubernetes gives a pod",
    ),
    Option(
        name="drain-wait", field="drain_wait_s", metavar="TIME", parse=duration_or_zero, default="0s",
        says="how long to go on after readiness is off, until balancers have noticed; in a cluster 5s",
    ),
    Option(
        name="stats", field="stats", metavar="HOST:PORT", parse=parse_targets, default="none",
        says="the autoscalers that hear what waits: a name that stands for all of them, or several, with commas",
    ),
    Option(
        name="stats-token-file", field="stats_token_file", metavar="PATH", parse=token_file, default="none",
        says="a file with the token that proves to autoscalers who reports; read again when it is replaced",
    ),
)  # fmt: skip

PROGRAM: Final = Program(
    prog=PROG,
    description="Routes requests to replicas that have sidecars, and holds them while none has a free slot.",
    epilog="Each flag may also be given as the variable named beside it; the flag wins. Times: 15s, 10m, 1h30m. "
    "SIGHUP: apply the changed file. SIGUSR2: restart the workers one by one. SIGTERM: finish what runs, then exit 0; "
    "again: at once. Exit codes: 0 left, 1 machine, 2 wrong setting or file.",
    options=OPTIONS,
    positional=Positional("file", "FILE", "services, their policies and replicas, as JSON; see docs/gateway.md"),
)


def read(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings. Raises DefinitionErrors with all that is wrong."""
    values, errors = read_values(PROGRAM, arguments, environ)
    if not errors:
        settings = Settings(**values)
        if not settings.admin.port or not overlap(settings.admin, settings.listen):
            return settings
        problem = f"{settings.admin} is where requests come in"
        errors = [DefinitionError(problem, key="--admin", hint="Give another port.")]
    raise DefinitionErrors(errors)
