"""The purity check finds what a core must not do, and lets through what it may."""

import textwrap

import pytest

from tools.check_purity import findings


def _texts(body: str, docstring: str = "A core. Pure.") -> list[str]:
    return [finding.text for finding in findings(f'"""{docstring}"""\n' + textwrap.dedent(body))]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        pytest.param("async def f(): ...", "async def f", id="async def"),
        pytest.param("async def f():\n    await g()", "await", id="await"),
        pytest.param("import time", "import of time", id="clock"),
        pytest.param("import os.path", "import of os.path", id="environment"),
        pytest.param("from random import choice", "import of random", id="chance"),
        pytest.param("from concurrent.futures import Future", "import of concurrent.futures", id="threads"),
        pytest.param("from zerogate.clock import now", "import of zerogate.clock", id="our own clock"),
        pytest.param("from zerogate import clock", "import of zerogate.clock", id="our own clock, as a name"),
        pytest.param("def f():\n    import logging", "import of logging", id="inside a function"),
        pytest.param("x = datetime.now(tz)", "a clock is read: datetime.now()", id="datetime.now"),
        pytest.param("x = datetime.date.today()", "a clock is read: datetime.date.today()", id="date.today"),
        pytest.param("print(1)", "print()", id="print"),
        pytest.param("for x in {1, 2}: ...", "iteration over a set: {1, 2}", id="set literal"),
        pytest.param("for x in set(y): ...", "iteration over a set: set(y)", id="set call"),
        pytest.param("z = [x for x in {a for a in b}]", "iteration over a set: {a for a in b}", id="comprehension"),
        pytest.param("z = list(set(a) - b)", "iteration over a set: set(a) - b", id="list of a difference"),
        pytest.param("z = ','.join({a, b})", "iteration over a set: {a, b}", id="join"),
        pytest.param("z = [*{a, b}]", "iteration over a set: {a, b}", id="unpacked"),
        pytest.param("def f():\n    s = set()\n    return [x for x in s]", "iteration over a set: s", id="by name"),
        pytest.param("def f(s: set[int]):\n    for x in s: ...", "iteration over a set: s", id="argument"),
        pytest.param(
            "class A:\n    def __init__(self):\n        self.s: set[int] = set()\n    def f(self):\n"
            "        return self.s.pop()",
            "iteration over a set: self.s",
            id="attribute of the instance, popped",
        ),
    ],
)
def test_what_a_core_must_not_do_is_found(body: str, found: str) -> None:
    assert found in _texts(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("for x in sorted({1, 2}): ...", id="sorted"),
        pytest.param("z = sorted(x for x in set(y))", id="sorted generator"),
        pytest.param("z = len({1}) + max(set(y))", id="order does not matter"),
        pytest.param("z = x in {1, 2}", id="membership"),
        pytest.param("z = {x for x in y}", id="a set from a list"),
        pytest.param("def f():\n    s = set()\ndef g(s: list[int]):\n    for x in s: ...", id="same name elsewhere"),
        pytest.param("from datetime import datetime, timedelta\nx = datetime(2026, 1, 1)", id="dates as values"),
        pytest.param("def f(now_s: float) -> float: return now_s", id="now as an argument"),
    ],
)
def test_what_a_core_may_do_passes(body: str) -> None:
    assert _texts(body) == []


def test_a_module_that_does_not_call_itself_pure_may_do_anything() -> None:
    assert _texts("import time\nasync def f(): ...", docstring="A shell; its core is purely elsewhere.") == []


def test_findings_name_their_line() -> None:
    assert [finding.line for finding in findings('"""Pure."""\n\nimport time\n')] == [3]
