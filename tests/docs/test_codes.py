"""The table of error codes in docs/operations.md names every code of the source, and none that is not there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("zerogate", "gateway", "activator", "queueproxy", "autoscaler", "cli")
CODE = re.compile(r"[a-z]+(_[a-z]+)*")
MAKERS = {"Overdue": 0, "_cut": 0, "_time_out": 0, "_not_sent": 1}
"""Functions that make a refusal, and which of their arguments is the code."""


def codes_of(source: str) -> Iterator[str]:
    """Codes in one module: `code="…"`, `code = "…"`, `status, code = 404, "…"`, arguments of MAKERS, `_PROBLEMS`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args) if name in MAKERS and args:
                yield from _text(args[MAKERS[name]])
            case ast.keyword(arg="code", value=value):
                yield from _text(value)
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                for target, value in zip(names, values, strict=True):
                    if isinstance(target, ast.Name) and target.id == "code":
                        yield from _text(value)
            case ast.AnnAssign(target=ast.Name(id="_PROBLEMS"), value=ast.Dict(values=values)):
                for value in values:
                    if isinstance(value, ast.Tuple):
                        yield from _text(value.elts[0])


def _text(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
        yield node.value


def in_source() -> set[str]:
    return {
        code for package in PACKAGES for file in (ROOT / package).rglob("*.py") for code in codes_of(file.read_text())
    }


def in_document() -> set[str]:
    text = (ROOT / "docs" / "operations.md").read_text().partition("## What an error means")[2]
    return set(re.findall(r"^\| `([a-z_]+)` \| \d", text, re.MULTILINE))


def test_every_way_of_giving_a_code_is_found() -> None:
    source = """
Refusal(status=503, code="one")
status, code = 404, "two"
self._time_out("three", why, now_s)
_not_sent(429, "four", detail)
_PROBLEMS: Final = {Verdict.MISSING: ("five", "a sentence")}
return Overdue("six", why)
"""
    assert set(codes_of(source)) == {"one", "two", "three", "four", "five", "six"}


def test_the_table_names_the_codes_of_the_source_and_no_others() -> None:
    assert in_source() == in_document()
