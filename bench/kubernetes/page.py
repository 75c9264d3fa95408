"""What was measured on a cluster, kept: JSON for machines, a table in the documentation for people.

Each part is measured and replaced by itself, so every one says when, on what, and how busy the machine was.
"""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.table import Figure, machine

_ROOT: Final = Path(__file__).parents[2]
RESULTS: Final = _ROOT / "bench" / "results" / "kubernetes.json"
PAGE: Final = _ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- cluster: written by make bench-kubernetes -->", "<!-- end of cluster -->"


def keep(part: str, figures: Sequence[Figure], load: float, *, results: Path = RESULTS, page: Path = PAGE) -> None:
    """Replace what is known of this part. `load`: the machine's load average before it began."""
    known: dict[str, Any] = json.loads(results.read_text())
    known[part] = {
        "machine": machine(),
        "measured_on": datetime.now(UTC).date().isoformat(),
        "load_average": {"before": round(load, 1), "after": round(os.getloadavg()[0], 1)},
        "figures": [msgspec.to_builtins(figure) for figure in figures],
    }
    results.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{table(known)}{END}{rest.partition(END)[2]}")


def table(known: dict[str, Any]) -> str:
    """All parts, in Markdown."""
    said: list[str] = []
    for part, found in known.items():
        about, load = found["machine"], found["load_average"]
        said += [
            f"`{part}`, on {about['cores']} cores ({about['cpu']}, Python {about['python']}), {found['measured_on']}; "
            + (f"load average {load['before']} before and {load['after']} after." if load else "load not noted."),
            "",
            "| figure | measured | goal | |",
            "| --- | --- | --- | --- |",
        ]
        for figure in found["figures"]:
            missed = ", **missed**" if figure["is_met"] is False else ""
            said.append(f"| {figure['name']} | {figure['value']}{missed} | {figure['goal']} | {figure['note']} |")
        said.append("")
    return "\n".join(said) + "\n" if said else ""
