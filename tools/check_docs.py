"""Checks that what the documents point at exists: links and the headings they lead to, paths of the repository and
names of modules in code spans, and that the index of decisions names every page.

Called by `make check`; prints one line per dead reference and exits with 1 when there is any.
"""

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("zerogate", "gateway", "activator", "queueproxy", "autoscaler", "cli", "bench", "tools", "tests")

LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"`([^`\s]+)`")
REPOSITORY_PATH = re.compile(
    r"(?:zerogate|gateway|activator|queueproxy|autoscaler|cli|deploy|tests|bench|docs|tools|locks|\.ci)/[\w./*-]*"
)
MODULE = re.compile(r"(?:\w+/)*\w+\.py")
"""A module without the folder that the sentence around it names."""
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


class Dead(NamedTuple):
    line: int
    target: str


def dead_references(text: str, folder: Path, root: Path) -> list[Dead]:
    """References of one document in `folder` that lead nowhere."""
    return [
        Dead(number, target)
        for number, line in enumerate(_prose(text).splitlines(), 1)
        for target in _dead(line, text, folder, root)
    ]


def unlisted_pages(folder: Path) -> list[str]:
    """Pages beside the README.md of `folder` that it does not link to."""
    listed = {target.partition("#")[0] for target in LINK.findall((folder / "README.md").read_text())}
    return sorted(page.name for page in folder.glob("*.md") if page.name != "README.md" and page.name not in listed)


def anchors(text: str) -> set[str]:
    """What can stand behind `#` in a link to a document, as GitHub makes it of headings."""
    found: set[str] = set()
    for heading in HEADING.findall(_prose(text)):
        plain = LINK.sub("]", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.add(next(f"{name}{end}" for end in ("", *(f"-{n}" for n in range(1, 99))) if f"{name}{end}" not in found))
    return found


def _dead(line: str, text: str, folder: Path, root: Path) -> Iterator[str]:
    for target in LINK.findall(line):
        if not re.match(r"[a-z]+:", target) and not _leads_somewhere(target, text, folder):
            yield target
    for span in CODE_SPAN.findall(line):
        if REPOSITORY_PATH.fullmatch(span):
            if not _exists(root / span):
                yield span
        elif MODULE.fullmatch(span) and not _is_module(span, root):
            yield span


def _leads_somewhere(target: str, text: str, folder: Path) -> bool:
    path, _, anchor = target.partition("#")
    if path and not _exists(folder / path):
        return False
    if not anchor or (path and not path.endswith(".md")):
        return True
    return anchor in anchors((folder / path).read_text() if path else text)


def _exists(path: Path) -> bool:
    if "*" in path.name:
        return any(path.parent.glob(path.name))
    return path.exists()


def _is_module(span: str, root: Path) -> bool:
    return any(f"/{path}".endswith(f"/{span}") for path in _modules(root))


@cache
def _modules(root: Path) -> tuple[str, ...]:
    return tuple(str(path.relative_to(root)) for name in PACKAGES for path in (root / name).rglob("*.py"))


def _prose(text: str) -> str:
    """Without what stands in fences; lines keep their numbers."""
    return FENCE.sub(lambda block: "\n" * block.group().count("\n"), text)


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
    for page in unlisted_pages(ROOT / "docs" / "decisions"):
        print(f"docs/decisions/README.md: does not list {page}")
        count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
