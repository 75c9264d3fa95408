"""The EndpointSlices of a cluster by Service: which are ours, who the activators are, whether pods answer. Pure.

Which activators there are is read from the slices of their own Service. Fed by `zerogate.kube.takeovers`.
"""

from zerogate.kube.fronts import Front
from zerogate.kube.objects import EndpointSlice, Key
from zerogate.kube.takeover import MANAGED_BY, MANAGER


class SliceBook:
    """See the module's text. `home`: namespace and name of the activators' Service."""

    def __init__(self, home: Key) -> None:
        self.home = home
        self._slices: dict[Key, dict[Key, EndpointSlice]] = {}
        """By Service."""
        self._all: dict[Key, EndpointSlice] = {}

    def on_slice(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        """The watch shows `new` in the place of `old`."""
        if old is not None:
            self._all.pop(old.key, None)
            key = service_key(old)
            self._slices.get(key, {}).pop(old.key, None)
            if not self._slices.get(key):
                self._slices.pop(key, None)
        if new is not None:
            self._all[new.key] = new
            self._slices.setdefault(service_key(new), {})[new.key] = new

    def named(self, key: Key) -> EndpointSlice | None:
        """The slice itself, whosever it is."""
        return self._all.get(key)

    def all_of_ours(self) -> list[EndpointSlice]:
        """Those that zerogate keeps, in the order of their names."""
        return [self._all[key] for key in sorted(self._all) if is_ours(self._all[key])]

    def of_ours(self, key: Key) -> list[EndpointSlice]:
        """Those of a Service that zerogate keeps."""
        return [one for one in self._slices.get(key, {}).values() if is_ours(one)]

    def activators(self, family: str) -> dict[str, str]:
        """Those that are ready: node by address."""
        found: dict[str, str] = {}
        for one in self._slices.get(self.home, {}).values():
            if one.address_type == family:
                for endpoint in one.endpoints or ():
                    if endpoint.is_ready and endpoint.addresses:
                        found[endpoint.addresses[0]] = endpoint.node_name
        return found

    def pods_answer(self, front: Front, family: str) -> bool:
        """Whether a ready endpoint for each of its ports is in the controller's own slices."""
        slices = [
            one for one in self._slices.get(front.key, {}).values()
            if one.address_type == family and not is_ours(one)
            and any(endpoint.is_ready for endpoint in one.endpoints or ())
        ]  # fmt: skip
        led = {port.name or "" for one in slices for port in one.ports or () if port.port is not None}
        return bool(front.ports) and all(port.name in led for port in front.ports)


def is_ours(one: EndpointSlice) -> bool:
    """Whether zerogate keeps the slice."""
    return one.metadata.label(MANAGED_BY) == MANAGER


def service_key(one: EndpointSlice) -> Key:
    """Whose it is."""
    return one.metadata.namespace, one.service
