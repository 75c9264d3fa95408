"""Who a source of reports is: its ServiceAccount token, judged here or by the API server, and remembered.

A token bound to a pod of a workload may speak for that workload's service alone; the accounts of gateways and
activators, named in the settings, may speak for all. Anything else proves nothing.

A token that the API server's own keys prove (`token_keys`), bound to a pod that is there by our own watch, is believed
at once, so that ten thousand sources which come together are heard within seconds. The server is asked afterwards
(TokenReview), as fast as it can bear, and what it refuses is taken back (`on_withdrawn`). All others are shown to it
first; for whom there is no time, comes again when there is. What the server has said is remembered by the token's
digest for as long as the token lives, at most `REMEMBERED_S`.

Invariants: what is believed without the server is signed by it, in force, and of a pod that lives; each such token is
shown to it in its turn, and a refused one is not believed again. Bounded in tokens that are remembered, doubted, or
wait for the server.
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from autoscaler.cluster.reviews import REMEMBERED_S, Proven, Reviews
from autoscaler.cluster.token_keys import TokenKeys
from autoscaler.cluster.tokens import FORGED, Claims
from autoscaler.identity import Identity, Refused
from autoscaler.knocks import Appointments
from zerogate.clock import now, wall
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import KubeError
from zerogate.kube.rate import Rates

log = logging.getLogger(__name__)

_MOST_REMEMBERED: Final = 20_000
"""As many as there may be streams."""
_MOST_WAITING: Final = 600
"""For the server, two seconds at the rate of reviews: a source gives up after five."""
CONFIRMERS: Final = 8
"""Reviews afterwards, at a time: who is to be shown to the server first waits for no more of them."""
_CROWDED_S: Final = 0.2
"""Between two reviews of a confirmer while many wait: 40 a second in all, so that no crowd puts them off for ever."""
_SERVER_AGAIN_S: Final = 5.0
"""After it could not be asked."""
_POD_SHOWS_S: Final = 3.0
"""A pod's first report may be faster than the watch that tells of the pod."""
_LOOK_AGAIN_S: Final = 0.1


class Identities:
    """See the module's text. `confirm` runs as a task.

    `service_of(namespace, pod, uid)`: the service that a pod belongs to; None: none, yet. `is_ours(namespace, pod,
    uid)`: whether it is a gateway's or an activator's that lives. `keys`: None, and the server judges all of them.
    `on_withdrawn(token_id, why)`: who was believed to be an `Identity` with that one is it no longer. `is_crowded()`:
    many wait to be heard, who go first.
    """

    def __init__(
        self,
        client: KubeClient,
        service_of: Callable[[str, str, str], str | None],
        *,
        home: str,
        audience: str,
        reporters: tuple[str, ...],
        keys: TokenKeys | None = None,
        is_ours: Callable[[str, str, str], bool] = lambda *_: False,
        on_withdrawn: Callable[[bytes, Refused], None] = lambda *_: None,
        is_crowded: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = now,
        calendar: Callable[[], float] = wall,
    ) -> None:
        self._reviews = Reviews(client, audience=audience, clock=clock, calendar=calendar)
        self._service_of = service_of
        self._home = home
        self._reporters = reporters
        self._clock = clock
        self._calendar = calendar
        self._keys = keys
        self._is_ours = is_ours
        self._on_withdrawn = on_withdrawn
        self._is_crowded = is_crowded
        self._proven: OrderedDict[bytes, tuple[float, Proven]] = OrderedDict()
        """By the token's digest: until when it is remembered."""
        self._doubted: OrderedDict[bytes, str] = OrderedDict()
        """Believed, and to be shown to the server yet, in this order."""
        self._is_doubt = asyncio.Event()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        """Digests of what was believed and the server has refused, without its signature, which can be written in more
        than one way."""
        self._waiting = 0
        self._appointments = Appointments(Rates().review_rate)
        self._fault = ""
        self.withdrawn = 0
        """How often the API server refused what was believed."""

    @property
    def reviews(self) -> int:
        """How often the API server was asked."""
        return self._reviews.count

    @property
    def doubted(self) -> int:
        """Tokens that are believed and not confirmed yet."""
        return len(self._doubted)

    async def authenticate(self, token: str) -> Identity | Refused:
        """Who shows the token. Raises nothing: a review that cannot be had now is a refusal that says so."""
        if not token:
            return Refused("A source shows a ServiceAccount token, and this one showed none.")
        digest = hashlib.sha256(token.encode()).digest()
        proven = self._remembered(digest) or self._proven_here(token, digest)
        if proven is None:
            proven = await self._prove(token, digest)
        return proven if isinstance(proven, Refused) else await self._identity(proven, digest)

    def _remembered(self, digest: bytes) -> Proven | None:
        known = self._proven.get(digest)
        return known[1] if known is not None and self._clock() < known[0] else None

    def _proven_here(self, token: str, digest: bytes) -> Proven | Refused | None:
        """Without the server; None: it is to be asked first."""
        if self._keys is None or _unsigned(token) in self._wrong:
            return None
        claims = self._keys.judge(token)
        if claims == FORGED:
            return Refused("The token is not signed by the key that it names.")
        if not isinstance(claims, Claims) or not self._is_alive(claims):
            return None
        if digest not in self._doubted:
            if len(self._doubted) >= _MOST_REMEMBERED:
                return None
            self._doubted[digest] = token
            self._is_doubt.set()
        left_s = min(claims.expires_at - self._calendar(), claims.expires_at - claims.began_at)
        return Proven(
            namespace=claims.namespace, account=claims.account, pod=claims.pod, uid=claims.uid,
            expires_s=self._clock() + left_s,
        )  # fmt: skip

    def _is_alive(self, claims: Claims) -> bool:
        """Its pod is there, and somebody who may report: then the server has nothing to say that we cannot see but that
        an account or a node is gone."""
        pod = claims.namespace, claims.pod, claims.uid
        return self._is_ours(*pod) if self._is_reporters(claims) else self._service_of(*pod) is not None

    def _is_reporters(self, one: "Claims | Proven") -> bool:
        return one.namespace == self._home and one.account in self._reporters

    async def _identity(self, proven: Proven, digest: bytes) -> Identity | Refused:
        name = f"{proven.namespace}/{proven.pod or proven.account}"
        pod = f"{proven.namespace}/{proven.pod}" if proven.pod else ""
        if self._is_reporters(proven):
            return Identity(name=name, pod=pod, expires_s=proven.expires_s, token_id=digest)
        if not pod:
            return Refused(f"ServiceAccount {name} may not report, and the token is bound to no pod of a service.")
        service = await self._wait_for_service(proven)
        if service is None:
            return Refused(f"Pod {name} belongs to no service of zerogate.")
        return Identity(name=name, pod=pod, service=service, expires_s=proven.expires_s, token_id=digest)

    async def _wait_for_service(self, proven: Proven) -> str | None:
        until_s = self._clock() + _POD_SHOWS_S
        while (service := self._service_of(proven.namespace, proven.pod, proven.uid)) is None:
            if self._clock() >= until_s:
                return None
            await asyncio.sleep(_LOOK_AGAIN_S)
        return service

    async def _prove(self, token: str, digest: bytes) -> Proven | Refused:
        """By the server, before anything is believed."""
        if self._waiting >= _MOST_WAITING:
            come_again_s = self._appointments.next_s(self._clock())
            return Refused("There are more tokens to judge than can be.", is_passing=True, come_again_s=come_again_s)
        self._waiting += 1
        try:
            return await self._ask(token, digest)
        except KubeError as error:
            return Refused(f"The token could not be judged: {error}", is_passing=True)
        finally:
            self._waiting -= 1

    async def _ask(self, token: str, digest: bytes) -> Proven | Refused:
        """Raises KubeError."""
        proven = await self._reviews.ask(token)
        if isinstance(proven, Proven):
            self._proven[digest] = min(proven.expires_s, self._clock() + REMEMBERED_S), proven
            if len(self._proven) > _MOST_REMEMBERED:
                self._proven.popitem(last=False)
        return proven

    async def confirm(self) -> None:
        """Show the server what was believed, one after the other, for ever; several may run."""
        while True:
            if not self._doubted:
                self._is_doubt.clear()
                await self._is_doubt.wait()
                continue
            if self._is_crowded():
                await asyncio.sleep(_CROWDED_S)
                if not self._doubted:
                    continue
            digest, token = self._doubted.popitem(last=False)
            try:
                said = await self._ask(token, digest)
            except KubeError as error:
                self._doubted[digest] = token
                if str(error) != self._fault:
                    self._fault = str(error)
                    log.warning("sources are heard whose tokens the API server does not judge: %s", error)
                await asyncio.sleep(_SERVER_AGAIN_S)
            else:
                if isinstance(said, Refused):
                    self._withdraw(digest, token, said)

    def _withdraw(self, digest: bytes, token: str, why: Refused) -> None:
        self.withdrawn += 1
        self._wrong[_unsigned(token)] = None
        if len(self._wrong) > _MOST_REMEMBERED:
            self._wrong.popitem(last=False)
        self._on_withdrawn(digest, why)


def _unsigned(token: str) -> bytes:
    return hashlib.sha256(token.rpartition(".")[0].encode()).digest()
