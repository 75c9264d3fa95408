"""The merged list of models."""

import json
from importlib import import_module

import pytest

from gateway.models import LISTED_LIMIT, ModelState, ServedModels, list_models, show_model
from tests.extras import extra

CHAT = ServedModels(
    service="chat",
    models=("gemma", "gpt-4o", "small"),
    state=ModelState.READY,
    replicas=2,
    created_at_s=1_700_000_000.9,
)
ASR = ServedModels(
    service="asr", models=("org/whisper:1",), state=ModelState.ZERO, replicas=0, created_at_s=1_700_000_001
)
NAMES = {"gemma": "chat", "gpt-4o": "chat", "small": "chat", "org/whisper:1": "asr"}


def test_every_name_is_listed_aliases_point_to_the_first() -> None:
    listed = json.loads(list_models([CHAT, ASR], NAMES))
    assert listed["object"] == "list"
    assert listed["data"] == [
        {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "zerogate",
            "zerogate": {"service": service, "state": state, "replicas": replicas, **alias},
        }
        for name, created, service, state, replicas, alias in [
            ("gemma", 1_700_000_000, "chat", "ready", 2, {}),
            ("gpt-4o", 1_700_000_000, "chat", "ready", 2, {"alias_of": "gemma"}),
            ("small", 1_700_000_000, "chat", "ready", 2, {"alias_of": "gemma"}),
            ("org/whisper:1", 1_700_000_001, "asr", "zero", 0, {}),
        ]
    ]


def test_names_of_other_scopes_and_names_that_lead_elsewhere_are_left_out() -> None:
    listed = json.loads(list_models([CHAT, ASR], {"gemma": "chat", "small": "other"}))
    assert [model["id"] for model in listed["data"]] == ["gemma"]


def test_nothing_served_is_an_empty_list() -> None:
    assert json.loads(list_models([], {})) == {"object": "list", "data": []}


def test_one_model_is_shown_as_in_the_list() -> None:
    listed = json.loads(list_models([CHAT], NAMES))["data"]
    assert [json.loads(show_model(CHAT, name)) for name in CHAT.models] == listed


def test_showing_a_name_that_the_service_does_not_have_is_a_bug() -> None:
    with pytest.raises(KeyError):
        show_model(CHAT, "x")


def test_the_list_is_bounded() -> None:
    names = tuple(f"m{i}" for i in range(LISTED_LIMIT + 1))
    many = ServedModels(service="s", models=names, state=ModelState.FAILING, replicas=0, created_at_s=0)
    assert len(json.loads(list_models([many], dict.fromkeys(names, "s")))["data"]) == LISTED_LIMIT


def test_the_openai_client_understands_both() -> None:
    openai = extra("openai")
    http = import_module(openai.DefaultHttpxClient.__base__.__module__)
    answers = {"/v1/models": list_models([CHAT, ASR], NAMES), "/v1/models/gemma": show_model(CHAT, "gemma")}
    transport = http.MockTransport(lambda request: http.Response(200, content=answers[request.url.path]))
    with http.Client(transport=transport) as inner:
        client = openai.OpenAI(api_key="k", base_url="http://x/v1", http_client=inner, max_retries=0)
        assert [model.id for model in client.models.list()] == list(NAMES)
        assert client.models.retrieve("gemma").owned_by == "zerogate"
