"""The chart with a real cert-manager: whose certificate the webhook serves, who says whom to trust, and a renewal.

Its controller and its injector run beside the control plane, without a webhook of their own: definitions that are not
converted need none.
"""

import base64
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509

from tests.deploy.chart import CERT_MANAGER, SYSTEM
from tests.kubernetes.harness import definitions
from tests.kubernetes.harness.node import Node
from tests.kubernetes.harness.processes import until
from tests.kubernetes.release import installed, is_asked

pytestmark = [
    pytest.mark.may_block("the client of the tests waits"),
    pytest.mark.timeout(900),
]
CERTIFICATE: Final = f"/apis/cert-manager.io/v1/namespaces/{SYSTEM}/certificates/zerogate-autoscaler"
SECRET: Final = f"/api/v1/namespaces/{SYSTEM}/secrets/zerogate-certificate"
HOOKS: Final = "/apis/admissionregistration.k8s.io/v1"


@contextmanager
def run(node: Node, programs: Mapping[str, Path]) -> Iterator[None]:
    """It runs, and keeps the certificates of the whole cluster; its definitions are gone at the end."""
    definitions.install(node.cluster, ["cert-manager"])
    kubeconfig = node.plane.access("cert-manager", groups=["system:masters"]).kubeconfig
    processes = [
        node.process(name, [program, f"--kubeconfig={kubeconfig}", "--leader-elect=false"])
        for name, program in programs.items()
    ]  # fmt: skip
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            print(process.end_of_log(40))  # noqa: T201 - shown where a test fails
            process.stop()
        definitions.remove(node.cluster, "cert-manager")


@pytest.fixture(scope="module")
def released(node: Node, cert_manager: Mapping[str, Path]) -> Iterator[Node]:
    with run(node, cert_manager), installed(node, CERT_MANAGER):
        yield node


def secret(node: Node) -> Mapping[str, bytes]:
    return {name: base64.b64decode(text) for name, text in node.cluster.get(SECRET)["data"].items()}


def served(node: Node) -> x509.Certificate:
    """What the webhook's Service shows to who connects."""
    address = node.cluster.get(f"/api/v1/namespaces/{SYSTEM}/services/zerogate-autoscaler")["spec"]["clusterIP"]
    shown = ssl.get_server_certificate(("127.0.0.1", node.reach(443, address)))
    return x509.load_pem_x509_certificate(shown.encode())


def bundles(node: Node) -> set[str]:
    kinds = ("mutating", "validating")
    hooks = [
        one for kind in kinds for one in node.cluster.get(f"{HOOKS}/{kind}webhookconfigurations/zerogate")["webhooks"]
    ]
    return {one["clientConfig"]["caBundle"] for one in hooks}


def test_the_webhook_serves_its_certificate_and_api_servers_trust_whom_it_says(released: Node) -> None:
    found = secret(released)
    (leaf,) = x509.load_pem_x509_certificates(found["tls.crt"])
    assert served(released) == leaf
    assert bundles(released) == {base64.b64encode(found["ca.crt"]).decode()}
    issued = released.cluster.get(CERTIFICATE)
    assert issued["status"]["revision"] == 1
    own = released.cluster.get(f"/api/v1/namespaces/{SYSTEM}/secrets/zerogate-webhook")["data"]
    assert "tls.key" not in own


def test_a_renewed_certificate_is_served_and_no_question_goes_unanswered_meanwhile(released: Node) -> None:
    """The kubelet brings it to the pods within a minute or so, and each autoscaler looks once a minute."""
    before = secret(released)["tls.crt"]
    _renew(released)
    until(lambda: secret(released)["tls.crt"] != before, within_s=30, what="another certificate")
    (renewed,) = x509.load_pem_x509_certificates(secret(released)["tls.crt"])
    in_a_row, until_s = 0, time.monotonic() + 300
    while in_a_row < 20:  # both autoscalers are behind the Service
        assert is_asked(released.cluster)
        in_a_row = in_a_row + 1 if served(released) == renewed else 0
        assert time.monotonic() < until_s
        time.sleep(0.2)
    assert bundles(released) == {base64.b64encode(secret(released)["ca.crt"]).decode()}


def _renew(node: Node) -> None:
    """What `cmctl renew` writes."""
    conditions = node.cluster.get(CERTIFICATE)["status"]["conditions"]
    issuing = {
        "type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "by a test",
        "lastTransitionTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }  # fmt: skip
    node.cluster.patch(f"{CERTIFICATE}/status", {"status": {"conditions": [*conditions, issuing]}})
