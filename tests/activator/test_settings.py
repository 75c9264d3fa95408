"""Flags and variables of the activator."""

import re
from pathlib import Path

import pytest

from activator.settings import OPTIONS, Settings, read
from zerogate.errors import DefinitionErrors

DOCUMENT = Path(__file__).parents[2] / "docs" / "activator.md"


def settings(*flags: str, **variables: str) -> Settings:
    return read(flags, variables)


def test_nothing_has_to_be_given_in_a_pod() -> None:
    it = settings()
    assert (it.listen_host, it.kubeconfig, it.namespace) == ("0.0.0.0", "", "zerogate-system")


def test_its_own_namespace_is_the_pods() -> None:
    assert settings(POD_NAMESPACE="gpu", POD_NAME="zerogate-activator-7d9f-abcde").namespace == "gpu"


@pytest.mark.parametrize(("text", "host"), [("::", "::"), ("[::1]", "::1"), ("127.0.0.1", "127.0.0.1")])
def test_a_host_is_an_address_of_either_family(text: str, host: str) -> None:
    assert settings("--listen-host", text).listen_host == host


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(DefinitionErrors) as caught:
        settings("--listen-host", "all", "--access-log", "maybe")
    assert [error.key for error in caught.value.errors] == ["--listen-host", "--access-log"]


def test_variables_that_kubernetes_makes_of_our_own_services_are_left_alone() -> None:
    names = {option.variable for option in OPTIONS}
    made = {f"ZEROGATE_{one}_{word}" for one in ("ACTIVATOR", "GATEWAY") for word in ("PORT", "SERVICE_HOST")}
    assert not made & names


def test_the_document_has_every_setting() -> None:
    rows = re.findall(r"^\| `--([a-z-]+)` \| `([A-Z_]+)` \| `([^`]+)` \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert rows == [(one.name, one.variable, one.default, one.says) for one in OPTIONS]
