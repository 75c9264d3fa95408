"""The ways into a cluster."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.certificates import Authority
from zerogate.errors import MachineError
from zerogate.kube.access import TOKEN_AGE_S, TokenFile, by_kubeconfig, in_pod, way_in

IN_POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Authority("kubernetes").write(tmp_path / "ca.crt")
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "namespace").write_text("zerogate-system")
    return tmp_path


def test_a_pod_s_account_is_read_from_its_files(folder: Path) -> None:
    access = in_pod(IN_POD, folder)
    assert (access.server, access.namespace) == ("https://10.96.0.1:443", "zerogate-system")
    assert access.headers() == {"Authorization": "Bearer first"}
    assert in_pod({**IN_POD, "KUBERNETES_SERVICE_HOST": "fd00::1"}, folder).server == "https://[fd00::1]:443"


def test_a_token_that_was_replaced_is_used_within_a_minute(folder: Path) -> None:
    now = [0.0]
    token = TokenFile(folder / "token", clock=lambda: now[0])
    assert token() == "first"
    (folder / "token").write_text("second")
    now[0] = TOKEN_AGE_S - 1
    assert token() == "first"
    now[0] = TOKEN_AGE_S
    assert token() == "second"


async def test_a_token_that_was_refused_is_read_again_at_once(folder: Path) -> None:
    access = in_pod(IN_POD, folder)
    (folder / "token").write_text("second")
    await access.renew()
    assert access.headers() == {"Authorization": "Bearer second"}


def test_a_token_that_cannot_be_read_for_a_moment_stays_the_last_one(folder: Path) -> None:
    now = [0.0]
    token = TokenFile(folder / "token", clock=lambda: now[0])
    token()
    (folder / "token").unlink()
    now[0] = 100.0
    assert token() == "first"


def test_outside_a_pod_it_says_what_to_do() -> None:
    with pytest.raises(MachineError, match="give --kubeconfig PATH"):
        in_pod({})


def test_a_pod_without_a_token_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="automountServiceAccountToken"):
        in_pod(IN_POD, tmp_path)


@pytest.mark.may_block("the first kubeconfig imports kubernetes_asyncio")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a kubeconfig"), ("- 1", "not a kubeconfig"), ("{", "it is not YAML"), ("\0", "it is not YAML"),
        ("clusters: 5", "not a kubeconfig"), ("a: b", "current-context"),
        ("current-context: a\ncontexts: 3\nclusters: []\nusers: []", "not a kubeconfig"),
        ("current-context: a\ncontexts: []\nclusters: []\nusers: []", "contexts"),
    ],
)  # fmt: skip
async def test_a_wrong_kubeconfig_is_said_without_a_traceback(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(MachineError, match=f"No way into a cluster by the kubeconfig .*{words}"):
        await by_kubeconfig(path)
    with pytest.raises(MachineError, match=r"No way into a cluster by .*absent: there is no such file"):
        await by_kubeconfig(tmp_path / "absent")


@pytest.mark.slow
def test_the_adapter_is_loaded_without_the_generated_models() -> None:
    code = (
        "import sys, zerogate.kube.watching, zerogate.kube.leases, zerogate.kube.scaling, zerogate.kube.happenings\n"
        "print(*[name for name in sys.modules if name.startswith('kubernetes_asyncio')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


async def test_the_way_in_is_the_kubeconfig_where_one_is_named_and_else_the_pods_account() -> None:
    with pytest.raises(MachineError, match="the kubeconfig /nowhere: there is no such file"):
        await way_in("/nowhere", IN_POD)
    with pytest.raises(MachineError, match="KUBERNETES_SERVICE_HOST is not set"):
        await way_in("", {})
