import pytest

from tests.zerogate.kube.pods import container, pod, service
from zerogate.kube.ports import ModelPort, ServicePatch, UnfitError, model_port, probed_path, selects, takeover_of

WEB = {"httpGet": {"path": "/up", "port": "http"}}


@pytest.mark.parametrize(
    ("obj", "asked", "found"),
    [
        (pod(), None, ModelPort(0, "llm", 8000)),
        (pod(container("a"), container("b", 1, 2)), None, ModelPort(1, "b", 1)),
        (pod(container("a", 1), container("b", ("web", 2))), "web", ModelPort(1, "b", 2)),
        (pod(container("a", 1), container("b", 2)), "2", ModelPort(1, "b", 2)),
        (pod(container("a", 1), container("b", 2)), "3", ModelPort(0, "a", 3)),
        (pod(container("a"), container("b", readinessProbe={"tcpSocket": {"port": 3}})), "3", ModelPort(1, "b", 3)),
        (pod(container("a")), "3", ModelPort(0, "a", 3)),
    ],
    ids=["first", "first-that-has-one", "by-name", "by-number", "undeclared", "probed", "none-declared"],
)
def test_the_models_port_is_found(obj: dict[str, object], asked: str | None, found: ModelPort) -> None:
    assert model_port(obj, asked) == found


def test_the_container_that_kubectl_is_told_to_take_comes_first() -> None:
    obj = pod(container("proxy", 1), container("llm", 2))
    obj["metadata"]["annotations"] = {"kubectl.kubernetes.io/default-container": "llm"}
    assert model_port(obj, None).container_name == "llm"


def test_ports_for_datagrams_are_passed_over() -> None:
    obj = pod({"name": "a", "ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 80}]})
    assert model_port(obj, None).number == 80


@pytest.mark.parametrize(
    ("asked", "words"), [(None, "no container declares a TCP port"), ("web", "no container has a TCP port called web")]
)
def test_a_port_that_cannot_be_found_is_said(asked: str | None, words: str) -> None:
    with pytest.raises(UnfitError, match=words):
        model_port(pod(container("a")), asked)


@pytest.mark.parametrize(
    ("probe", "path", "why"),
    [
        (WEB, "/up", ""),
        ({"httpGet": {"path": "up?full=1", "port": 8000}}, "/up?full=1", ""),
        ({"httpGet": {"port": 8000}}, "/", ""),
        ({"httpGet": {"path": "/up", "port": 9000}}, None, "asks another port"),
        ({"httpGet": {"path": "/up", "port": "web"}}, None, "asks another port"),
        ({"httpGet": {"path": "/up", "port": 8000, "scheme": "HTTPS"}}, None, "over TLS"),
        ({"httpGet": {"path": "/a b", "port": 8000}}, None, "cannot be asked for"),
        ({"exec": {"command": ["true"]}}, None, ""),
        (None, None, ""),
    ],
)
def test_the_path_of_the_containers_own_probe_is_asked(probe: object, path: str | None, why: str) -> None:
    obj = pod(container("llm", ("http", 8000), **({"readinessProbe": probe} if probe else {})))
    found, reason = probed_path(obj, model_port(obj, None))
    assert found == path
    assert why in reason
    assert bool(why) == bool(reason)


def test_a_service_without_a_selector_selects_nothing() -> None:
    assert selects(service(), {"app": "llm", "more": "1"})
    assert not selects(service(), {"app": "other"})
    assert not selects(service(), None)
    assert not selects({"metadata": {"name": "x"}, "spec": {}}, {"app": "llm"})


def takeover(obj: dict[str, object], *services: dict[str, object]) -> object:
    try:
        found = takeover_of(obj, model_port(obj, None), services, "zg-http")
    except UnfitError as error:
        return str(error)
    return found.names, found.patches


@pytest.mark.parametrize(
    ("obj", "services", "found"),
    [
        (pod(), [service()], (("http",), ())),
        (pod(), [service(), service("two")], (("http",), ())),
        (pod(), [service(target=8000)], ((), (ServicePatch("llm", 80, 8000, "zg-http"),))),
        (pod(), [service(), service("two", 8000)], (("http",), (ServicePatch("two", 80, 8000, "zg-http"),))),
        (pod(), [], (("http",), ())),
        (pod(), [service(selector={"app": "x"})], (("http",), ())),
        (pod(container("llm", ("", 8000))), [], "no Service selects this pod"),
        (pod(), [service(target=9000)], "no port of Service llm leads to port 8000 of container llm"),
        (pod(), [service(clusterIP="None")], "Service llm is headless"),
        (pod(), [service(clusterIP="None"), service("two")], (("http",), ())),
        (
            pod(container("llm", ("http", 8000)), container("b", ("http", 9000))),
            [service()],
            "the port name http stands for port 9000 of container b too; give each its own name",
        ),
    ],
    ids=[
        "name",
        "two",
        "number",
        "both",
        "not-yet",
        "others-alone",
        "never-by-name",
        "elsewhere",
        "headless",
        "headless-too",
        "shared-name",
    ],
)
def test_services_are_led_to_the_sidecar_or_it_is_said_why_not(
    obj: dict[str, object], services: list[dict[str, object]], found: object
) -> None:
    outcome = takeover(obj, *services)
    assert str(found) in outcome if isinstance(outcome, str) else outcome == found
