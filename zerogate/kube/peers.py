"""How many slots of a pod without a sidecar are whose: an even split between gateways, which all of them come to. Pure.

Gateways are told apart and ordered by what the API server shows all of them: when their container started, then their
name. Those that ran before the pod was made share its slots; where none of these is left, the oldest has all. So a
share grows only when a gateway has ended, and whoever comes later waits for nobody's requests.

Invariants: shares are never more than the limit together; while gateways only end, none shrinks; who passes requests on
passes them to an older one. Called by `gateway.cluster` (who there is) and `gateway.bare_book` (whose slots); why:
docs/decisions/027-pods-without-a-sidecar.md.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from zerogate.kube.objects import Kind, Resource, Wire

LABELS: Final = "app.kubernetes.io/name=zerogate,app.kubernetes.io/component=gateway"
"""Of the chart's gateways, in zerogate's own namespace."""
BEFORE_S: Final = 10.0
"""So much older than a pod is who shares it: the kubelet tells of a container's start within seconds."""


class _Running(Wire, frozen=True, kw_only=True):
    started_at: str = ""


class _State(Wire, frozen=True, kw_only=True):
    running: _Running | None = None


class _Container(Wire, frozen=True, kw_only=True):
    state: _State = _State()


class _Status(Wire, frozen=True, kw_only=True):
    pod_ip: str = msgspec.field(default="", name="podIP")
    container_statuses: tuple[_Container, ...] = ()


class GatewayPod(Kind, frozen=True, kw_only=True):
    """A gateway's pod, with what a split needs: other pods are decoded without the times of their containers."""

    status: _Status = _Status()


GATEWAY_PODS: Final = Resource("", "v1", "pods", GatewayPod)


class Peer(msgspec.Struct, frozen=True, order=True):
    """A gateway whose process runs. `since_s`: by the wall clock of its node; ordered by it, then by name."""

    since_s: float
    name: str
    host: str
    """Where it takes requests."""
    is_leaving: bool = False


class Share(msgspec.Struct, frozen=True):
    """What one gateway may have of a pod. `slots`: at once; `via`: the gateway that has some, where there are none."""

    slots: int
    via: Peer | None = None


def peers_of(pods: Iterable[GatewayPod]) -> tuple[Peer, ...]:
    """The gateways whose process runs, the oldest first."""
    found: list[Peer] = []
    for pod in pods:
        starts = [one.state.running.started_at for one in pod.status.container_statuses if one.state.running]
        if starts:
            meta = pod.metadata
            found.append(Peer(max(map(seconds, starts)), meta.name, pod.status.pod_ip, meta.is_deleting))
    return tuple(sorted(found))


def seconds(stamp: str | None) -> float:
    """A time of the API as seconds since 1970; 0 for one that nobody can read."""
    try:
        return datetime.fromisoformat(stamp or "").timestamp()
    except ValueError:
        return 0.0


def share(limit: int, made_s: float, me: str, peers: Sequence[Peer]) -> Share:
    """What the gateway `me` may have of a pod that was made at `made_s`. `peers`: the oldest first.

    Who is not among them, though there are some, has not been seen to run yet: it has nothing, and holds.
    """
    mine = next((index for index, one in enumerate(peers) if one.name == me), None)
    if mine is None:
        return Share(0)
    sharers = [one for one in peers if one.since_s + BEFORE_S <= made_s] or list(peers[:1])
    slots = part(limit, mine, len(sharers)) if mine < len(sharers) else 0
    if slots:
        return Share(slots)
    able = [one for one in sharers[:limit] if not one.is_leaving and one.host]
    return Share(0, able[mine % len(able)] if able else None)


def part(whole: int, index: int, count: int) -> int:
    """How much of `whole` the one at `index` of `count` has: as even as can be, and the first have the remainder."""
    return max(0, -(-(whole - index) // count))
