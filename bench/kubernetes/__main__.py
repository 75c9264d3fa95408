"""`make bench-kubernetes`: the figures of a cluster, as tables, and kept (`page.py`).

    python -m bench.kubernetes              everything
    python -m bench.kubernetes startup      only these

A part is a module here with `run() -> list[Figure]`. The clusters are those of the tests (`tests/kubernetes/harness`):
Linux and, for nodes, root are needed.
"""

import importlib
import os
import sys
import time

from bench.kubernetes.page import keep
from bench.table import show
from tests.kubernetes.harness.binaries import UnavailableError
from tests.kubernetes.harness.processes import ClusterError

PARTS = ("startup", "wake", "scale")


def main(arguments: list[str]) -> int:
    """The exit code: 2 for an unknown part, 1 where there can be no cluster, else 0."""
    parts = arguments or list(PARTS)
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        print(f"There is no benchmark {', '.join(unknown)}. There are: {', '.join(PARTS)}.", file=sys.stderr)
        return 2
    for number, part in enumerate(parts, 1):
        print(f"[{number}/{len(parts)}] {part} …", flush=True)
        began_s, load = time.monotonic(), os.getloadavg()[0]
        try:
            found = importlib.import_module(f"bench.kubernetes.{part}").run()
        except (UnavailableError, ClusterError) as reason:
            print(reason, file=sys.stderr)
            return 1
        show(f"{part} ({time.monotonic() - began_s:.0f} s)", found)
        keep(part, found, load)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
