"""`make bench`: all figures, one after the other, as tables; of a whole run also as JSON in `bench/results/`, and those
of users in the README.

    python -m bench                 everything
    python -m bench wake idle       only these
    python -m bench --soak          the long run instead (bench/soak.py)

The comparison with other proxies is a command of its own: `make bench-proxy` (bench/peers/).

A figure that misses its goal is shown as missed and does not fail the run: machines differ, regressions are looked for
by comparing ratios.
"""

import importlib
import sys
import time
from pathlib import Path

from bench.page import filled
from bench.table import Figure, machine, show, write

PARTS = (
    "wake",
    "idle",
    "held",
    "leaving",
    "overload",
    "websockets",
    "smooth",
    "sidecar",
    "statpath",
    "grants",
    "gateway",
    "http2",
    "warm",
)
RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"


def main(arguments: list[str]) -> int:
    """The exit code: 2 for an unknown part, else 0."""
    if "--soak" in arguments:
        rest = [argument for argument in arguments if argument != "--soak"]
        return int(importlib.import_module("bench.soak").main(rest))
    parts = arguments or list(PARTS)
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        print(f"There is no benchmark {', '.join(unknown)}. There are: {', '.join(PARTS)}.", file=sys.stderr)
        return 2
    found: dict[str, list[Figure]] = {}
    for number, part in enumerate(parts, 1):
        print(f"[{number}/{len(parts)}] {part} …", flush=True)
        began_s = time.monotonic()
        found[part] = importlib.import_module(f"bench.{part}").run()
        show(f"{part} ({time.monotonic() - began_s:.0f} s)", found[part])
    if not arguments:
        RESULTS.mkdir(exist_ok=True)
        write(RESULTS / "latest.json", [figure for part in parts for figure in found[part]])
        README.write_text(filled(README.read_text(), found, machine()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
