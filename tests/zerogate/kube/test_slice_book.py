"""What the slices of a cluster say of activators and pods."""

from typing import Any

import msgspec

from tests.zerogate.kube.test_fronts import front
from zerogate.kube.objects import EndpointSlice
from zerogate.kube.slice_book import SliceBook

HOME = ("system", "activator")


def a_slice(
    name: str, service: str = "llm", *addresses: str, namespace: str = "ns", ours: bool = False, ready: bool = True,
    ports: tuple[dict[str, Any], ...] = ({"name": "", "port": 8012},), family: str = "IPv4",
) -> EndpointSlice:  # fmt: skip
    manager = "zerogate.dev" if ours else "endpointslice-controller.k8s.io"
    labels = {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": manager}
    endpoints = [
        {"addresses": [one], "conditions": {"ready": ready}, "nodeName": f"node-of-{one}"} for one in addresses
    ]
    body = {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "addressType": family, "endpoints": endpoints, "ports": list(ports),
    }  # fmt: skip
    return msgspec.convert(body, EndpointSlice)


def book(*slices: EndpointSlice) -> SliceBook:
    made = SliceBook(HOME)
    for one in slices:
        made.on_slice(None, one)
    return made


def test_activators_are_the_ready_endpoints_of_their_own_service() -> None:
    it = book(
        a_slice("a", HOME[1], "10.0.0.1", namespace=HOME[0]),
        a_slice("b", HOME[1], "10.0.0.2", namespace=HOME[0], ready=False),
        a_slice("c", HOME[1], "fd00::1", namespace=HOME[0], family="IPv6"),
        a_slice("d", HOME[1], "10.0.0.3", namespace="other"),
    )
    assert it.activators("IPv4") == {"10.0.0.1": "node-of-10.0.0.1"}
    assert it.activators("IPv6") == {"fd00::1": "node-of-fd00::1"}


def test_pods_answer_when_a_ready_endpoint_is_in_a_slice_that_is_not_ours() -> None:
    llm = front()
    assert not book(a_slice("ours", "llm", "10.0.0.1", ours=True)).pods_answer(llm, "IPv4")
    assert not book(a_slice("theirs", "llm", "10.0.0.1", ready=False)).pods_answer(llm, "IPv4")
    assert book(a_slice("theirs", "llm", "10.0.0.1")).pods_answer(llm, "IPv4")
    assert not book(a_slice("theirs", "llm", "10.0.0.1")).pods_answer(llm, "IPv6")


def test_pods_answer_only_for_all_ports() -> None:
    two = front({"name": "a", "port": 80, "targetPort": "http"}, {"name": "b", "port": 81, "targetPort": "http"})
    one = a_slice("a", "llm", "10.0.0.1", ports=({"name": "a", "port": 8012},))
    other = a_slice("b", "llm", "10.0.0.1", ports=({"name": "b", "port": 8012},))
    assert not book(one).pods_answer(two, "IPv4")
    assert book(one, other).pods_answer(two, "IPv4")


def test_nobody_knows_whether_pods_answer_for_a_front_without_ports() -> None:
    """As an earlier leader's slice may describe it: it is given the time that is given to all."""
    bare = msgspec.structs.replace(front(), ports=())
    assert not book(a_slice("theirs", "llm", "10.0.0.1")).pods_answer(bare, "IPv4")


def test_a_slice_that_goes_over_to_another_service_is_that_ones_alone() -> None:
    before, after = a_slice("s", "llm", ours=True), a_slice("s", "other", ours=True)
    it = book(before)
    it.on_slice(before, after)
    assert it.of_ours(("ns", "llm")) == []
    assert it.of_ours(("ns", "other")) == [after]
    assert it.all_of_ours() == [after]
    it.on_slice(after, None)
    assert it.all_of_ours() == []
    assert it.named(("ns", "s")) is None
    assert not it._slices, "of Services that are gone nothing is kept"
