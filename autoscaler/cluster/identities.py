"""Who a source of reports is: its ServiceAccount token, judged by the API server (TokenReview) and remembered.

A token bound to a pod of a workload may speak for that workload's service alone; the accounts of gateways and
activators, named in the settings, may speak for all. Anything else proves nothing. A judgement is remembered by the
token's digest for as long as the token lives, at most `REMEMBERED_S`: sources that come again cost no second review,
and a token that is taken back is refused after that time at the latest.
"""

import asyncio
import base64
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from autoscaler.identity import Identity, Refused
from zerogate.clock import now, wall
from zerogate.errors import shown
from zerogate.kube.client import KubeClient
from zerogate.kube.decoding import decode
from zerogate.kube.errors import Asked, KubeError
from zerogate.kube.rate import Priority

REMEMBERED_S: Final = 600.0
"""The API server's own webhook authenticators remember for two to five minutes; a stream is a longer-lived thing."""
LEAST_S: Final = 60.0
"""Of a token that the API server has just found good, whatever our own clock says. Tokens live for ten minutes or more,
and are replaced after four fifths of that, so seldom is one shown in its last minute."""
_MOST_REMEMBERED: Final = 20_000
"""As many as there may be streams."""
_POD_SHOWS_S: Final = 3.0
"""A pod's first report may be faster than the watch that tells of the pod."""
_LOOK_AGAIN_S: Final = 0.1
_PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_ASKED: Final = Asked(verb="create", group="authentication.k8s.io", resource="tokenreviews")
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    extra: Mapping[str, tuple[str, ...]] = {}


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()
    audiences: tuple[str, ...] = ()
    error: str = ""


class _Review(msgspec.Struct, frozen=True):
    status: _Status = _Status()


class Proven(msgspec.Struct, frozen=True, kw_only=True):
    """What the API server says of a token. `expires_s`: monotonic. `pod`: bound to that one; empty: to none."""

    namespace: str
    account: str
    pod: str
    uid: str
    expires_s: float


class Identities:
    """See the module's text. `service_of(namespace, pod, uid)`: the service that a pod belongs to; None: none, yet."""

    def __init__(
        self,
        client: KubeClient,
        service_of: Callable[[str, str, str], str | None],
        *,
        home: str,
        audience: str,
        reporters: tuple[str, ...],
        clock: Callable[[], float] = now,
        calendar: Callable[[], float] = wall,
    ) -> None:
        self._client = client
        self._service_of = service_of
        self._home = home
        self._audience = audience
        self._reporters = reporters
        self._clock = clock
        self._calendar = calendar
        self._proven: OrderedDict[bytes, tuple[float, Proven]] = OrderedDict()
        """By the token's digest: until when it is remembered."""
        self.reviews = 0
        """How often the API server was asked."""

    async def authenticate(self, token: str) -> Identity | Refused:
        """Who shows the token. Raises nothing: a review that cannot be had now is a refusal that says so."""
        if not token:
            return Refused("A source shows a ServiceAccount token, and this one showed none.")
        try:
            proven = await self._prove(token)
        except KubeError as error:
            return Refused(f"The token could not be judged: {error}", is_passing=True)
        return proven if isinstance(proven, Refused) else await self._identity(proven)

    async def _identity(self, proven: Proven) -> Identity | Refused:
        name = f"{proven.namespace}/{proven.pod or proven.account}"
        pod = f"{proven.namespace}/{proven.pod}" if proven.pod else ""
        if proven.namespace == self._home and proven.account in self._reporters:
            return Identity(name=name, pod=pod, expires_s=proven.expires_s)
        if not pod:
            return Refused(f"ServiceAccount {name} may not report, and the token is bound to no pod of a service.")
        service = await self._wait_for_service(proven)
        if service is None:
            return Refused(f"Pod {name} belongs to no service of zerogate.")
        return Identity(name=name, pod=pod, service=service, expires_s=proven.expires_s)

    async def _wait_for_service(self, proven: Proven) -> str | None:
        until_s = self._clock() + _POD_SHOWS_S
        while (service := self._service_of(proven.namespace, proven.pod, proven.uid)) is None:
            if self._clock() >= until_s:
                return None
            await asyncio.sleep(_LOOK_AGAIN_S)
        return service

    async def _prove(self, token: str) -> Proven | Refused:
        digest = hashlib.sha256(token.encode()).digest()
        known = self._proven.get(digest)
        if known is not None and self._clock() < known[0]:
            return known[1]
        status = await self._review(token)
        proven = self._read(token, status)
        if isinstance(proven, Proven):
            self._proven[digest] = min(proven.expires_s, self._clock() + REMEMBERED_S), proven
            if len(self._proven) > _MOST_REMEMBERED:
                self._proven.popitem(last=False)
        return proven

    async def _review(self, token: str) -> _Status:
        self.reviews += 1
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        answer = await self._client.request("POST", _PATH, asked=_ASKED, body=body, priority=Priority.REVIEW)
        return decode(answer, _Review).status

    def _read(self, token: str, status: _Status) -> Proven | Refused:
        if not status.authenticated or self._audience not in status.audiences:
            why = f": {status.error}" if status.error else ""
            return Refused(f"The API server does not know the token for the audience {shown(self._audience)}{why}.")
        parts = status.user.username.split(":")
        if len(parts) != 4 or parts[:2] != ["system", "serviceaccount"]:
            return Refused(f"{shown(status.user.username)} is not a ServiceAccount.")
        extra = status.user.extra
        return Proven(
            namespace=parts[2],
            account=parts[3],
            pod=next(iter(extra.get(_POD_NAME, ())), ""),
            uid=next(iter(extra.get(_POD_UID, ())), ""),
            expires_s=self._clock() + expires_in_s(token, self._calendar()),
        )


def expires_in_s(token: str, wall_s: float) -> float:
    """How long a token that was found good just now is so: its own `exp`; without one, as long as it is remembered.

    The API server's clock counts, not ours: who is ahead of it gives at least `LEAST_S` and asks again then, and who is
    behind gives at most the time that the token had in all.
    """
    try:
        body = token.split(".")[1]
        claims: Any = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        ends_at = float(claims["exp"])
        return min(max(ends_at - wall_s, LEAST_S), ends_at - float(claims.get("iat", wall_s)))
    except (IndexError, KeyError, TypeError, ValueError, msgspec.MsgspecError):
        return REMEMBERED_S
