"""The chart gives each role what `zerogate.kube.rights` says, and nothing else."""

from typing import Any

import pytest

from tests.deploy.chart import CERT_MANAGER, EVERYTHING, SYSTEM, Object, objects
from zerogate.kube.rights import ROLES, WORKLOADS, Role, Step, Workloads, rights_of, steps_of

pytestmark = [pytest.mark.usefixtures("helm"), pytest.mark.kubernetes, pytest.mark.slow, pytest.mark.timeout(900)]


def _granted(found: list[Object], account: str) -> set[Step]:
    """All that bindings give an account; what is bound in other namespaces counts as if it were everywhere."""
    rules = {(each["kind"], each["metadata"]["name"]): each["rules"] for each in found if each["kind"].endswith("Role")}
    steps: set[Step] = set()
    for binding in found:
        if not binding["kind"].endswith("Binding") or account not in [each["name"] for each in binding["subjects"]]:
            continue
        place = binding["metadata"].get("namespace", "")
        for rule in rules[binding["roleRef"]["kind"], binding["roleRef"]["name"]]:
            steps |= _steps(rule, SYSTEM if place == SYSTEM else "")
    return steps


def _steps(rule: dict[str, Any], namespace: str) -> set[Step]:
    if rule.keys() == {"nonResourceURLs", "verbs"}:
        return {Step(verb=verb, group="", resource=path) for path in rule["nonResourceURLs"] for verb in rule["verbs"]}
    assert rule.keys() <= {"apiGroups", "resources", "resourceNames", "verbs"}
    return {
        Step(
            verb=verb, group=group, resource=full.partition("/")[0], subresource=full.partition("/")[2], name=name,
            namespace=namespace,
        )
        for group in rule["apiGroups"] for full in rule["resources"] for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_it_needs_and_nothing_else(role: Role) -> None:
    more = [Workloads(one["group"], one["resource"]) for one in EVERYTHING["extraWorkloads"]]
    needed = {
        step
        for right in rights_of(role, release="mine", workloads=(*WORKLOADS, *more))
        for step in steps_of(right, SYSTEM)
    }
    assert _granted(objects(EVERYTHING, name="mine"), f"mine-{role}") == needed


def test_without_activators_no_slice_can_be_written() -> None:
    granted = _granted(objects(), "zerogate-autoscaler")
    rights = rights_of("autoscaler", has_takeover=False)
    assert granted == {step for right in rights for step in steps_of(right, SYSTEM)}
    assert "endpointslices" not in {step.resource for step in granted}


def test_cert_manager_says_whom_api_servers_trust_and_the_autoscaler_may_not() -> None:
    granted = _granted(objects(CERT_MANAGER), "zerogate-autoscaler")
    rights = rights_of("autoscaler", has_takeover=False, has_cert_manager=True)
    assert granted == {step for right in rights for step in steps_of(right, SYSTEM)}
    assert "admissionregistration.k8s.io" not in {step.group for step in granted}


def test_without_a_webhook_nothing_of_pods_owners_can_be_read() -> None:
    granted = _granted(objects({"webhook": {"enabled": False}}), "zerogate-autoscaler")
    assert granted == {
        step
        for right in rights_of("autoscaler", has_webhook=False, has_takeover=False)
        for step in steps_of(right, SYSTEM)
    }
    assert "replicasets" not in {step.resource for step in granted}
    assert "admissionregistration.k8s.io" not in {step.group for step in granted}


def test_no_role_is_given_a_star() -> None:
    for each in objects(EVERYTHING):
        if each["kind"].endswith("Role"):
            assert "*" not in str(each["rules"])
