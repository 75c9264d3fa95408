"""Every test says what it expects: one that only runs something passes whatever that does."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent


def _expects(node: ast.AST) -> bool:
    """Whether something in it can fail by its own word; a helper of the name `refused` or `check…` is taken for one."""
    for part in ast.walk(node):
        if isinstance(part, ast.Assert):
            return True
        if isinstance(part, ast.Call):
            name = part.func.attr if isinstance(part.func, ast.Attribute) else getattr(part.func, "id", "")
            if name in ("raises", "warns", "fail") or name.startswith(("assert_", "check", "expect")):
                return True
    return False


def _mute(path: Path) -> list[str]:
    """Names of tests without an expectation, their own or that of a function beside them."""
    nodes = ast.walk(ast.parse(path.read_text()))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    telling = {function.name for function in functions if _expects(function)}
    mute = [function for function in functions if function.name.startswith("test") and function.name not in telling]
    return [
        function.name
        for function in mute
        if not any(
            isinstance(call, ast.Call) and getattr(call.func, "attr", getattr(call.func, "id", "")) in telling
            for call in ast.walk(function)
        )
    ]


def test_every_test_expects_something() -> None:
    found = {str(path.relative_to(TESTS)): names for path in sorted(TESTS.rglob("test_*.py")) if (names := _mute(path))}
    assert found == {}


def test_a_test_without_an_expectation_is_found(tmp_path: Path) -> None:
    path = tmp_path / "test_x.py"
    path.write_text("def told():\n    assert 1\ndef test_a():\n    run()\ndef test_b():\n    told()\n")
    assert _mute(path) == ["test_a"]
