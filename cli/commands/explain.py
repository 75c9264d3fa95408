"""`zerogate explain` and `zerogate plan`: why a service has the replicas it has, what comes next, and when."""

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.client import Admin
from zerogate import clock
from zerogate.admin.api import DecisionView, Ending, Explanation, Plan, ServiceStatus
from zerogate.quantities import format_duration


def explain(admin: Admin, name: str, console: Console, *, zone: tzinfo | None = None) -> None:
    """The decision that holds with its voices, what holds it back, and those before it; times in `zone` or local."""
    status, explanation = admin.service(name), admin.decisions(name)
    for line in _lines(status, explanation, zone, admin.program):
        console.print(line, soft_wrap=True)


def plan(admin: Admin, name: str, count: int, console: Console) -> None:
    """The next transitions of the calendar."""
    found = admin.plan(name, count)
    if not found.has_schedule:
        console.print(f"{name} has no schedule. Give it one with `schedule:` in its policy.")
        return
    console.print(f"now: {_bounds(found.floor, found.ceiling)}")
    console.print(_transitions(found) if found.transitions else "No change is in reach.")


def _lines(status: ServiceStatus, explanation: Explanation, zone: tzinfo | None, program: str) -> Iterator[str]:
    name = f"[bold]{escape(status.name)}[/bold]"
    if status.kind == "endpoint":
        yield f"{name} runs elsewhere ({status.endpoint}): zerogate routes to it and never scales it."
        yield f"Now {status.in_flight} of its requests run and {status.held} are held; {status.requests} came so far."
        if not status.notices:
            yield "Its requests show nothing amiss."
        yield from (escape(notice) for notice in status.notices)
        return
    ready = sum(replica.state == "ready" for replica in status.replicas)
    yield f"{name} is {status.state}: {_replicas(ready)} ready, {status.desired} wanted."
    if decision := explanation.decision:
        yield from _decision(decision, zone)
    else:
        yield "Nothing was decided yet."
    if status.pin:
        until = "until it is taken away" if status.pin.until_at is None else f"until {_when(status.pin.until_at, zone)}"
        yield f"Pinned to {status.pin.replicas} {until} (`{program} unpin {escape(status.name)}`)."
    if status.back_off:
        wait = format_duration(max(status.back_off.next_try_s, 0.0))
        yield f"Starts are suspended after {status.back_off.failures} failures; the next try is in {wait}."
        yield from _ending(status.back_off.last)
    elif status.last_ending:
        yield from _ending(status.last_ending)
    yield from (escape(notice) for notice in status.notices)
    if explanation.earlier:
        yield "Before that:"
    for earlier in explanation.earlier:
        yield (
            f"  {_when(earlier.at, zone)}  {earlier.current} -> {earlier.desired}  {escape(earlier.winner)}: "
            f"{escape(earlier.why)}"
        )


def _decision(decision: DecisionView, zone: tzinfo | None) -> Iterator[str]:
    again = f", {decision.repeats} times since" if decision.repeats else ""
    yield (
        f"Decided {_when(decision.at, zone)}{again}: {decision.current} -> {decision.desired}, because "
        f"{escape(decision.why)}."
    )
    for candidate in decision.candidates:
        mark = "*" if candidate.ask == decision.winner else " "
        yield f"  {mark} {escape(candidate.ask):<11}{candidate.replicas:>3}  {escape(candidate.why)}"
    if decision.held_back and decision.held_back != decision.why:
        yield f"Held back: {escape(decision.held_back)}."
    if decision.next_change:
        yield f"Next: {escape(decision.next_change)}."
    elif decision.revisit_s is None:
        yield "Next: nothing until something happens (a request, a calendar, a pin)."


def _ending(ending: Ending) -> Iterator[str]:
    printed = "It printed:" if ending.last_lines else "It printed nothing."
    yield f"Its last replica ended ({ending.cause}): {escape(ending.detail.rstrip('.'))}. {printed}"
    for line in ending.last_lines:
        yield f"  | {escape(line)}"


def _transitions(found: Plan) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("WHEN", "REPLICAS", "WHY"):
        table.add_column(column)
    for change in found.transitions:
        table.add_row(escape(change.local), _bounds(change.floor, change.ceiling), escape(change.why))
    return table


def _bounds(floor: int, ceiling: int | None) -> str:
    if ceiling is None:
        return f"at least {floor}" if floor else "as traffic asks"
    return f"{floor} to {ceiling}" if floor != ceiling else f"exactly {floor}"


def _replicas(number: int) -> str:
    return "1 replica" if number == 1 else f"{number} replicas"


def _when(at: float, zone: tzinfo | None) -> str:
    moment = datetime.fromtimestamp(at, UTC).astimezone(zone)
    today = datetime.fromtimestamp(clock.wall(), UTC).astimezone(zone).date()
    return moment.strftime("%H:%M:%S" if moment.date() == today else "%Y-%m-%d %H:%M:%S")
