"""The gateway's file: what it may say, and what is said about a wrong one."""

import json
from typing import Any

import pytest

from gateway.file import read_file
from gateway.router import ToService
from zerogate.errors import DefinitionErrors
from zerogate.runtime.interface import Address


def errors_of(value: Any) -> str:
    with pytest.raises(DefinitionErrors) as caught:
        read_file(value if isinstance(value, bytes) else json.dumps(value).encode(), "gateway.json")
    return str(caught.value)


def test_services_have_policies_routes_and_replicas() -> None:
    file = read_file(
        b"""{"services": {
            "chat": {"policy": {"concurrency-limit": 4, "hosts": ["chat.example.org"]}, "replicas": ["10.0.0.5:8012"]},
            "asr": {"path-prefix": "/asr"}
        }}""",
        "gateway.json",
    )
    chat = file.services["chat"]
    assert (chat.policy.concurrency_limit, chat.policy.target_concurrency) == (4, 4.0)
    assert chat.replicas == (Address("10.0.0.5", 8012),)
    assert file.services["asr"].replicas == ()
    router = file.router()
    assert router.match(b"chat.example.org", b"/") == ToService("chat")
    assert router.match(b"other", b"/asr/x") == ToService("asr")


def test_the_only_service_takes_every_request() -> None:
    assert read_file(b'{"services": {"chat": {}}}', "f").router().match(b"any", b"/thing") == ToService("chat")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b'{"services": {\n"chat": {},\n}}', "gateway.json:3: is no JSON: JSON is malformed"),
        (b'{"services": "\xff"}', "gateway.json:1: is no JSON: 'utf-8' codec can't decode byte 0xff"),
        (b'{"services":\n' + b"[" * 50_000, "gateway.json:2: is no JSON:"),
        (b"services:\n  chat: {}\n", "YAML is for `zerogate up`."),
        ([], "gateway.json: [] is not an object."),
        ({"servces": {}}, "servces: is not a key of this file. Did you mean services?"),
        ({"services": {"Chat": {}}}, 'services.Chat: "Chat" is not a name of a service.'),
        (
            {"services": {"chat": {"replica": []}}},
            "services.chat.replica: is not a key of this file. Did you mean replicas?",
        ),
        ({"services": {"chat": {"replicas": "x:1"}}}, 'services.chat.replicas: "x:1" is not a list.'),
        ({"services": {"chat": {"replicas": [8012.5]}}}, "services.chat.replicas[0]: 8012.5 is not an address."),
        ({"services": {"chat": {"replicas": ["model:80"]}}}, 'services.chat.replicas[0]: "model:80" is not a port'),
        (
            {"services": {"a": {"replicas": ["8012"]}, "b": {"replicas": ["127.0.0.1:8012"]}}},
            "services.b.replicas[0]: 127.0.0.1:8012 is a replica of a already.",
        ),
        (
            {"services": {"chat": {"policy": {"hold-timeout": "soon"}}}},
            'gateway.json: services.chat.policy.hold-timeout: "soon" is not a duration',
        ),
        (
            {"services": {"chat": {"policy": {"protocol": "h2c"}}}},
            "services.chat.policy.protocol: h2c is not available here.",
        ),
        ({"services": {"chat": {"path-prefix": "x"}}}, "services.chat.path-prefix: "),
        (
            {"services": {"chat": {"path-prefix": "/x", "policy": {"path-prefix": "/y"}}}},
            "services.chat.path-prefix: stands in the policy too.",
        ),
        (
            {"services": {"a": {"models": ["m"]}, "b": {"models": ["m"]}}},
            'gateway.json: services.b.models: the model "m" belongs to the service a already.',
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(value: Any, said: str) -> None:
    assert said in errors_of(value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    said = errors_of({"services": {"a": {"policy": {"queue-limit": "x"}, "replicas": [1]}, "b": {"nonsense": 1}}})
    assert len(said.splitlines()) == 3
