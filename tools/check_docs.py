"""Checks that what the documents point at exists: relative links, and paths of the repository in code spans.

Called by `make check`; prints one line per dead reference and exits with 1 when there is any.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"`([^`\s]+)`")
REPOSITORY_PATH = re.compile(
    r"(?:zerogate|gateway|activator|queueproxy|autoscaler|cli|deploy|tests|bench|docs|tools|locks|\.ci)/[\w./*-]*"
)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


class Dead(NamedTuple):
    line: int
    target: str


def dead_references(text: str, folder: Path, root: Path) -> list[Dead]:
    """References of one document in `folder` that lead nowhere."""
    prose = FENCE.sub(lambda block: "\n" * block.group().count("\n"), text)
    return [
        Dead(number, target)
        for number, line in enumerate(prose.splitlines(), 1)
        for target, path in _targets(line, folder, root)
        if not _exists(path)
    ]


def _targets(line: str, folder: Path, root: Path) -> Iterator[tuple[str, Path]]:
    for target in LINK.findall(line):
        if not re.match(r"[a-z]+:|#", target):
            yield target, folder / target.split("#")[0]
    for span in CODE_SPAN.findall(line):
        if REPOSITORY_PATH.fullmatch(span):
            yield span, root / span


def _exists(path: Path) -> bool:
    if "*" in path.name:
        return any(path.parent.glob(path.name))
    return path.exists()


def documents(root: Path) -> list[Path]:
    """The documents of the repository: those at its root, and all under docs/ and deploy/."""
    found = [*root.glob("*.md")]
    for folder in ("docs", "deploy", "bench"):
        found += (root / folder).rglob("*.md")
    return sorted(found)


def main() -> int:
    count = 0
    for file in documents(ROOT):
        for dead in dead_references(file.read_text(), file.parent, ROOT):
            print(f"{file.relative_to(ROOT)}:{dead.line}: leads nowhere: {dead.target}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
