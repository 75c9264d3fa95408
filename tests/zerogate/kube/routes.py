"""Objects of the Gateway API for tests, as the API server sends them."""

from typing import Any

import msgspec

from zerogate.kube.catalog import Catalog
from zerogate.kube.objects import DEPLOYMENTS, Key, Service, Workload
from zerogate.kube.route_book import RouteBook
from zerogate.kube.route_objects import Gateway, GatewayClass, HttpRoute, ReferenceGrant


def listener(name: str = "web", *, protocol: str = "HTTP", hostname: str = "", **allowed: Any) -> dict[str, Any]:
    """`allowed`: what `allowedRoutes` says."""
    host = {"hostname": hostname} if hostname else {}
    return {"name": name, "port": 80, "protocol": protocol, **host, **({"allowedRoutes": allowed} if allowed else {})}


def gateway(
    *listeners: dict[str, Any], name: str = "edge", namespace: str = "ml", of: str = "ours", **spec: Any
) -> Gateway:
    body = {
        "metadata": {"name": name, "namespace": namespace, "generation": 1},
        "spec": {"gatewayClassName": of, "listeners": list(listeners) or [listener()], **spec},
    }
    return msgspec.convert(body, Gateway)


def rule(*prefixes: str, backend: str = "llama", port: int = 80, **more: Any) -> dict[str, Any]:
    matches = [{"path": {"type": "PathPrefix", "value": prefix}} for prefix in prefixes or ("/",)]
    return {"matches": matches, "backendRefs": [{"name": backend, "port": port, "weight": 1}], **more}


def route(
    *rules: dict[str, Any], name: str = "route", namespace: str = "ml", hosts: tuple[str, ...] = ("a.example",),
    parents: tuple[dict[str, Any], ...] = ({"name": "edge"},), status: tuple[dict[str, Any], ...] = (),
) -> HttpRoute:  # fmt: skip
    body = {
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": 1,
                     "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"parentRefs": list(parents), "hostnames": list(hosts), "rules": list(rules) or [rule()]},
        "status": {"parents": list(status)},
    }  # fmt: skip
    return msgspec.convert(body, HttpRoute)


def service(name: str = "llama", namespace: str = "ml", *, app: str = "", target: int | str = 8000) -> Service:
    body = {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": app or name}, "ports": [{"port": 80, "targetPort": target}]},
    }
    return msgspec.convert(body, Service)


def workload(name: str = "llama", namespace: str = "ml", *, app: str = "") -> Workload:
    body = {
        "metadata": {"name": name, "namespace": namespace, "annotations": {"zerogate.dev/enabled": "true"}},
        "spec": {"template": {
            "metadata": {"labels": {"app": app or name}},
            "spec": {"containers": [{"name": "model", "ports": [{"name": "http", "containerPort": 8000}]}]},
        }},
    }  # fmt: skip
    return msgspec.convert(body, Workload)


def grant(from_namespace: str, namespace: str = "ml", *, name: str = "") -> ReferenceGrant:
    to = {"group": "", "kind": "Service", **({"name": name} if name else {})}
    source = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": from_namespace}
    body = {"metadata": {"name": "grant", "namespace": namespace}, "spec": {"from": [source], "to": [to]}}
    return msgspec.convert(body, ReferenceGrant)


def a_class(name: str = "ours", controller: str = "zerogate.dev/gateway", **spec: Any) -> GatewayClass:
    return msgspec.convert({"metadata": {"name": name}, "spec": {"controllerName": controller, **spec}}, GatewayClass)


class Shown:
    """A book, and what it is shown."""

    def __init__(self, *objects: Any) -> None:
        self.catalog = Catalog()
        self.labels: dict[str, dict[str, str]] = {}
        self.book = RouteBook(lambda name: self.labels.get(name, {}))
        self._known: dict[type, dict[Key, Any]] = {
            one: {} for one in (GatewayClass, Gateway, HttpRoute, ReferenceGrant, Service)
        }
        book, known = self.book, self._known
        book.classes, book.gateways, book.routes = known[GatewayClass], known[Gateway], known[HttpRoute]
        book.grants, book.services = known[ReferenceGrant], known[Service]
        self.put(a_class(), *objects)

    def put(self, *objects: Any) -> None:
        for one in objects:
            if isinstance(one, Workload):
                self.catalog.set_workload("Deployment", DEPLOYMENTS, one)
            else:
                self._known[type(one)][one.key] = one

    def read(self) -> Any:
        return self.book.read(self.catalog.services())
