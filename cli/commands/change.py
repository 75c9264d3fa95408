"""`zerogate pin`, `unpin`, `reload` and `logs`: what a person asks a running zerogate for."""

import sys
from datetime import datetime

from rich.console import Console
from rich.markup import escape

from cli.client import Admin
from zerogate.admin.api import LONGEST_PIN_S, PinRequest
from zerogate.errors import DefinitionError
from zerogate.quantities import parse_duration


def pin(admin: Admin, name: str, replicas: int, length: str | None, console: Console) -> None:
    """Hold `replicas` for `length` (`2h`), or until it is taken away."""
    status = admin.pin(name, PinRequest(replicas=replicas, for_s=_seconds(length)))
    until = status.pin.until_at if status.pin else None
    end = "" if until is None else f" until {datetime.fromtimestamp(until).astimezone():%Y-%m-%d %H:%M:%S}"
    word = "replica" if replicas == 1 else "replicas"
    console.print(f"{name} is pinned to {replicas} {word}{end}. `{admin.program} unpin {name}` takes it away.")


def unpin(admin: Admin, name: str, console: Console) -> None:
    """Let the policy decide again."""
    admin.unpin(name)
    console.print(f"{name} is scaled by its policy again.")


def reload(admin: Admin, console: Console) -> None:
    """Apply the changed file as a whole or not at all."""
    console.print(escape(str(admin.reload())))


def logs(admin: Admin, name: str, *, lines: int, follow: bool) -> None:
    """The log's bytes as they are, onto standard output."""
    for block in admin.logs(name, lines=lines, follow=follow):
        sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()


def _seconds(length: str | None) -> float | None:
    if length is None:
        return None
    try:
        seconds = parse_duration(length)
    except DefinitionError as error:
        raise error.at(key="--for") from error
    if seconds <= 0:
        raise DefinitionError("no time at all", key="--for", hint="Write 30m or 2h, or leave it out: until unpinned.")
    if seconds > LONGEST_PIN_S:
        raise DefinitionError("longer than a year", key="--for", hint="Leave it out: then it holds until unpinned.")
    return seconds
