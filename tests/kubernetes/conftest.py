"""The clusters that the tests of this folder share.

| fixture | scope | what it is | ready after |
|---|---|---|---|
| `api_server` | session | etcd and the API server alone: nothing acts on what is written | 3 s |
| `own_api_server` | test | the same for one test, which may stop and freeze it | 3 s |
| `controllers` | session | with controller manager and scheduler, and no node | 3 s |
| `fake_nodes` | session | `controllers` with two nodes of kwok, for pods by the thousand | 1 s |
| `definitions_plane` | session | with controllers, and resources of other projects, which a test installs | 3 s |
| `node` | session | a whole node with containers, in namespaces of its own; needs root | 7 s |
| `impatient_node` | module | another one, for others that join it and are lost: that is noticed sooner | 7 s |
| `chart_api_server` | module | the API server alone, for a release of the chart and Helm | 3 s |
| `namespace`, `node_namespace` | module | a namespace of `api_server` or of `node`, by name | |

`api_server`, `controllers`, `fake_nodes` and `node.plane` are a `ControlPlane` (`harness/control_plane.py`), talked to
through its `cluster` (`harness/access.py`). Whoever stops a shared one starts it again.

Programs are built before the first test, so that no test's time limit runs meanwhile.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from tests.kubernetes.harness import binaries, definitions
from tests.kubernetes.harness import fake_nodes as fake
from tests.kubernetes.harness import node as nodes
from tests.kubernetes.harness.audit import Audited
from tests.kubernetes.harness.binaries import UnavailableError
from tests.kubernetes.harness.control_plane import API_ONLY, WITH_CONTROLLERS, ControlPlane, control_plane
from tests.kubernetes.harness.node import Node
from tests.kubernetes.harness.processes import say

HERE = Path(__file__).parent
IS_LONG = os.environ.get("ZEROGATE_LONG", "") not in ("", "0")
"""The long runs: `make soak-kubernetes`."""
CERT_MANAGER = ("cert-manager", "cainjector")
NEEDS: dict[str, Sequence[str]] = {
    "api_server": API_ONLY,
    "own_api_server": API_ONLY,
    "chart_api_server": [*API_ONLY, "helm"],
    "crowded_api_server": [*API_ONLY, fake.PROGRAM],
    "controllers": WITH_CONTROLLERS,
    "definitions_plane": WITH_CONTROLLERS,
    "fake_nodes": [*WITH_CONTROLLERS, fake.PROGRAM],
    "node": nodes.PROGRAMS,
    "impatient_node": nodes.PROGRAMS,
    "helm": ["helm"],
    "cert_manager": CERT_MANAGER,
}
"""The programs behind each fixture."""
collect_ignore = [] if IS_LONG else ["test_cert_manager.py"]
"""Its programs take a quarter of an hour to build, and a renewal a minute: not before each merge."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are `kubernetes` and `slow`."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("kubernetes")
            item.add_marker("slow")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what the chosen tests need, in view."""
    used = {name for item in session.items for name in getattr(item, "fixturenames", ()) if name in NEEDS}
    needed = [program for program in binaries.PROGRAMS if any(program in NEEDS[name] for name in used)]
    if not needed or session.config.option.collectonly or binaries.is_ready(needed):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        try:
            binaries.ensure(needed)
        except UnavailableError as reason:
            say(f"{reason}")  # the fixtures come to the same and skip or fail


@pytest.fixture(scope="session")
def api_server() -> Iterator[ControlPlane]:
    _require("api_server")
    with control_plane() as plane:
        yield plane


@pytest.fixture
def own_api_server() -> Iterator[ControlPlane]:
    _require("own_api_server")
    with control_plane() as plane:
        yield plane


@pytest.fixture(scope="module")
def chart_api_server() -> Iterator[ControlPlane]:
    """One of its own: a webhook without anybody behind it makes each pod of others three seconds late."""
    _require("chart_api_server")
    with control_plane() as plane:
        yield plane


@pytest.fixture
def crowded_api_server() -> Iterator[ControlPlane]:
    """One of its own, into whose store objects are put that no controller has made."""
    _require("crowded_api_server")
    with control_plane() as plane:
        yield plane


@pytest.fixture(scope="session")
def controllers() -> Iterator[ControlPlane]:
    _require("controllers")
    with control_plane(with_controllers=True) as plane:
        yield plane


@pytest.fixture(scope="session")
def definitions_plane() -> Iterator[ControlPlane]:
    """One of its own: whatever else runs on the shared one would find the definitions too."""
    _require("definitions_plane")
    try:
        for project in definitions.PROJECTS:
            definitions.ensure(project)
    except UnavailableError as reason:
        go_without(reason)
    with control_plane(with_controllers=True) as plane:
        yield plane


@pytest.fixture(scope="session")
def fake_nodes(controllers: ControlPlane) -> Iterator[ControlPlane]:
    _require("fake_nodes")
    with fake.fake_nodes(controllers, 2):
        yield controllers


@pytest.fixture(scope="session")
def helm() -> None:
    """The program is there."""
    _require("helm")


@pytest.fixture(scope="session")
def cert_manager() -> dict[str, Path]:
    """Its programs by name."""
    _require("cert_manager")
    return binaries.ensure(CERT_MANAGER)


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    _require("node")
    with nodes.node() as one:
        yield one


@pytest.fixture(scope="module")
def impatient_node() -> Iterator[Node]:
    """Its API server notes writes of numbers."""
    _require("impatient_node")
    with nodes.node([Audited("patch", "apps", "deployments/scale")], lost_after_s=16) as one:
        yield one


@pytest.fixture(scope="module")
def node_namespace(node: Node) -> Iterator[str]:
    with node.plane.namespace() as name:
        yield name


@pytest.fixture(scope="module")
def namespace(api_server: ControlPlane) -> Iterator[str]:
    with api_server.namespace() as name:
        yield name


def _require(fixture: str) -> None:
    try:
        if NEEDS[fixture] is nodes.PROGRAMS:
            nodes.require()
        binaries.ensure(NEEDS[fixture])
    except UnavailableError as reason:
        go_without(reason)


def go_without(reason: UnavailableError) -> NoReturn:
    """Skip; in CI fail where the machine could have been prepared for it."""
    if os.environ.get("CI") == "true" and reason.is_mendable:
        pytest.fail(str(reason), pytrace=False)
    pytest.skip(str(reason))
