"""`zerogate status`: how all services stand, once, for programs, or again every second."""

from collections.abc import Iterable, Iterator
from itertools import repeat

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cli.client import Admin, UnreachableError
from zerogate.admin.api import ServiceStatus
from zerogate.quantities import format_duration

_STYLES = {
    "ready": "green",
    "starting": "yellow",
    "draining": "yellow",
    "suspended": "red",
    "doubted": "red",
    "zero": "dim",
    "elsewhere": "dim",
}


def show_json(admin: Admin, console: Console) -> None:
    """The API's own answer, indented."""
    text = msgspec.json.format(msgspec.json.encode(admin.services()), indent=2).decode()
    console.print(text, markup=False, soft_wrap=True)


def show(admin: Admin, console: Console) -> None:
    """The table, once."""
    console.print(_page(admin, admin.services()))


def watch(admin: Admin, console: Console, *, ticks: Iterable[object] | None = None) -> None:
    """The table, again at every tick (a second by default) until Ctrl-C; a zerogate that goes away is said."""
    with Live(console=console, auto_refresh=False) as live:
        for _ in _seconds() if ticks is None else ticks:
            try:
                page: RenderableType = _page(admin, admin.services())
            except UnreachableError as error:
                page = Text(str(error), style="red")
            live.update(page, refresh=True)


def _seconds() -> Iterator[None]:
    from time import sleep

    for _ in repeat(None):
        yield
        sleep(1.0)


def _page(admin: Admin, services: list[ServiceStatus]) -> RenderableType:
    if not services:
        return Text(admin.nothing)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("SERVICE", "STATE"):
        table.add_column(column)
    for column in ("READY", "WANTED", "MAX", "RUNNING", "HELD", "REQUESTS"):
        table.add_column(column, justify="right")
    table.add_column("WHAT COMES NEXT", overflow="fold")
    for service in services:
        table.add_row(*_row(service))
    notices = [Text(f"{service.name}: {notice}") for service in services for notice in service.notices]
    return Group(table, *notices)


def _row(service: ServiceStatus) -> tuple[str, ...]:
    style = _STYLES[service.state]
    state = f"[{style}]{service.state}[/{style}]"
    if service.kind == "endpoint":
        replicas = ("-", "-", "-")
    else:
        ready = sum(replica.state == "ready" for replica in service.replicas)
        replicas = (str(ready), str(service.desired), str(service.max_replicas))
    traffic = (str(service.in_flight), str(service.held), str(service.requests))
    return (escape(service.name), state, *replicas, *traffic, escape(_next(service)))


def _next(service: ServiceStatus) -> str:
    if back_off := service.back_off:
        wait = format_duration(max(back_off.next_try_s, 0.0))
        count = "1 failure" if back_off.failures == 1 else f"{back_off.failures} failures"
        return f"tries again in {wait} after {count}: {back_off.last.detail.rstrip('.')}"
    if service.kind == "endpoint":
        return f"at {service.endpoint}, never scaled"
    pin = f"pinned to {service.pin.replicas}" if service.pin else ""
    return ", ".join(part for part in (pin, service.next_change or "", _failure(service)) if part)


def _failure(service: ServiceStatus) -> str:
    """At zero, how the last replica failed: the next request meets the same, most likely."""
    last = service.last_ending
    if service.state != "zero" or last is None or last.cause in ("stopped", "port-taken"):
        return ""
    return f"the last one failed: {last.detail.rstrip('.')}"
