"""Reviews as an API server posts them, and a cluster to look things up in."""

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from autoscaler.injector.answering import Answering, Notice
from autoscaler.injector.lookup import FakeCluster
from autoscaler.injector.review import Kind, Request
from zerogate.kube.sidecar import SidecarTerms


class World:
    """A cluster with a webhook. `deploy` puts a workload there, `pod_of` makes its pod."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.notices: list[Notice] = []
        self.answering = Answering(
            self.cluster, SidecarTerms(image="zerogate:test"), notice=self.notices.append, new_token=lambda: "t" * 32
        )

    def deploy(self, name: str = "llm", **annotations: str) -> None:
        """A Deployment with its ReplicaSet; keys with `_` for `-`."""
        self.cluster.put("default", "Deployment", {"metadata": {"name": name, "annotations": keys(**annotations)}})
        self.cluster.put("default", "ReplicaSet", {"metadata": {"name": f"{name}-1", **owned("Deployment", name)}})

    def pod_of(self, name: str = "llm", **annotations: str) -> dict[str, Any]:
        """A pod of its ReplicaSet, with what its template says."""
        return {
            "metadata": {
                "generateName": f"{name}-1-",
                "labels": {"app": name},
                "annotations": keys(**annotations),
                **owned("ReplicaSet", f"{name}-1"),
            },
            "spec": {"containers": [{"name": "llm", "image": "m", "ports": [{"name": "http", "containerPort": 8000}]}]},
        }


def keys(**annotations: str) -> dict[str, str]:
    return {f"zerogate.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}


def owned(kind: str, name: str) -> dict[str, Any]:
    reference = {"apiVersion": "apps/v1", "kind": kind, "name": name, "controller": True}
    return {"ownerReferences": [{"apiVersion": "v1", "kind": "Other", "name": "x"}, reference]}


def asked(
    obj: Mapping[str, Any], kind: str = "Pod", *, operation: str = "CREATE", old: Mapping[str, Any] | None = None
) -> Request:
    return Request(
        uid="1", kind=Kind(kind), namespace="default", operation=operation, object=dict(obj),
        old_object=None if old is None else dict(old), name=obj.get("metadata", {}).get("name", ""),
    )  # fmt: skip


def posted(obj: Mapping[str, Any], kind: str = "Pod", uid: str = "705ab4f5") -> bytes:
    """The body of a review, with all that an API server writes into one."""
    return msgspec.json.encode(
        {
            "kind": "AdmissionReview",
            "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": uid,
                "kind": {"group": "", "version": "v1", "kind": kind},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "requestKind": {"group": "", "version": "v1", "kind": kind},
                "requestResource": {"group": "", "version": "v1", "resource": "pods"},
                "namespace": "default",
                "operation": "CREATE",
                "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": ["x"]},
                "object": obj,
                "oldObject": None,
                "dryRun": False,
                "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
            },
        }
    )


def response(body: bytes) -> dict[str, Any]:
    """What the API server makes of an answer."""
    review = msgspec.json.decode(body)
    assert (review["apiVersion"], review["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    found: dict[str, Any] = review["response"]
    if "patch" in found:
        assert found["patchType"] == "JSONPatch"
        found["patch"] = msgspec.json.decode(base64.b64decode(found["patch"]))
    return found
