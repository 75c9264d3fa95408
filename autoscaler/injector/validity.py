"""When the webhook's certificates are made anew: the steps, one at a time, so that nobody is ever without trust. Pure.

The API server trusts all living authorities of the bundle. A new authority is published first and signs only
`SETTLE_S` later; what the old one signed goes on being served until then, and the old one stays in the bundle until it
expires. Every replica may take a step: the write is conditional on what it saw. Called by
`autoscaler.injector.rotation`.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

_DAY_S: Final = 86400.0
AUTHORITY_LIVES_S: Final = 2 * 365 * _DAY_S
LEAF_LIVES_S: Final = 90 * _DAY_S
"""As a public authority's: whoever reads expiry dates is used to it."""
_RENEWED_AFTER: Final = 2 / 3
"""Of a life; the rest is for an autoscaler that was away."""
SETTLE_S: Final = 3600.0
"""From publishing an authority to using it. API servers learn of it within seconds; replicas look every ten minutes."""


class Authority(msgspec.Struct, frozen=True):
    """A certificate that signs. Stamps of the wall clock."""

    fingerprint: str
    made_at: float
    until_at: float


class Leaf(msgspec.Struct, frozen=True):
    """The certificate that is served. `issuer`: fingerprint of its authority."""

    issuer: str
    names: tuple[str, ...]
    made_at: float
    until_at: float


class Held(msgspec.Struct, frozen=True):
    """What there is; authorities oldest first."""

    authorities: tuple[Authority, ...] = ()
    leaf: Leaf | None = None


class NewAuthority(msgspec.Struct, frozen=True):
    """Make one, behind those that there are."""


class NewLeaf(msgspec.Struct, frozen=True):
    """Make one that `issuer` signs."""

    issuer: str


class Forget(msgspec.Struct, frozen=True):
    """Take these authorities out of the bundle."""

    fingerprints: tuple[str, ...]


Step: TypeAlias = NewAuthority | NewLeaf | Forget


class Plan(msgspec.Struct, frozen=True):
    """The next step; without one, when to look again at the latest."""

    step: Step | None
    revisit_at: float


def plan(held: Held, names: Sequence[str], now_at: float) -> Plan:
    """What to do now. See the module."""
    expired = tuple(authority.fingerprint for authority in held.authorities if authority.until_at <= now_at)
    if expired:
        return Plan(Forget(expired), now_at)
    if not held.authorities or now_at >= _renewal_at(held.authorities[-1]):
        return Plan(NewAuthority(), now_at)
    signing = _signing(held.authorities, now_at)
    leaf = held.leaf
    if leaf is None or leaf.issuer != signing.fingerprint or leaf.names != tuple(names) or now_at >= _renewal_at(leaf):
        return Plan(NewLeaf(signing.fingerprint), now_at)
    return Plan(None, min(_changes_at(held.authorities, leaf, now_at)))


def _renewal_at(certificate: Authority | Leaf) -> float:
    return certificate.made_at + (certificate.until_at - certificate.made_at) * _RENEWED_AFTER


def _signing(authorities: Sequence[Authority], now_at: float) -> Authority:
    """The newest that everybody trusts by now; where none is old enough, nobody trusted anything before the oldest."""
    settled = [authority for authority in authorities if authority.made_at + SETTLE_S <= now_at]
    return settled[-1] if settled else authorities[0]


def _changes_at(authorities: Sequence[Authority], leaf: Leaf, now_at: float) -> list[float]:
    stamps = [_renewal_at(authorities[-1]), _renewal_at(leaf), *(authority.until_at for authority in authorities)]
    return stamps + [stamp for one in authorities if (stamp := one.made_at + SETTLE_S) > now_at]
