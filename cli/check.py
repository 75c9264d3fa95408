"""Behind `zerogate check FILE`: is the file right, can this machine run it, and what would run.

The command line calls `run_check` and exits with what it returns; what it asks is `cli.runnable`, as `up` and `reload`
do, so that what passed a check is what starts. Nothing is started here, no port is opened.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cli.box import BoxFile, ServiceDefinition
from cli.file_kinds import CommandLine
from cli.runnable import read_runnable
from cli.tls_files import load_tls
from zerogate.clock import wall
from zerogate.errors import DefinitionErrors
from zerogate.http.certificate_files import shown, warnings
from zerogate.quantities import format_duration

EXIT_OK = 0
EXIT_WRONG = 2


def run_check(path: Path, *, out: Console, err: Console, environ: Mapping[str, str] = os.environ) -> int:
    """Print what would run, or one paragraph per mistake; the exit code of the command."""
    try:
        box = read_runnable(path, environ)
    except DefinitionErrors as errors:
        print_errors(errors, err)
        return EXIT_WRONG
    out.print(account(box))
    return EXIT_OK


def account(box: BoxFile) -> RenderableType:
    """What would run, for a person."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("service", "runs", "replicas", "to zero after", "asked for by"):
        table.add_column(column, overflow="fold")
    for service in box.services.values():
        table.add_row(*map(escape, _row(service, is_alone=len(box.services) == 1)))
    head = Text(
        f"{box.source}: right, {_count(len(box.services), 'service')}\n"
        f"traffic on {box.traffic}, administration on http://{box.admin}, state in {box.state_dir}\n"
    )
    return Group(head, *_certificates(box), *_ports(box), table)


def _certificates(box: BoxFile) -> Iterator[Text]:
    """What is worth knowing about TLS: each certificate of the listener, and what is not looked at."""
    loaded = load_tls(box)
    now_at = wall()
    for certificate in loaded.server.certificates if loaded.server is not None else ():
        yield Text(f"certificate {shown(certificate, now_at)}")
    for warning in warnings(loaded.server, now_at):
        yield Text(f"warning: {warning}", style="yellow")
    for service in box.services.values():
        if service.tls is not None and not service.tls.verify:
            yield Text(f"warning: the certificate of {service.name} is not verified (verify: false)", style="yellow")


def _ports(box: BoxFile) -> Iterator[Text]:
    for service in box.services.values():
        if service.command is not None and service.command.port_note:
            yield Text(f"note: {service.name}: {service.command.port_note}", style="yellow")


def print_errors(errors: DefinitionErrors, err: Console) -> None:
    """One paragraph per mistake."""
    for error in errors.errors:
        err.print(Text(str(error)), soft_wrap=True)


def _row(service: ServiceDefinition, *, is_alone: bool) -> tuple[str, str, str, str, str]:
    policy = service.policy
    asked = (*policy.models, *policy.hosts, *((f"{policy.path_prefix}…",) if policy.path_prefix else ()))
    own = "every request" if is_alone else f"the hosts {service.name} and {service.name}.localhost"
    names = ", ".join(asked) or own
    if service.command is None:
        where = f"elsewhere, {service.endpoint}"
        return service.name, where, "–", "–", names
    replicas = f"{policy.min_replicas} to {policy.max_replicas}"
    calendar = "".join(f"\n{window.text}" for window in policy.schedule)
    idle = format_duration(policy.idle_timeout_s) if policy.min_replicas == 0 else "never"
    return service.name, CommandLine().shown_as(service.command.argv), replicas + calendar, idle, names


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
