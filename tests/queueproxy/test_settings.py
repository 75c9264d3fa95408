"""Flags and variables: defaults, precedence, and what is said about wrong ones."""

import re
from pathlib import Path

import pytest

from activator import settings as activator
from autoscaler import settings as autoscaler
from gateway import settings as gateway
from queueproxy.settings import OPTIONS, Settings, parser, read
from zerogate.errors import DefinitionErrors
from zerogate.kube.sidecar import SidecarTerms
from zerogate.policy import Policy
from zerogate.quantities import parse_size
from zerogate.runtime.interface import Address

DOCUMENT = Path(__file__).parents[2] / "docs" / "queueproxy.md"


def settings(*flags: str, **variables: str) -> Settings:
    return read(("--upstream", "8000", *flags), variables)


def test_only_the_model_server_has_to_be_named() -> None:
    it = settings()
    assert (it.upstream, it.listen, it.admin) == (
        Address("127.0.0.1", 8000),
        Address("127.0.0.1", 8012),
        Address("127.0.0.1", 8013),
    )


def test_timers_are_those_of_a_policy_that_says_nothing() -> None:
    it, policy = settings(), Policy()
    for name in ("hold", "connect", "first_byte", "idle_stream", "total"):
        assert getattr(it, f"{name}_timeout_s") == getattr(policy, f"{name}_timeout_s"), name
    assert it.concurrency_limit == policy.concurrency_limit
    assert it.probe_path == policy.ready_path


def test_the_memory_for_buffers_and_connections_fits_into_what_an_injected_container_may_use() -> None:
    assert 2 * settings().body_memory_bytes <= parse_size(SidecarTerms(image="zerogate").memory_limit)
    assert settings().max_connections == 768
    assert settings("--max-connections", "0").max_connections == 0
    assert settings(ZEROGATE_MAX_CONNECTIONS="5").max_connections == 5
    assert settings("--body-memory", "1Mi").body_memory_bytes == 1 << 20
    with pytest.raises(DefinitionErrors, match='--body-memory: "1023Ki" is less than 1Mi'):
        settings("--body-memory", "1023Ki")


def test_a_flag_wins_over_its_variable_and_an_empty_variable_is_none() -> None:
    assert settings("--concurrency-limit", "2", ZEROGATE_CONCURRENCY_LIMIT="3").concurrency_limit == 2
    assert settings(ZEROGATE_CONCURRENCY_LIMIT="3").concurrency_limit == 3
    assert settings(ZEROGATE_CONCURRENCY_LIMIT="").concurrency_limit == 0


def test_variables_that_kubernetes_makes_of_our_own_services_are_left_alone() -> None:
    names = {option.variable for option in OPTIONS}
    for service in ("ZEROGATE", "ZEROGATE_GATEWAY", "ZEROGATE_ACTIVATOR", "ZEROGATE_AUTOSCALER", "ZEROGATE_ADMIN"):
        made = {f"{service}_SERVICE_HOST", f"{service}_SERVICE_PORT", f"{service}_PORT", f"{service}_PORT_80_TCP"}
        assert not made & names
        assert settings(**dict.fromkeys(made, "tcp://10.0.0.1:80")) == settings()


@pytest.mark.parametrize(("depth", "limit"), [("auto", 40), ("0", 0), ("7", 7)])
def test_the_queue_is_ten_deep_per_slot_unless_said(depth: str, limit: int) -> None:
    assert settings("--concurrency-limit", "4", "--queue-depth", depth).queue_limit == limit


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8000", Address("127.0.0.1", 8000)),
        ("localhost:8000", Address("127.0.0.1", 8000)),
        ("10.1.2.3:8000", Address("10.1.2.3", 8000)),
        ("[::1]:8000", Address("::1", 8000)),
        ("unix:/run/model.sock", Address("", 0, "/run/model.sock")),
    ],
)
def test_addresses_as_people_write_them(text: str, address: Address) -> None:
    assert settings("--upstream", text).upstream == address


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--upstream: is missing. Give --upstream ADDRESS, or set ZEROGATE_UPSTREAM."),
        (("--upstream", "0"), '--upstream: "0" is not a port from 1 to 65535'),
        (("--upstream", "model:8000"), '--upstream: "model:8000" is not a port'),
        (("--upstream", "unix:model.sock"), '--upstream: "unix:model.sock" is not a socket'),
        (("--upstream", "999.0.0.1:80"), "is not a port from 1 to 65535, alone or behind an IP address"),
        (("--upstream", "8000", "--listen", "65536"), "--listen: "),
        (("--upstream", "8000", "--queue-depth", "-3"), '"-3" is not a whole number from 0'),
        (("--upstream", "8000", "--hold-timeout", "30"), '"30" has no unit. Write 30s'),
        (("--upstream", "8000", "--hold-timeout", "0s"), '"0s" is not a time from 1s to 7d'),
        (("--upstream", "8000", "--total-timeout", "never"), '"never" is not a duration'),
        (("--upstream", "8000", "--queue-bytes", "64"), '"64" has no unit'),
        (("--upstream", "8000", "--probe-path", "health"), '"health" is not a path'),
        (("--upstream", "8000", "--probe-path", "/a b\r\nX: y"), "is not a path"),
        (("--upstream", "8000", "--service", 'a"b'), "is not a name"),
        (("--upstream", "8000", "--quue-depth", "3"), '"--quue-depth" is not a flag. Did you mean --queue-depth?'),
        (("--upstream", "8000", "surplus"), '"surplus" is not a flag'),
        (("--upstream", "8000", "--stats", "autoscaler"), '"autoscaler" is not a name or an address with a port'),
        (("--upstream", "8000", "--stats-token-file", "token"), '"token" is not an absolute path'),
        (("--upstream",), "expected one argument"),
        (("--upstream", "8012"), "--listen: 127.0.0.1:8012 is the model server's own address. Give another port."),
        (
            ("--upstream", "8000", "--listen", "0.0.0.0:8000"),
            "--listen: 0.0.0.0:8000 is the model server's own address",
        ),
        (("--upstream", "8000", "--admin", "0.0.0.0:8012"), "--admin: 0.0.0.0:8012 is where requests come in"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_what_to_do(flags: tuple[str, ...], said: str) -> None:
    with pytest.raises(DefinitionErrors) as caught:
        read(flags, {})
    assert len(caught.value.errors) == 1
    assert said in str(caught.value)


def test_a_variable_that_is_all_but_one_of_ours_is_refused_and_no_limit_is_lost_by_it() -> None:
    with pytest.raises(DefinitionErrors) as caught:
        read(("--upstream", "8000"), {"ZEROGATE_CONCURENCY_LIMIT": "4", "CONCURENCY_LIMIT": "4"})
    assert str(caught.value) == (
        "ZEROGATE_CONCURENCY_LIMIT: is not a variable that is read. Did you mean ZEROGATE_CONCURRENCY_LIMIT?"
    )


def test_the_variables_of_the_other_processes_are_left_alone() -> None:
    others = {one.variable: "x" for program in (activator, autoscaler, gateway) for one in program.OPTIONS}
    for ours in OPTIONS:
        others.pop(ours.variable, None)
    assert others
    assert settings(**others) == settings()


def test_the_same_port_on_another_machine_is_no_conflict() -> None:
    assert settings("--upstream", "10.0.0.5:8000", "--listen", "0.0.0.0:8000").listen.port == 8000


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(DefinitionErrors) as caught:
        read(("--nonsense", "--listen", "x"), {"ZEROGATE_QUEUE_BYTES": "big"})
    assert [error.key for error in caught.value.errors] == ["", "--upstream", "--listen", "ZEROGATE_QUEUE_BYTES"]


def test_help_names_every_flag_with_its_variable_and_default() -> None:
    text = re.sub(r"\s+", " ", parser().format_help())
    for option in OPTIONS:
        assert f"--{option.name} {option.metavar}" in text
        assert f"[{option.variable}]" in text
        assert option.is_required or f"(default {option.default})" in text


def test_the_document_lists_every_flag_with_its_variable_and_default() -> None:
    rows = re.findall(r"^\| `--([a-z-]+)` \| `(\w+)` \| (?:`(.+?)`|required) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert rows == [(option.name, option.variable, option.default or "") for option in OPTIONS]
