"""Writes the files that are made from tables: the JSON Schema of the box file and the page of policy keys.

Run it from anywhere after a key was changed: `python tools/generate.py`. Tests compare the files with the tables.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cli.policy_page import policy_page  # noqa: E402 - the root has to be on the path first
from cli.schema import schema_text  # noqa: E402


def main() -> None:
    for name, text in (("cli/zerogate.schema.json", schema_text()), ("docs/policy.md", policy_page())):
        (ROOT / name).write_text(text, encoding="utf-8")
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
