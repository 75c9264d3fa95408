"""Bytes of the API become structs."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerogate.kube.decoding import Lines, Page, decode, status_of
from zerogate.kube.objects import EndpointSlice, Hpa, Meta, Pod, Scale, Service, Workload


@given(st.lists(st.text(alphabet="ab \n{}", max_size=20)), st.lists(st.integers(1, 10)))
def test_lines_are_the_same_however_the_bytes_arrive(texts: list[str], sizes: list[int]) -> None:
    data = "\n".join(texts).encode()
    lines, found, at = Lines(), list[bytes](), 0
    for size in [*sizes, len(data) + 1]:
        found += lines.feed(data[at : at + size])
        at += size
    assert found == [line for line in data.split(b"\n")[:-1] if line.strip()]


def test_a_line_without_an_end_is_refused() -> None:
    lines = Lines(longest=100)
    lines.feed(b"x" * 100)
    with pytest.raises(ValueError, match="longer than 100"):
        lines.feed(b"x")


@pytest.mark.parametrize("data", [b'{"metadata": {"name": "\xff"}}', b'{"spec": {"later": ' + b"[" * 50_000])
def test_what_is_no_text_or_too_deep_is_one_object_that_cannot_be_read(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(data, Pod)


def test_what_is_null_or_missing_has_its_default() -> None:
    assert decode(b'{"items": null, "metadata": {}}', Page).items is None
    assert decode(b'{"spec": {}, "status": {}}', Scale).spec.replicas == 0
    assert decode(b'{"endpoints": null, "ports": null, "addressType": "IPv6"}', EndpointSlice).endpoints is None
    template = b'{"spec": {"template": {"metadata": {"creationTimestamp": null}, "spec": {"containers": []}}}}'
    workload = decode(template, Workload)
    assert workload.template is not None
    assert workload.template.metadata == Meta()
    assert decode(b"{}", Pod) == Pod()


def test_a_group_of_leader_and_workers_is_known_by_its_leader() -> None:
    templates = {"leaderTemplate": {"spec": {"containers": [{"name": "leader"}]}}, "workerTemplate": {}}
    workload = decode(json.dumps({"spec": {"leaderWorkerTemplate": {"size": 4, **templates}}}).encode(), Workload)
    assert workload.template is not None
    assert workload.template.spec is not None
    assert workload.template.spec.containers[0].name == "leader"


def test_ports_are_numbers_or_names() -> None:
    ports = [{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 8081}]
    found = decode(json.dumps({"spec": {"ports": ports, "clusterIP": "None"}}).encode(), Service)
    assert [port.target_port for port in found.spec.ports] == ["http", 8081]
    assert found.spec.cluster_ip == "None"


def test_an_autoscaler_without_a_minimum_has_the_api_s_own() -> None:
    spec = {"scaleTargetRef": {"kind": "Deployment", "name": "llama"}, "maxReplicas": 3}
    assert decode(json.dumps({"spec": spec}).encode(), Hpa).spec.min_replicas == 1


def test_an_answer_that_is_no_status_is_shown_as_it_is() -> None:
    assert status_of(b"<html>bad gateway</html>").message == "<html>bad gateway</html>"
