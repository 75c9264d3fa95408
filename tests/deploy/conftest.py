"""Helm is built from its source before the first test that needs it, which may take minutes."""

import os

import pytest

from tests.kubernetes.harness import binaries
from tests.kubernetes.harness.binaries import UnavailableError


@pytest.fixture(scope="session")
def helm() -> None:
    """Skips where there is none; in CI fails where there could be one."""
    try:
        binaries.ensure(["helm"])
    except UnavailableError as reason:
        if os.environ.get("CI") == "true" and reason.is_mendable:
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))
