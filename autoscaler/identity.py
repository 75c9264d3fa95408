"""Who a source of reports is, as its token proves it, and what it may say. Pure.

A token that is bound to a pod of a workload may speak of that workload's service alone, whatever the source claims;
the autoscaler names it by its pod, so it cannot speak for another source either.
"""

from typing import Final

import msgspec

from zerogate.errors import shown
from zerogate.reporting.wire import Hello

_MOST_NAME: Final = 253


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A proven one. `name`: for people. `pod`: `namespace/name` of the pod that the token is bound to, or empty.

    `service`: the only one that it may report; None: all of them, as a gateway does. `expires_s`: when the token does,
    by the monotonic clock.
    """

    name: str
    pod: str = ""
    service: str | None = None
    expires_s: float = float("inf")
    token_id: bytes = b""
    """Who judged the token names it so, should it turn out to prove nothing."""


class Refused(msgspec.Struct, frozen=True):
    """The token proves nothing. `reason` is told to its sender, as a sentence. `is_passing`: it may be judged later."""

    reason: str
    is_passing: bool = False
    come_again_s: float = 0.0
    """In so many seconds, where it is known when there will be time for it; 0: its sender tries as it likes."""


class Source(msgspec.Struct, frozen=True):
    """As it is known to the autoscaler. `scope`: the one service that it sees; None for all. `holds`: it is a gateway
    or an activator, which send requests to replicas. `workers`: sources of its pod."""

    name: str
    incarnation: str
    scope: str | None
    holds: bool = False
    workers: int = 1


def source_of(hello: Hello, identity: Identity) -> Source | Refused:
    """What the source is taken for; Refused where it claims more than its token proves."""
    if not 0 < len(hello.source) <= _MOST_NAME or not 0 < len(hello.incarnation) <= _MOST_NAME:
        return Refused(f"A source has a name and an incarnation of 1 to {_MOST_NAME} letters.")
    scope = identity.service
    if scope is not None:
        if hello.kind != "sidecar":
            return Refused(f"{identity.name} may report {scope} as a sidecar, and not as {hello.kind}.")
        if hello.service and hello.service != scope:
            return Refused(f"{identity.name} may report {scope}, and not {shown(hello.service)}.")
    elif hello.kind == "sidecar":
        scope = hello.service or None
    if not identity.pod:
        name = hello.source
    else:
        # a pod has one sidecar; a gateway's has a source for each worker
        name = identity.pod if hello.kind == "sidecar" else f"{identity.pod}/{hello.source}"
    return Source(name, hello.incarnation, scope, hello.kind != "sidecar", hello.workers)
