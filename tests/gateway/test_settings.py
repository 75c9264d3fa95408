"""Flags and variables of the gateway."""

import re
from pathlib import Path

import pytest

from gateway.settings import OPTIONS, Settings, read
from zerogate.errors import DefinitionErrors
from zerogate.http.certificates import ClientCertificates
from zerogate.runtime.interface import Address

DOCUMENT = Path(__file__).parents[2] / "docs" / "gateway.md"


def settings(*flags: str, **variables: str) -> Settings:
    return read(("gateway.json", *flags), variables)


def test_only_the_file_has_to_be_named() -> None:
    it = settings()
    assert (it.file, it.listen, it.admin) == ("gateway.json", Address("127.0.0.1", 8080), Address("127.0.0.1", 8081))
    assert (it.workers, it.listen_unix, it.drain_wait_s) == (1, None, 0.0)


def test_a_flag_wins_over_its_variable() -> None:
    assert settings("--workers", "2", ZEROGATE_WORKERS="3").workers == 2
    assert settings(ZEROGATE_WORKERS="auto").workers is None
    assert settings("--listen-unix", "unix:/run/zerogate.sock").listen_unix == Address("", 0, "/run/zerogate.sock")


@pytest.mark.parametrize(
    ("flags", "is_required"), [((), True), (("--client-certificates", "optional"), False)], ids=["default", "optional"]
)
def test_clients_need_a_certificate_where_there_is_an_authority_for_them_unless_it_is_optional(
    flags: tuple[str, ...], is_required: bool
) -> None:
    tls = ("--listen-tls", "127.0.0.1:8443", "--tls", "/tls")
    without = settings(*tls).tls
    assert without is not None
    assert without.clients is None
    found = settings(*tls, "--client-ca", "/ca.crt", *flags).tls
    assert found is not None
    assert found.clients == ClientCertificates("/ca.crt", is_required)


def test_variables_that_kubernetes_makes_of_our_own_services_are_left_alone() -> None:
    names = {option.variable for option in OPTIONS}
    for service in ("ZEROGATE", "ZEROGATE_GATEWAY", "ZEROGATE_WORKERS", "ZEROGATE_ADMIN"):
        assert not {f"{service}_SERVICE_HOST", f"{service}_SERVICE_PORT", f"{service}_PORT"} & names


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--workers", "0"), '--workers: "0" is not a whole number from 1 to 64. Or write auto.'),
        (("--workers", "65"), '--workers: "65" is not a whole number from 1 to 64'),
        (("--access-log", "loud"), '--access-log: "loud" is none of off, sampled, on'),
        (("--listen-unix", "/run/x"), '--listen-unix: "/run/x" is not a socket'),
        (("--admin", "8080"), "--admin: 127.0.0.1:8080 is where requests come in. Give another port."),
        (("--worker", "2"), '"--worker" is not a flag. Did you mean --workers?'),
        (("other.json",), '"other.json" is not a flag'),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_what_to_do(flags: tuple[str, ...], said: str) -> None:
    with pytest.raises(DefinitionErrors) as caught:
        settings(*flags)
    assert said in str(caught.value)


def test_a_file_or_a_cluster_is_needed_and_not_both() -> None:
    for words, said in (
        ((), "FILE is missing. Name a file of JSON, or write --cluster."),
        (("gateway.json", "--cluster"), '--cluster: "gateway.json" is given too.'),
        (("gateway.json", "--kubeconfig", "/x"), "--kubeconfig: is about --cluster, which is not given."),
    ):
        with pytest.raises(DefinitionErrors) as caught:
            read(words, {})
        assert said in str(caught.value)


def test_on_a_cluster_the_autoscalers_of_its_namespace_hear_it_unless_it_is_told_otherwise() -> None:
    pod = {"POD_NAMESPACE": "zg", "POD_NAME": "zerogate-gateway-0", "ZEROGATE_CLUSTER": "true"}
    it = read((), pod)
    assert (it.cluster, it.file, it.namespace, it.pod) == (True, None, "zg", "zerogate-gateway-0")
    assert it.stats == (Address("zerogate-autoscaler-stats.zg", 8090),)
    assert read(("--cluster",), {}).stats == (Address("zerogate-autoscaler-stats.zerogate-system", 8090),)
    assert read(("--cluster", "--stats", "none"), pod).stats == ()
    assert settings().stats == ()
    with pytest.raises(DefinitionErrors, match='ZEROGATE_CLUSTER: "yes" is neither true nor false'):
        read((), {"ZEROGATE_CLUSTER": "yes"})


def test_the_document_lists_every_flag_with_its_variable_and_default() -> None:
    rows = re.findall(r"^\| `--([a-z-]+)` \| `(\w+)` \| `(.+?)` \| (.+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert rows == [(option.name, option.variable, option.default, option.says) for option in OPTIONS]
