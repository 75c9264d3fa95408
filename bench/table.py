"""A figure of a benchmark, and the table that all of them end in."""

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line: what was measured, what was hoped for, what came out. `is_met` is None where there is no goal."""

    name: str
    value: str
    goal: str = ""
    is_met: bool | None = None
    note: str = ""


def at_most(name: str, value: float, goal: float, unit: str, *, digits: int = 1, note: str = "") -> Figure:
    """A figure that should not be above its goal."""
    return Figure(
        name=name,
        value=f"{value:.{digits}f} {unit}",
        goal=f"≤ {goal:g} {unit}",
        is_met=value <= goal,
        note=note,
    )


def at_least(name: str, value: float, goal: float, unit: str, *, digits: int = 1, note: str = "") -> Figure:
    """A figure that should not be below its goal."""
    return Figure(
        name=name, value=f"{value:.{digits}f} {unit}", goal=f"≥ {goal:g} {unit}", is_met=value >= goal, note=note
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print the table."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("figure", "measured", "goal", "", "note"):
        table.add_column(column, overflow="fold")
    for figure in figures:
        mark = "" if figure.is_met is None else "met" if figure.is_met else "missed"
        table.add_row(figure.name, figure.value, figure.goal, mark, figure.note)
    Console(soft_wrap=False).print(table)


def write(path: Path, figures: Sequence[Figure]) -> None:
    """The same as JSON, with the machine it was measured on."""
    content = {"machine": machine(), "figures": [msgspec.to_builtins(figure) for figure in figures]}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def machine() -> dict[str, str | int]:
    """What figures were measured on."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
