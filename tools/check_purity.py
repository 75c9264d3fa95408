"""Checks that modules which call themselves pure are: the part of the contract that import-linter cannot see.

A module is pure when the word "Pure" stands in its docstring. It then awaits nothing, imports nothing that reads a
clock, chance, the environment or the outside, and never iterates over a set, whose order differs from run to run.
Called by `make check`; prints one line per finding and exits with 1 when there is any.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("zerogate", "gateway", "activator", "queueproxy", "autoscaler", "cli")

FORBIDDEN_IMPORTS = frozenset(
    (
        *("asyncio", "concurrent", "multiprocessing", "select", "signal", "subprocess", "threading", "uvloop"),
        *("aiohttp", "logging", "os", "socket", "tempfile"),
        *("random", "secrets", "time", "uuid", "zerogate.clock", "zerogate.tasks"),
    )
)
CLOCK_CALLS = frozenset({"now", "utcnow", "today"})
OUTSIDE_CALLS = frozenset({"open", "print", "input"})
ORDER_READERS = frozenset({"list", "tuple", "iter", "enumerate", "map", "filter", "zip", "next"})
ORDER_BLIND = frozenset({"sorted", "min", "max", "any", "all", "len", "set", "frozenset"})
"""Calls whose answer does not depend on the order of what they are given."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Finding(NamedTuple):
    line: int
    text: str


def is_pure(tree: ast.Module) -> bool:
    """Whether the module calls itself pure."""
    return bool(re.search(r"\bPure\b", ast.get_docstring(tree) or ""))


def findings(source: str) -> list[Finding]:
    """What is impure in the source of one module, by line; empty where it does not call itself pure."""
    tree = ast.parse(source)
    if not is_pure(tree):
        return []
    found = [*_waits(tree), *_imports(tree), *_calls(tree), *_set_iterations(tree)]
    return sorted(set(found))


def _waits(tree: ast.AST) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef):
            yield Finding(node.lineno, f"async def {node.name}")
        elif isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield Finding(node.lineno, "await")


def _imports(tree: ast.AST) -> Iterator[Finding]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                names = [alias.name for alias in aliases]
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                names = [module, *(f"{module}.{alias.name}" for alias in aliases)]
            case _:
                continue
        for name in names:
            if name in FORBIDDEN_IMPORTS or name.split(".")[0] in FORBIDDEN_IMPORTS:
                yield Finding(node.lineno, f"import of {name}")
                break


def _calls(tree: ast.AST) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Name(id=name) if name in OUTSIDE_CALLS:
                yield Finding(node.lineno, f"{name}()")
            case ast.Attribute(attr=attr, value=value) if attr in CLOCK_CALLS and _is_datetime(value):
                yield Finding(node.lineno, f"a clock is read: {ast.unparse(node.func)}()")


def _is_datetime(node: ast.expr) -> bool:
    return ast.unparse(node) in {"datetime", "date", "datetime.datetime", "datetime.date"}


def _set_iterations(tree: ast.Module) -> Iterator[Finding]:
    attributes = frozenset(_names_of_sets(tree, attributes_only=True))
    for scope in (node for node in ast.walk(tree) if isinstance(node, ast.Module | Function)):
        known = attributes | frozenset(_names_of_sets(scope))
        yield from (
            Finding(node.lineno, f"iteration over a set: {ast.unparse(node)}")
            for node in _ordered_readings(scope)
            if _is_set(node, known)
        )


def _inside(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope without those of the functions in it, which are scopes of their own."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, Function):
            yield from _inside(child)


def _names_of_sets(scope: ast.AST, *, attributes_only: bool = False) -> Iterator[str]:
    """Names (and, over a whole module, attributes such as `self.seen`) that are given a set or declared to be one."""
    nodes = ast.walk(scope) if attributes_only else _inside(scope)
    for node in nodes:
        target: ast.AST
        match node:
            case ast.Assign(targets=[target], value=value) if _is_set(value, frozenset()):
                pass
            case ast.AnnAssign(target=target, annotation=kind) if _is_set_type(kind):
                pass
            case ast.arg(arg=name, annotation=ast.expr() as kind) if _is_set_type(kind) and not attributes_only:
                yield name
                continue
            case _:
                continue
        if isinstance(target, ast.Attribute if attributes_only else ast.Name):
            yield ast.unparse(target)


def _is_set_type(annotation: ast.expr) -> bool:
    return bool(re.match(r"(frozen)?set\b|(Abstract|Mutable)?Set\b", ast.unparse(annotation)))


def _is_set(node: ast.AST, known: frozenset[str]) -> bool:
    match node:
        case ast.Set() | ast.SetComp() | ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor(), right=right):
            return _is_set(left, known) or _is_set(right, known)
        case ast.Name() | ast.Attribute():
            return ast.unparse(node) in known
    return False


def _ordered_readings(scope: ast.AST) -> Iterator[ast.expr]:
    """Every expression whose elements are taken in their order."""
    blind = {
        id(argument)
        for node in _inside(scope)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ORDER_BLIND
        for argument in node.args
    }
    for node in _inside(scope):
        match node:
            case ast.For(iter=taken):
                yield taken
            case ast.ListComp() | ast.GeneratorExp() | ast.DictComp() if id(node) not in blind:
                yield from (generator.iter for generator in node.generators)
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in ORDER_READERS and id(node) not in blind:
                yield from arguments
            case ast.Call(func=ast.Attribute(attr="join"), args=[taken]):
                yield taken
            case ast.Call(func=ast.Attribute(attr="pop", value=taken), args=[]):
                yield taken
            case ast.Starred(value=taken):
                yield taken


def main() -> int:
    count = 0
    for file in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for finding in findings(file.read_text()):
            print(f"{file.relative_to(ROOT)}:{finding.line}: not pure: {finding.text}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
