"""What the API server says of a ServiceAccount's token: one TokenReview for each question.

It alone knows all that there is to know of a token, such as that its account was deleted. Called by
`autoscaler.cluster.identities`, which remembers the answers.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from autoscaler.identity import Refused
from zerogate.clock import now, wall
from zerogate.errors import UNREADABLE, shown
from zerogate.kube.client import KubeClient
from zerogate.kube.decoding import decode
from zerogate.kube.errors import Asked
from zerogate.kube.rate import Priority

REMEMBERED_S: Final = 600.0
"""The API server's own webhook authenticators remember for two to five minutes; a stream is a longer-lived thing."""
LEAST_S: Final = 60.0
"""Of a token that the API server has just found good, whatever our own clock says. Tokens live for ten minutes or more,
and are replaced after four fifths of that, so seldom is one shown in its last minute."""
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
    """What a token proves. `expires_s`: monotonic. `pod`: bound to that one; empty: to none."""

    namespace: str
    account: str
    pod: str
    uid: str
    expires_s: float


class Reviews:
    """See the module's text."""

    def __init__(
        self,
        client: KubeClient,
        *,
        audience: str,
        clock: Callable[[], float] = now,
        calendar: Callable[[], float] = wall,
    ) -> None:
        self._client = client
        self._audience = audience
        self._clock = clock
        self._calendar = calendar
        self.count = 0
        """How often the API server was asked."""

    async def ask(self, token: str) -> Proven | Refused:
        """Raises KubeError where there is no answer."""
        return self._read(token, await self._review(token))

    async def _review(self, token: str) -> _Status:
        self.count += 1
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
    except (*UNREADABLE, IndexError, KeyError, TypeError, ValueError):
        return REMEMBERED_S
