"""The image as deploy/Dockerfile builds it, and a release of the chart with that very image on a node."""

import json
from collections.abc import Iterator

import pytest

from tests.kubernetes.conftest import go_without
from tests.kubernetes.harness import built_image, images
from tests.kubernetes.harness.binaries import UnavailableError
from tests.kubernetes.harness.built_image import BuiltImage
from tests.kubernetes.harness.node import Node
from tests.kubernetes.release import installed
from tests.kubernetes.whole import ALL, Model, Whole, watched

pytestmark = pytest.mark.timeout(900)

NAME = "tests.zerogate.dev/built"
PROCESSES = ("autoscaler.running", "activator.running", "gateway.cluster", "gateway.worker", "queueproxy.running")


@pytest.fixture(scope="module")
def image() -> Iterator[BuiltImage]:
    try:
        with built_image.built() as one:
            yield one
    except UnavailableError as reason:
        go_without(reason)


def test_it_is_run_by_nobody_and_says_how_it_is_used(image: BuiltImage) -> None:
    about = image.about()
    assert about["User"] == "65532:65532"
    assert about["Cmd"] == ["zerogate", "--help"]
    assert "Usage: zerogate" in image.inside("import subprocess; subprocess.run(['zerogate', '--help'], check=True)")


def test_all_that_a_process_loads_is_compiled_whatever_becomes_of_the_times_of_files(image: BuiltImage) -> None:
    """A sidecar without that starts half a second later, and each time: nothing can be written."""
    code = f"""
import importlib, json, pathlib, sys
for name in {PROCESSES}:
    importlib.import_module(name)
found = {{name: module.__spec__ for name, module in sys.modules.items() if getattr(module, "__spec__", None)}}
sources = {{name: spec.cached for name, spec in found.items() if str(spec.origin).endswith(".py")}}
def is_good(path):
    return path.exists() and path.read_bytes()[4:8] == bytes([1, 0, 0, 0])
print(json.dumps([len(sources), [name for name, path in sources.items() if not is_good(pathlib.Path(path))]]))
"""
    count, uncompiled = json.loads(image.inside(code))
    assert count > 500
    assert not uncompiled


def test_it_has_what_the_lock_names_and_no_installer(image: BuiltImage) -> None:
    code = "import importlib.metadata as m, json; print(json.dumps([d.metadata['Name'] for d in m.distributions()]))"
    names = {name.lower().replace("_", "-") for name in json.loads(image.inside(code))}
    locked = {
        line.split("==")[0] for line in (images.ROOT / "locks" / "image.lock").read_text().splitlines() if "==" in line
    }
    assert names <= locked | {"zerogate"}
    assert {"zerogate", "kubernetes-asyncio", "uvloop"} <= names


def test_nobody_can_change_what_it_runs(image: BuiltImage) -> None:
    code = """
import os
for path, folders, files in os.walk("/opt/zerogate"):
    for name in (".", *files):
        about = os.lstat(os.path.join(path, name))
        if about.st_uid or about.st_mode & 0o6022 and not about.st_mode & 0o120000 == 0o120000:
            print(os.path.join(path, name))
"""
    assert not image.inside(code)
    assert "/tmp" not in json.loads(image.inside("import json, sys; print(json.dumps(sys.path))"))


def test_a_release_of_it_serves_a_cold_request_and_gives_the_workload_back(
    image: BuiltImage, node: Node, helm: None
) -> None:
    archive = node.folder / "built.tar"
    image.save(archive, f"{NAME}:tests")
    node.add_archive(archive)
    archive.unlink()
    values = {
        **ALL,
        "activator": {"enabled": True},
        "image": {"repository": NAME, "tag": "tests", "pullPolicy": "Never"},
    }
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    with installed(node, values), watched(node) as numbers, node.plane.namespace("team", restricted) as team:
        whole = Whole(node, numbers)
        model = Model(whole, team, "llama", replicas=1)
        model.until_ready(1)
        model.annotate(enabled="true", idle_timeout="2s")
        model.cluster.kubectl("rollout", "restart", "-n", team, "deployment/llama")
        model.until_gone()
        assert model.call().status == 200
        (pod,) = model.pods()
        assert [one["image"] for one in pod["spec"]["initContainers"]] == [f"{NAME}:tests"]
        model.until_gone()
        model.annotate(enabled=None)
        model.until_ready(1)
        assert not [key for key in model.found()["metadata"]["annotations"] if key.startswith("state.zerogate.dev/")]
