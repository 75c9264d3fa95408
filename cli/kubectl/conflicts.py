"""Other autoscalers of what zerogate scales, for `kubectl zerogate doctor`: HPAs without `hpa: floor`.

Each writes over what the other one wrote, until zerogate keeps its hands off. The status tells that it happened
(`ForeignScale`); this says beforehand, and who it is.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from autoscaler.cluster.records import HPA
from cli.client import CommandError
from cli.commands.doctor import Finding, Level
from cli.kubectl.way import Api, ClusterAdmin, unseen
from zerogate.kube.errors import Asked, KubeError
from zerogate.kube.keys import PREFIX

_GROUP, _PLURAL = "autoscaling", "horizontalpodautoscalers"
_ABOUT = "HPAs"


def conflicts(api: Api, admin: ClusterAdmin) -> Iterator[Finding]:
    """A finding for each HPA that scales a service whose policy does not leave it the numbers from one up."""
    try:
        services = {one.api_path: one.name for one in admin.services()}
        found = api.get(f"/apis/{_GROUP}/v2/{_PLURAL}", Asked(verb="list", group=_GROUP, resource=_PLURAL)).body[
            "items"
        ]
        paths = [(hpa["metadata"], path) for hpa in found if (path := _target(hpa)) in services]
        beside = [(meta, services[path]) for meta, path in paths if not _is_floored(api, path)]
    except CommandError:
        return  # said already
    except KubeError as error:
        yield Finding(Level.NOTE, _ABOUT, unseen(error))
        return
    for meta, service in beside:
        says = (
            f"{meta['namespace']}/{meta['name']} scales {service}, and so does zerogate: each writes over the other. "
        )
        yield Finding(Level.WRONG, _ABOUT, f"{says}Delete it, or annotate the workload with {PREFIX}hpa=floor.")
    if paths and not beside:
        yield Finding(Level.OK, _ABOUT, f"{len(paths)} of services, whose floor zerogate moves")


def _target(hpa: Mapping[str, Any]) -> str:
    """The path of the workload that it scales, for kinds whose plural is their name and an s."""
    target, namespace = hpa["spec"]["scaleTargetRef"], hpa["metadata"]["namespace"]
    kind = target["kind"].lower()
    return f"/apis/{target.get('apiVersion', 'apps/v1')}/namespaces/{namespace}/{kind}s/{target['name']}"


def _is_floored(api: Api, path: str) -> bool:
    """Whether zerogate has noted on the workload that it moves the floor alone."""
    found = api.get(path, Asked(verb="get", group="apps", resource=path.split("/")[-2])).body
    return (found["metadata"].get("annotations") or {}).get(HPA) == "floor"
