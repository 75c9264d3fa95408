"""Which Services lead past the sidecars."""

import pytest

from tests.zerogate.kube.test_fronts import entry, service
from zerogate.kube.bypass import Bypass, past_sidecar
from zerogate.kube.objects import Service


@pytest.mark.parametrize(
    ("target", "takeover", "is_past"),
    [
        ("http", "false", True),
        (8000, "false", True),
        (8000, "true", True),
        ("http", "true", False),
        ("zg-http", "false", False),
        (8012, "false", False),
        ("metrics", "false", False),
        (9000, "false", False),
    ],
)
def test_a_service_leads_past_the_sidecar_where_its_port_is_the_model_s_own(
    target: int | str, takeover: str, is_past: bool
) -> None:
    found = past_sidecar(entry(takeover=takeover), [service({"port": 80, "targetPort": target})])
    assert found == ((Bypass("llm"),) if is_past else ())


@pytest.mark.parametrize(
    "other",
    [
        service(selector={"app": "another"}),
        service({"port": 8000, "protocol": "UDP"}),
        service(selector={}),
        service({"port": 80}),
    ],
    ids=["of others", "not TCP", "no selector", "another port of its own"],
)
def test_other_services_lead_past_nothing(other: Service) -> None:
    assert past_sidecar(entry(takeover="false"), [other]) == ()


@pytest.mark.parametrize("target", ["http", "zg-http"])
def test_behind_a_headless_service_the_models_own_port_is_never_the_sidecars(target: str) -> None:
    same = service({"port": 8000, "targetPort": target}, clusterIP="None")
    other = service({"port": 80, "targetPort": target}, clusterIP="None")
    assert past_sidecar(entry(), [same]) == (Bypass("llm", is_open=True),)
    assert past_sidecar(entry(), [other]) == ()
    assert past_sidecar(entry(), [service({"port": 8000, "targetPort": target})]) == ()


def test_without_a_target_port_it_is_the_service_s_own() -> None:
    assert past_sidecar(entry(takeover="false"), [service({"port": 8000})]) == (Bypass("llm"),)


def test_with_takeover_and_without_sidecars_a_name_leads_to_the_model() -> None:
    named = [service({"port": 80, "targetPort": "http"})]
    assert past_sidecar(entry(inject="false"), named) == (Bypass("llm"),)
    assert past_sidecar(entry(), named) == ()
