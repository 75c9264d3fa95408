"""Writes the documents that are generated from code, so that neither can drift from the other.

`python -m tools.write_docs` writes them, `--check` only says which ones are out of date (and exits with 1). A new one
is a line in `GENERATED`.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cli.policy_page import policy_page
from cli.schema import schema_text
from tools.autoscaler_page import autoscaler_page
from tools.chart_schema import schema_text as chart_schema_text
from tools.cli_page import cli_page
from tools.rights_page import rights_page
from zerogate.admin.openapi import document_text

ROOT = Path(__file__).resolve().parent.parent

GENERATED: Final[dict[str, Callable[[], str]]] = {
    "cli/zerogate.schema.json": schema_text,
    "deploy/chart/values.schema.json": chart_schema_text,
    "docs/autoscaler.md": autoscaler_page,
    "docs/cli.md": cli_page,
    "docs/openapi.json": document_text,
    "docs/policy.md": policy_page,
    "docs/rights.md": rights_page,
}
"""Path below the root → what it has to contain."""


def main(arguments: list[str]) -> int:
    stale = [
        path
        for path, render in GENERATED.items()
        if not (ROOT / path).exists() or (ROOT / path).read_text() != render()
    ]
    if arguments == ["--check"]:
        for path in stale:
            print(f"{path}: out of date; run `make docs`")
        return 1 if stale else 0
    for path in stale:
        (ROOT / path).write_text(GENERATED[path]())
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
