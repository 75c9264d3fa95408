"""The gateway as a process, before it is one: what it refuses."""

import pytest

from gateway.running import run


def test_for_a_cluster_it_does_not_wait_for_ever_where_it_is_in_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--cluster"], {}) == 2
    said = capsys.readouterr().err
    assert said == (
        "gateway: --cluster: this process does not run in a pod, since KUBERNETES_SERVICE_HOST is not set. "
        "Give --kubeconfig PATH.\n"
    )
