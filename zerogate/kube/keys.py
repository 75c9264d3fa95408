"""The keys that only a workload on Kubernetes has, beside those of every policy. Pure.

They are written as the others are, `zerogate.dev/KEY`. The table gives the parser (`zerogate.kube.policies`) its
bounds and `docs/policy.md` its section. What zerogate itself writes on objects has the prefix `RECORDS`, so that
nobody's typing error can be taken for it, nor it for a wrong key.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from zerogate.errors import DefinitionError
from zerogate.kinds import Choice, Duration, Fragment, Kind, Raw, wrong

PREFIX: Final = "zerogate.dev/"
"""Of what people write."""
RECORDS: Final = "state.zerogate.dev/"
"""Of what zerogate writes."""
REPLICAS: Final = f"{RECORDS}replicas"
"""How many replicas a workload asked for when it was put under zerogate."""

_NAME: Final = r"(?=[a-z0-9-]*[a-z])(?!.*--)[a-z0-9](?:[a-z0-9-]{0,13}[a-z0-9])?"
"""Of a container's port, as Kubernetes has it: at most 15 characters, a letter among them."""


class PortText(msgspec.Struct, frozen=True):
    """A port of a container, by number or by name; kept as text."""

    def parse(self, raw: Raw) -> str:
        if isinstance(raw, int) and not isinstance(raw, bool):
            raw = str(raw)
        if not isinstance(raw, str):
            raise wrong(raw, self.allowed())
        is_number = re.fullmatch("[1-9][0-9]{0,4}", raw, re.ASCII) is not None and int(raw) <= 65535
        if not is_number and not re.fullmatch(_NAME, raw, re.ASCII):
            raise wrong(raw, self.allowed())
        return raw

    def allowed(self) -> str:
        return "a port from 1 to 65535, or the name of a container's port such as http"

    def shown_as(self, value: Any) -> str:
        return "–" if value is None else str(value)

    def fragment(self) -> Fragment:
        return {"type": ["integer", "string"]}


class OnCluster(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the keys of the table say of one workload."""

    enabled: bool = False
    inject: bool = True
    takeover: bool = False
    hpa: Literal["none", "floor"] = "none"
    port: str | None = None
    drain_deadline_s: float = 300.0
    uncounted: Literal["withhold", "ignore"] = "withhold"
    start_timeout_s: float = 600.0


class ClusterKey(msgspec.Struct, frozen=True, kw_only=True):
    """One row: a key, the field of `OnCluster` that it fills, and what it means."""

    name: str
    field: str
    kind: Kind
    doc: str
    reason: str
    is_switch: bool = False
    """Written as true or false."""
    of_one_workload: bool = False
    """Makes no sense as a default for several."""

    @property
    def default(self) -> Any:
        """From `OnCluster`, where the defaults stand."""
        return _DEFAULTS[self.field]

    def default_text(self) -> str:
        """The default as a user would write it."""
        return ("true" if self.default else "false") if self.is_switch else self.kind.shown_as(self.default)

    def parse(self, raw: Raw) -> Any:
        """The checked value. Raises DefinitionError without a place."""
        value = self.kind.parse(raw)
        return value == "true" if self.is_switch else value


_DEFAULTS: Final[dict[str, Any]] = {field.name: field.default for field in msgspec.structs.fields(OnCluster)}
SWITCH: Final = Choice(("true", "false"))

_ROWS: Final = (
    ClusterKey(
        name="enabled", field="enabled", kind=SWITCH, is_switch=True, of_one_workload=True,
        doc="Puts the workload under zerogate.",
        reason="Nothing is touched that was not named.",
    ),
    ClusterKey(
        name="inject", field="inject", kind=SWITCH, is_switch=True,
        doc="Adds the sidecar to new pods. Without it gateways count what is inside, and share the slots evenly.",
        reason="The sidecar owns the slots and measures every path to the model.",
    ),
    ClusterKey(
        name="takeover", field="takeover", kind=SWITCH, is_switch=True,
        doc="Answers for the workload's Service while it is at zero; the Service then leads to the sidecar.",
        reason="It moves the name of a port, which monitoring may know.",
    ),
    ClusterKey(
        name="hpa", field="hpa", kind=Choice(("none", "floor")),
        doc="`floor` leaves 1 to N to the workload's own HorizontalPodAutoscaler and moves only its `minReplicas`, "
        "and zero.",
        reason="Two that scale one workload fight.",
    ),
    ClusterKey(
        name="port", field="port", kind=PortText(), of_one_workload=True,
        doc="The model server's port, by number or by name.",
        reason="The first port of the first container that has one.",
    ),
    ClusterKey(
        name="drain-deadline", field="drain_deadline_s", kind=Duration(1, 6 * 3600.0),
        doc="How long requests inside a pod may take to end when it is told to leave; the pod's "
        "`terminationGracePeriodSeconds` is raised to it and ten seconds.",
        reason="Most long answers end within it, and a pod that hangs gives its GPU back in time for lunch.",
    ),
    ClusterKey(
        name="uncounted", field="uncounted", kind=Choice(("withhold", "ignore")),
        doc="Services that lead to the model's port past the sidecar: `withhold` never lets the workload go to zero "
        "while there is one, `ignore` takes it that nobody uses them.",
        reason="What nobody counts may be somebody's request, which zero would cut.",
    ),
    ClusterKey(
        name="start-timeout", field="start_timeout_s", kind=Duration(1, 6 * 3600.0),
        doc="How long the cluster may say what keeps a pod from being ready (no node has the GPUs, a quota, an image) "
        "until nobody waits for it any more: held requests are told why, and the pod goes where nothing else asks for "
        "it. A pod that only takes long is waited for.",
        reason="New nodes come within some minutes. As on one box.",
    ),
)  # fmt: skip

CLUSTER_KEYS: Final[Mapping[str, ClusterKey]] = {row.name: row for row in _ROWS}
"""In the order of the documentation."""

HINTS_HERE: Final[Mapping[str, str]] = {
    "gpus": "Say them in the container's resources, as nvidia.com/gpu.",
    "pin": "Use the command `kubectl zerogate pin SERVICE N --for 2h`.",
}
"""What to do instead of keys of later versions, where that is something else than on one box."""


def not_of_several(name: str) -> DefinitionError:
    """The error for a default that only one workload can have."""
    hint = f"Write {PREFIX}{name} on the workload or its pod template."
    return DefinitionError("is a key of one workload, not a default for several", hint=hint)
