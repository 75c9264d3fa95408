"""Behind `zerogate check FILE`: is the file right, can this machine run it, and what would run.

The command line calls `run_check` and exits with what it returns; `up` and `reload` call `read_runnable`, so that what
passed a check is what starts. Nothing is started here, no port is opened.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cli.box import BoxFile, Command, ServiceDefinition
from cli.file import read_box_file
from cli.file_kinds import CommandLine
from zerogate.errors import DefinitionError, DefinitionErrors, shown
from zerogate.quantities import format_duration

EXIT_OK = 0
EXIT_WRONG = 2
_PATH_SHOWN = 500
"""A path is of no use when it is cut."""


def run_check(path: Path, *, out: Console, err: Console, environ: Mapping[str, str] = os.environ) -> int:
    """Print what would run, or one paragraph per mistake; the exit code of the command."""
    try:
        box = read_runnable(path, environ)
    except DefinitionErrors as errors:
        print_errors(errors, err)
        return EXIT_WRONG
    out.print(account(box))
    return EXIT_OK


def read_runnable(path: Path, environ: Mapping[str, str] = os.environ) -> BoxFile:
    """The file, with its commands found on this machine. Raises DefinitionErrors. It blocks."""
    box = read_box_file(path, environ)
    errors = machine_errors(box, environ)
    if errors:
        raise DefinitionErrors(errors)
    return box


def machine_errors(box: BoxFile, environ: Mapping[str, str]) -> list[DefinitionError]:
    """What this machine lacks to run the file: folders and programs."""
    errors: list[DefinitionError] = []
    for service in box.services.values():
        if service.command is not None:
            error = _missing(service.command, environ)
            if error is not None:
                line = box.line_of("services", service.name, error.key)
                errors.append(
                    DefinitionError(
                        error.problem,
                        key=f"services.{service.name}.{error.key}",
                        hint=error.hint,
                        source=box.source,
                        line=line,
                    )
                )
    return errors


def account(box: BoxFile) -> RenderableType:
    """What would run, for a person."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("service", "runs", "replicas", "to zero after", "asked for by"):
        table.add_column(column, overflow="fold")
    for service in box.services.values():
        table.add_row(*map(escape, _row(service)))
    head = Text(
        f"{box.source}: right, {_count(len(box.services), 'service')}\n"
        f"traffic on http://{box.listen}, administration on http://{box.admin}, state in {box.state_dir}\n"
    )
    return Group(head, table)


def print_errors(errors: DefinitionErrors, err: Console) -> None:
    """One paragraph per mistake."""
    for error in errors.errors:
        err.print(Text(str(error)), soft_wrap=True)


def _missing(command: Command, environ: Mapping[str, str]) -> DefinitionError | None:
    """The first thing that the command lacks; the error's key is the service's."""
    if not Path(command.cwd).is_dir():
        return DefinitionError(
            f"{shown(command.cwd, longest=_PATH_SHOWN)} is not a folder",
            key="cwd",
            hint="Make it, or correct the path.",
        )
    program = command.argv[0]
    if "/" in program:
        path = Path(command.cwd, program)
        if not path.is_file():
            hint = "Paths are seen from cwd, which is the file's folder if it is not given."
            return DefinitionError(
                f"there is no program at {shown(str(path), longest=_PATH_SHOWN)}", key="command", hint=hint
            )
        if not os.access(path, os.X_OK):
            problem = f"{shown(str(path), longest=_PATH_SHOWN)} is not executable"
            return DefinitionError(problem, key="command", hint=f"Try chmod +x {path}.")
        return None
    search = command.env.get("PATH", environ.get("PATH", os.defpath))
    if shutil.which(program, path=search) is None:
        hint = "Install it, write its full path, or set PATH in env."
        return DefinitionError(f"the program {shown(program)} is not in PATH", key="command", hint=hint)
    return None


def _row(service: ServiceDefinition) -> tuple[str, str, str, str, str]:
    policy = service.policy
    asked = (*policy.models, *policy.hosts, *((f"{policy.path_prefix}…",) if policy.path_prefix else ()))
    names = ", ".join(asked) or "every request without another route"
    if service.command is None:
        return service.name, f"elsewhere, http://{service.endpoint}", "–", "–", names
    replicas = f"{policy.min_replicas} to {policy.max_replicas}"
    calendar = "".join(f"\n{window.text}" for window in policy.schedule)
    idle = format_duration(policy.idle_timeout_s) if policy.min_replicas == 0 else "never"
    return service.name, CommandLine().shown_as(service.command.argv), replicas + calendar, idle, names


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
