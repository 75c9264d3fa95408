"""The API server's public keys for tokens of ServiceAccounts, fetched and kept up to date: the shell of `tokens.py`.

Without them (a server that does not tell them, or not to this account) nothing is judged here, and every token is the
server's to judge before its source is heard. Owned by the autoscaler's composition root.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from autoscaler.cluster.tokens import UNKNOWN, Claims, Issuer, Said, claims_of, read_issuer
from autoscaler.words import count
from zerogate.clock import now, wall
from zerogate.errors import UNREADABLE
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import Asked, Forbidden, KubeError, NotFound

log = logging.getLogger(__name__)

DISCOVERY: Final = "/.well-known/openid-configuration"
KEYS: Final = "/openid/v1/jwks"
_JWKS: Final = "application/jwk-set+json"
"""The only type in which the server has them (RFC 7517 section 8.5)."""
REFRESH_S: Final = 300.0
"""The API server lets caches keep them for an hour. A key that it has taken away is believed for this long at most, and
only until the server was asked about the token."""
AGAIN_S: Final = 10.0
"""After a failure, and at the soonest for a key that is not known: who makes one up costs one request in so long."""


class TokenKeys:
    """See the module's text. `run` it as a task; `fetch` once before, so that the first sources meet keys."""

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
        self._issuer: Issuer | None = None
        self._fetched_s = float("-inf")
        self._wanted = asyncio.Event()
        self._said = ""

    @property
    def are_known(self) -> bool:
        """Whether anything can be judged here."""
        return self._issuer is not None and bool(self._issuer.keys)

    def judge(self, token: str) -> Claims | Said:
        """What the token proves here; about 0.1 ms."""
        if self._issuer is None:
            return UNKNOWN
        found = claims_of(token, self._issuer, self._audience, self._calendar())
        if found == UNKNOWN:
            self._wanted.set()
        return found

    async def fetch(self) -> None:
        """Ask the server now. Raises nothing: what was known before stays where it cannot be asked."""
        self._fetched_s = self._clock()
        self._wanted.clear()
        try:
            discovery = await self._ask(DISCOVERY, "application/json")
            self._issuer = read_issuer(discovery, await self._ask(KEYS, _JWKS))
        except (KubeError, *UNREADABLE, ValueError) as error:
            if isinstance(error, Forbidden | NotFound):
                self._issuer = None
            self._say(
                f"tokens of sources are judged by the API server alone, because it does not tell its keys: {error}"
            )
        else:
            keys = count(len(self._issuer.keys), "key")
            self._say(f"tokens of sources are judged by {keys} of the API server, and shown to it afterwards")

    async def run(self) -> None:
        """Ask again in time, and soon after a token came that the keys do not prove."""
        while True:
            try:
                async with asyncio.timeout(REFRESH_S if self.are_known else AGAIN_S):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(max(0.0, self._fetched_s + AGAIN_S - self._clock()))
            await self.fetch()

    async def _ask(self, path: str, accept: str) -> bytes:
        return await self._client.request("GET", path, asked=Asked(verb="get", resource=path), accept=accept)

    def _say(self, what: str) -> None:
        if what != self._said:
            self._said = what
            log.info("%s", what)
