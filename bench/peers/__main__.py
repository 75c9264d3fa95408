"""`make bench-proxy`: zerogate beside Knative's queue-proxy, nginx, HAProxy and a plain aiohttp proxy.

    python -m bench.peers                            every load on every contestant, about thirteen minutes
    python -m bench.peers small sse                  only these loads
    python -m bench.peers --only sidecar,nginx       only these contestants
    python -m bench.peers --quick                    one short turn of each: a rough look
    python -m bench.peers --list                     the names

A whole run writes `bench/results/proxy.json`, the tables of `docs/benchmarks.md` and the chart beside them.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from bench.peers import backends, report
from bench.peers.chart import chart
from bench.peers.contestants import CONTESTANTS, version_of
from bench.peers.loads import GROUPS, LOADS, Load, selected
from bench.peers.world import FULL, QUICK, Found, World, chosen, tell, world
from bench.table import machine, show

ROOT: Final = Path(__file__).resolve().parents[2]
RESULT: Final = ROOT / "bench" / "results" / "proxy.json"
PAGE: Final = ROOT / "docs" / "benchmarks.md"
CHART: Final = ROOT / "docs" / "images" / "proxies.svg"
PICTURE: Final = "![Bars: what a request, an event, a stream and a held request cost with each](images/proxies.svg)\n\n"
BEGIN: Final = "<!-- tables: written by make bench-proxy -->\n"
END: Final = "<!-- end of tables -->\n"


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="zerogate beside other proxies")
    parser.add_argument("loads", nargs="*", metavar="LOAD", help="all where none is named")
    parser.add_argument("--only", default="", metavar="A,B", help="these contestants")
    parser.add_argument("--quick", action="store_true", help="one short turn of each")
    parser.add_argument("--list", action="store_true", help="the names of loads and contestants")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """The exit code: 2 for an unknown name or where what everything needs is missing, else 0."""
    arguments = _arguments(words)
    if arguments.list:
        _list()
        return 0
    try:
        contestants = chosen([key for key in arguments.only.split(",") if key])
        loads = selected(arguments.loads)
    except KeyError as error:
        print(f"There is no {', '.join(map(str, error.args))}. `--list` tells the names.", file=sys.stderr)
        return 2
    missing = [tool for tool in backends.NEEDED if shutil.which(tool) is None]
    if missing:
        packages = " ".join(backends.NEEDED[tool] for tool in missing)
        print(
            f"Missing: {', '.join(missing)}. On Debian: apt install {packages} haproxy nghttp2-client", file=sys.stderr
        )
        return 2
    began_s = time.monotonic()
    with world(QUICK if arguments.quick else FULL, contestants) as here:
        found = _measure(here, loads)
    about = _about(here, time.monotonic() - began_s)
    _show(found)
    if not (arguments.loads or arguments.only or arguments.quick):
        _write(found, about)
    return 0


def _list() -> None:
    for load in LOADS:
        print(f"{' '.join(load.keys):60} {load.says}")
    for name, keys in GROUPS.items():
        print(f"{name:60} stands for {', '.join(keys)}")
    for contestant in CONTESTANTS:
        print(f"--only {contestant.key:53} {contestant.name} {version_of(contestant.key)}")


def _measure(here: World, loads: Sequence[tuple[Load, tuple[str, ...]]]) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for number, (load, keys) in enumerate(loads, 1):
        tell(f"[{number}/{len(loads)}] {' '.join(keys)}: {load.says}")
        found.update(load.measure(here, keys))
    return found


def _about(here: World, took_s: float) -> dict[str, Any]:
    return {
        "machine": machine(),
        "cores": str(here.cores),
        "load_average_after": list(os.getloadavg()),
        "took_s": round(took_s),
        "extent": msgspec.to_builtins(here.extent),
        "versions": {contestant.key: version_of(contestant.key) for contestant in CONTESTANTS},
    }


def _show(found: dict[str, Found]) -> None:
    columns, rows = report.table(found)
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        shown.add_column(column, justify="left" if column in ("figure", "unit") else "right", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    Console(soft_wrap=False).print(shown)
    show("goals", report.goals(found))
    for line in report.absences(found):
        print(f"not measured: {line}")


def _write(found: dict[str, Found], about: dict[str, Any]) -> None:
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report.as_json(found, about), indent=1, ensure_ascii=False) + "\n")
    CHART.write_text(chart(found))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    machine_ = about["machine"]
    versions = ", ".join(f"{report.NAMES[key]} {said}" for key, said in about["versions"].items() if said)
    words = (
        f"Measured on {machine_['cores']} cores ({machine_['cpu']}, Python {machine_['python']}), {about['cores']}. "
        f"{versions}. Medians of {about['extent']['turns']} turns."
    )
    PAGE.write_text(before + BEGIN + PICTURE + report.markdown(found, words) + END + after)
    tell(f"written: {', '.join(str(path.relative_to(ROOT)) for path in (RESULT, PAGE, CHART))}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
