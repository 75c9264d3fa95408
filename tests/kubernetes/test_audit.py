"""What the API server says of its own times, read from its log; `bench/kubernetes` reads a real one."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tests.kubernetes.harness.audit import Audit, Audited
from tests.kubernetes.harness.processes import ClusterError

_LINE = (
    '{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"1","stage":"{stage}",'
    '"verb":"patch","objectRef":{{"resource":"deployments","namespace":"a","name":"{name}","subresource":"scale"}},'
    '"responseStatus":{{"metadata":{{}},"code":200}},"requestReceivedTimestamp":"2026-11-22T20:00:0{at}.250000Z",'
    '"stageTimestamp":"2026-11-22T20:00:0{at}.254500Z"}}\n'
)
_BEGAN_AT_S = datetime(2026, 11, 22, 20, tzinfo=UTC).timestamp()


def audit(folder: Path, *lines: str) -> Audit:
    (folder / "audit.log").write_text("".join(lines))
    return Audit(folder, [Audited("patch", "apps", "deployments/scale")])


def line(name: str, at: int, stage: str = "ResponseComplete") -> str:
    return _LINE.format(name=name, at=at, stage=stage)


def test_it_is_the_first_request_about_that_object_since_then(tmp_path: Path) -> None:
    it = audit(tmp_path, line("b", 0), line("b", 2), line("other", 3), line("b", 4), line("b", 6))
    found = it.first_since(_BEGAN_AT_S + 3, "a", "b")
    assert found.received_at_s == pytest.approx(_BEGAN_AT_S + 4.25, abs=1e-6)
    assert found.code == 200
    assert found.took_s == pytest.approx(0.0045, abs=1e-6)


@pytest.mark.parametrize(
    "said", [line("b", 4, "ResponseStarted"), line("b", 4)[:-20], ""], ids=["not answered", "half a line", "nothing"]
)
def test_what_is_not_there_yet_is_not_read(tmp_path: Path, said: str) -> None:
    with pytest.raises(ClusterError, match="a/b"):
        audit(tmp_path, said).first_since(_BEGAN_AT_S, "a", "b", within_s=0.05)


def test_the_server_is_told_to_note_these_requests_and_no_others(tmp_path: Path) -> None:
    flags = audit(tmp_path).flags()
    policy = yaml.safe_load((tmp_path / "audit.yaml").read_text())
    assert f"--audit-policy-file={tmp_path / 'audit.yaml'}" in flags
    assert policy["rules"][-1] == {"level": "None"}
    assert policy["rules"][0]["resources"] == [{"group": "apps", "resources": ["deployments/scale"]}]
