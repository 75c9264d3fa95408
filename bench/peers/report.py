"""What came out: medians, ratios within one turn, goals; as tables, as JSON and as Markdown. Pure."""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from bench.peers.contestants import CONTESTANTS
from bench.peers.world import Found
from bench.table import Figure


class Row(msgspec.Struct, frozen=True):
    """One line of the table of contestants: a metric of a load."""

    load: str
    metric: str
    name: str
    unit: str
    digits: int = 1
    is_less_better: bool = True


ROWS: Final = (
    Row("small", "cpu_us", "CPU per small GET, 32 connections", "µs"),
    Row("small-1", "cpu_us", "the same, 1 connection", "µs"),
    Row("small-256", "cpu_us", "the same, 256 connections", "µs"),
    Row("small", "per_s", "small GETs on one core", "1/s", 0, is_less_better=False),
    Row("small", "busy_ratio", "of which core was busy", "", 2, is_less_better=False),
    Row("chat", "cpu_us", "CPU per chat POST, the openai client's head", "µs"),
    Row("model", "cpu_us", "the same, by its model where there is a choice", "µs"),
    Row("upload", "cpu_us", "CPU per POST of 64 KiB", "µs"),
    Row("upload", "mib_per_s", "throughput of POSTs of 64 KiB", "MiB/s", 0, is_less_better=False),
    Row("large", "cpu_us", "CPU per answer of 10 MiB", "µs", 0),
    Row("large", "mib_per_s", "throughput of answers of 10 MiB", "MiB/s", 0, is_less_better=False),
    Row("large", "busy_ratio", "of which core was busy", "", 2, is_less_better=False),
    Row("half", "per_s", "half of what each can do", "1/s", 0, is_less_better=False),
    Row("half", "p50_ms", "latency added there, p50", "ms", 2),
    Row("half", "p99_ms", "latency added there, p99", "ms", 2),
    Row("same", "per_s", "half of what Knative can do", "1/s", 0, is_less_better=False),
    Row("same", "p50_ms", "latency added there, p50", "ms", 2),
    Row("same", "p99_ms", "latency added there, p99", "ms", 2),
    Row("sse", "cpu_us", "CPU per event, 1,000 streams", "µs"),
    Row("sse", "per_s", "events passed on, of 20,000", "1/s", 0, is_less_better=False),
    Row("sse", "p99_ms", "delay of an event, source to client, p99", "ms"),
    Row("sse", "kib", "memory per stream (PSS)", "KiB"),
    Row("held", "kib", "memory per held request, 10,000 at once (PSS)", "KiB"),
    Row("held", "idle_cpu_percent", "CPU while they wait", "% of a core"),
    Row("websocket", "kib", "memory per idle WebSocket, 1,000 at once (PSS)", "KiB"),
    Row("grpc", "cpu_us", "CPU per unary gRPC call", "µs"),
    Row("grpc", "per_s", "unary gRPC calls on one core", "1/s", 0, is_less_better=False),
    Row("grpc", "failed_percent", "gRPC calls that failed", "%", 3),
    Row("rest", "rss_mib", "at rest: resident", "MiB"),
    Row("rest", "idle_cpu_percent", "at rest: CPU", "% of a core", 2),
    Row("rest", "start_ms", "from the command to the first answer", "ms", 0),
)


class Goal(msgspec.Struct, frozen=True):
    """`limit` times the figure of `peer`, or of the metric's own unit where there is no peer."""

    name: str
    load: str
    metric: str
    limit: float
    peer: str = ""
    unit: str = ""
    kind: Literal["at most", "at least"] = "at most"
    who: tuple[str, ...] = ("sidecar", "gateway")


_SIDECAR: Final = ("sidecar",)
GOALS: Final = (
    Goal("CPU per small GET", "small", "cpu_us", 0.33, "knative"),
    Goal("CPU per small GET", "small", "cpu_us", 1.7, "nginx"),
    Goal("CPU per small GET", "small", "cpu_us", 1.5, "haproxy"),
    Goal("requests/s on one core", "small", "per_s", 2.5, "knative", kind="at least"),
    Goal("CPU per SSE event", "sse", "cpu_us", 0.66, "knative"),
    Goal("latency added at half load, p99", "half", "p99_ms", 1.0, "knative"),
    Goal("latency added at the same load, p99", "same", "p99_ms", 1.0, "knative"),
    Goal("throughput of answers of 10 MiB", "large", "mib_per_s", 0.7, "nginx", kind="at least"),
    Goal("memory per held request", "held", "kib", 5, unit="KiB"),
    Goal("memory per idle WebSocket", "websocket", "kib", 12, unit="KiB"),
    Goal("memory per SSE stream", "sse", "kib", 20, unit="KiB"),
    Goal("resident at rest", "rest", "rss_mib", 28, unit="MiB", who=_SIDECAR),
    Goal("from the command to the first answer", "rest", "start_ms", 250, unit="ms", who=_SIDECAR),
    Goal("CPU at rest", "rest", "idle_cpu_percent", 0.3, unit="% of a core", who=_SIDECAR),
    Goal("CPU per unary gRPC call", "grpc", "cpu_us", 1.5, "knative"),
)
NAMES: Final = {contestant.key: contestant.name for contestant in CONTESTANTS}


def median(found: Mapping[str, Found], load: str, key: str, metric: str) -> float | None:
    """Over the turns; None where there are none."""
    values = [run[metric] for run in _runs(found, load, key)]
    return statistics.median(values) if values else None


def ratios(found: Mapping[str, Found], load: str, metric: str, ours: str, theirs: str) -> list[float]:
    """Ours over theirs, turn by turn; turns in which they measured nothing are left out."""
    pairs = zip(_runs(found, load, ours), _runs(found, load, theirs), strict=False)
    return [one[metric] / other[metric] for one, other in pairs if other[metric] > 0]


def ratio(found: Mapping[str, Found], load: str, metric: str, ours: str, theirs: str) -> float | None:
    """The median of `ratios`; None where there are none."""
    each = ratios(found, load, metric, ours, theirs)
    return statistics.median(each) if each else None


def _runs(found: Mapping[str, Found], load: str, key: str) -> list[dict[str, float]]:
    return found[load].runs.get(key, []) if load in found else []


def goals(found: Mapping[str, Found]) -> list[Figure]:
    """Every goal of the loads that ran, for every zerogate that it is about."""
    wanted = [(goal, who) for goal in GOALS if goal.load in found for who in goal.who]
    return [_judged(found, goal, who) for goal, who in wanted]


def _judged(found: Mapping[str, Found], goal: Goal, who: str) -> Figure:
    unit = f"× {NAMES[goal.peer].split()[0]}" if goal.peer else goal.unit
    sign = "≤" if goal.kind == "at most" else "≥"
    own = median(found, goal.load, who, goal.metric)
    value = ratio(found, goal.load, goal.metric, who, goal.peer) if goal.peer else own
    row = next(row for row in ROWS if (row.load, row.metric) == (goal.load, goal.metric))
    name, target = f"{goal.name}, {who}", f"{sign} {goal.limit:g} {unit}"
    if value is None or own is None:
        why = _why(found[goal.load], who, goal.peer)
        return Figure(name=name, value="not available", goal=target, note=why)
    note = ""
    if goal.peer and (theirs := median(found, goal.load, goal.peer, goal.metric)) is not None:
        note = f"{_number(own, row)} beside {_number(theirs, row)} {row.unit}"
    is_met = value <= goal.limit if goal.kind == "at most" else value >= goal.limit
    return Figure(name=name, value=f"{value:.2f} {unit}", goal=target, is_met=is_met, note=note)


def _why(load: Found, *keys: str) -> str:
    return next(
        (f"{NAMES[key]}: {load.unavailable[key]}" for key in keys if key in load.unavailable), "nothing measured"
    )


def _number(value: float, row: Row) -> str:
    return f"{value:,.{row.digits}f}"


def table(found: Mapping[str, Found]) -> tuple[list[str], list[list[str]]]:
    """(columns, rows) of all contestants that have a figure in any load that ran."""
    keys = [key for key in NAMES if any(key in load.runs for load in found.values())]
    rows = []
    for row in ROWS:
        if row.load in found:
            cells = [median(found, row.load, key, row.metric) for key in keys]
            numbers = ["–" if cell is None else _number(cell, row) for cell in cells]
            rows.append([row.name, row.unit, *numbers])
    return ["figure", "unit", *(NAMES[key] for key in keys)], rows


def absences(found: Mapping[str, Found]) -> list[str]:
    """Who has no figure in which load, and why."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for load, each in found.items():
        for key, why in each.unavailable.items():
            by_reason.setdefault((key, why), []).append(load)
    return [f"{', '.join(loads)}: {NAMES[key]}: {why}" for (key, why), loads in by_reason.items()]


def as_json(found: Mapping[str, Found], about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, the single turns included."""
    return {
        **about,
        "goals": [msgspec.to_builtins(figure) for figure in goals(found)],
        "loads": {load: _load_json(found, load) for load in found},
    }


def _load_json(found: Mapping[str, Found], load: str) -> dict[str, Any]:
    medians = {
        key: {metric: median(found, load, key, metric) for metric in runs[0]} for key, runs in found[load].runs.items()
    }
    return {"medians": medians, "turns": found[load].runs, "unavailable": found[load].unavailable}


def markdown(found: Mapping[str, Found], about: str) -> str:
    """Two tables: goals, contestants; and who is absent."""
    judged = [[figure.name, figure.goal, _marked(figure), figure.note or ""] for figure in goals(found)]
    columns, rows = table(found)
    parts = [about, _grid(["goal", "target", "measured", ""], judged), _grid(columns, rows)]
    absent = "\n".join(f"- {line}" for line in absences(found))
    return "\n\n".join([*parts, *([f"Not measured:\n\n{absent}"] if absent else [])]) + "\n"


def _marked(figure: Figure) -> str:
    return figure.value if figure.is_met is not False else f"{figure.value}, **missed**"


def _grid(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(columns), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
