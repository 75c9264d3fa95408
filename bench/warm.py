"""CPU of a warm request through `zerogate up` beside nginx as a reverse proxy, in turns; needs nginx and wrk.

The same loads, contestants and cores as `make bench-proxy` (`bench/peers/`), which compares with more of them.
"""

import shutil
import statistics
from typing import Final

from bench.peers import backends, report
from bench.peers.loads import LOADS
from bench.peers.world import Extent, Found, chosen, world
from bench.table import Figure, at_most

EXTENT: Final = Extent(turns=7)
GOAL_RATIO: Final = 2.1
CASES: Final = {
    "small": "small GET, 2 fields",
    "chat": "chat POST, 18 fields",
    "model": "the same, routed by its model",
    "large": "GET of 10 MiB",
}
_METRICS: Final = ("cpu_us", "per_s")


def run() -> list[Figure]:
    """All figures of this file; where a tool is missing, what to install."""
    missing = [tool for tool in backends.NEEDED if shutil.which(tool) is None]
    if missing:
        packages = " ".join(backends.NEEDED[tool] for tool in missing)
        note = f"needs {' and '.join(missing)}: apt install {packages}"
        return [Figure(name="CPU of a warm request beside nginx", value="not measured", note=note)]
    load = next(load for load in LOADS if "small" in load.keys)
    with world(EXTENT, chosen(["gateway", "nginx"])) as here:
        found = load.measure(here, tuple(CASES))
    return [_figure(found, key) for key in CASES]


def _figure(found: dict[str, Found], key: str) -> Figure:
    name = f"CPU per warm request, {CASES[key]}"
    ratios = report.ratios(found, key, "cpu_us", "gateway", "nginx")
    if not ratios:
        return Figure(name=name, value="not measured", note="; ".join(found[key].unavailable.values()))
    ours, theirs = ({m: report.median(found, key, who, m) or 0.0 for m in _METRICS} for who in ("gateway", "nginx"))
    note = (
        f"{ours['cpu_us']:.1f} µs beside {theirs['cpu_us']:.1f}; {min(ratios):.2f} to {max(ratios):.2f}; "
        f"{ours['per_s']:,.0f} requests/s beside {theirs['per_s']:,.0f}"
    )
    ratio = statistics.median(ratios)
    if key == "small":
        return at_most(name, ratio, GOAL_RATIO, "× nginx", digits=2, note=note)
    return Figure(name=name, value=f"{ratio:.2f} × nginx", note=note)
