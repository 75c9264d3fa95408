"""What a developer's environment has and a smaller one need not: without it tests are skipped, in CI they fail.

Programs of the machine (nginx, curl, Chromium, what a cluster needs) are another matter: where nobody can install them,
tests say so and are skipped in CI too.
"""

import importlib
import os
from typing import Any, NoReturn

import pytest


def extra(module: str) -> Any:
    """A module that one of our extras brings."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        go_without(f"{module} is not here: `make environment-dev` brings it ({error})")


def go_without(why: str) -> NoReturn:
    """Skip, also a whole module that is being collected; in CI fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(why, pytrace=False)
    pytest.skip(why, allow_module_level=True)
