"""The Kustomize example builds over what the chart renders, with kubectl's own Kustomize."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.chart import ROOT, one, render
from tests.kubernetes.harness import binaries

pytestmark = [pytest.mark.usefixtures("helm"), pytest.mark.kubernetes, pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_example_builds(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy" / "kustomize", tmp_path / "overlay", ignore=shutil.ignore_patterns("rendered.yaml"))
    (tmp_path / "overlay" / "rendered.yaml").write_text(render())
    kubectl = binaries.ensure(["kubectl"])["kubectl"]
    done = subprocess.run(
        [kubectl, "kustomize", tmp_path / "overlay"], capture_output=True, text=True, env={"HOME": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    built = [each for each in yaml.safe_load_all(done.stdout) if each]
    gateway = one(built, "Deployment", "zerogate-gateway")
    assert gateway["spec"]["replicas"] == 3
    assert gateway["spec"]["template"]["spec"]["containers"][0]["image"] == "zerogate:0.1.0"
    assert {each["metadata"]["namespace"] for each in built if each["kind"] in ("Role", "Service", "Deployment")} == {
        "zerogate-system"
    }
    rendered = [each for each in yaml.safe_load_all(render()) if each]
    assert len(built) == len(rendered) + 1
