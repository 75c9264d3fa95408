"""Flags and variables of a cluster's autoscaler."""

import pytest

from autoscaler.settings import Settings, read
from zerogate.errors import DefinitionErrors
from zerogate.kube.cluster_flags import ExtraKind
from zerogate.runtime.interface import Address


def settings(*flags: str, **variables: str) -> Settings:
    return read(flags, variables)


def test_in_a_pod_nothing_has_to_be_said() -> None:
    it = settings(POD_NAMESPACE="serving", POD_NAME="zerogate-autoscaler-7d9f-abcde")
    assert (it.kubeconfig, it.namespace, it.pod, it.watch) == ("", "serving", "zerogate-autoscaler-7d9f-abcde", "")
    assert (it.stats, it.admin) == (Address("0.0.0.0", 8090), Address("0.0.0.0", 8081))
    assert (it.audience, it.reporters) == ("zerogate-stats", ("zerogate-gateway", "zerogate-activator"))


def test_a_flag_wins_over_its_variable_and_that_over_the_pods() -> None:
    assert settings(ZEROGATE_POD_NAMESPACE="a", POD_NAMESPACE="b").namespace == "a"
    assert settings("--pod-namespace", "c", ZEROGATE_POD_NAMESPACE="a").namespace == "c"


def test_what_kubernetes_makes_of_a_service_that_is_called_nearly_as_a_flag_is_left_alone() -> None:
    port = "ZEROGATE_TAKEOVER_PORT"
    made = {
        port: "tcp://10.0.0.1:80", f"{port}_80_TCP": "tcp://10.0.0.1:80", f"{port}_80_TCP_PROTO": "tcp",
        "ZEROGATE_TAKEOVER_SERVICE_PORT_HTTP": "80", "ZEROGATE_TAKEOVER_SERVICE_HOST": "10.0.0.1",
    }  # fmt: skip
    assert settings(**made) == settings()
    with pytest.raises(DefinitionErrors, match="Did you mean ZEROGATE_TAKEOVER_PORTS"):
        settings(ZEROGATE_TAKEOVER_PORTZ="20000-24999")


def test_kinds_are_named_with_their_group() -> None:
    it = settings("--kinds", "CloneSet.apps.kruise.io/v1alpha1, LeaderWorkerSet.leaderworkerset.x-k8s.io/v1")
    assert it.kinds == (
        ExtraKind("CloneSet", "apps.kruise.io/v1alpha1"),
        ExtraKind("LeaderWorkerSet", "leaderworkerset.x-k8s.io/v1"),
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--kubeconfig", "config"), '--kubeconfig: "config" is not an absolute path. Write /home/me/.kube/config'),
        (("--kinds", "CloneSet"), '--kinds: "CloneSet" is not a kind of workload. Write CloneSet.apps.kruise.io/'),
        (("--watch-namespace", "A"), '--watch-namespace: "A" is not a name'),
        (("--admin", "0.0.0.0:8090"), "--admin: 0.0.0.0:8090 is where requests come in. Give another port."),
        (("--stat-listen", "1"), '"--stat-listen" is not a flag. Did you mean --stats-listen?'),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_what_to_do(flags: tuple[str, ...], said: str) -> None:
    with pytest.raises(DefinitionErrors) as caught:
        settings(*flags)
    assert said in str(caught.value)


def test_takeover_is_off_until_activators_are_named() -> None:
    assert settings().activators == ""
    found = settings("--activators", "zerogate-activator", ZEROGATE_TAKEOVER_PORTS="21000-21999")
    assert (found.activators, found.takeover_ports) == ("zerogate-activator", (21000, 21999))


@pytest.mark.parametrize("text", ["20000", "24999-20000", "80-90", "a-b", "20000-70000"])
def test_a_range_of_ports_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(DefinitionErrors, match="Write FIRST-LAST, both from 1024 to 65535: 20000-24999"):
        settings("--takeover-ports", text)
