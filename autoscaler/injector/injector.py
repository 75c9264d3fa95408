"""The webhook of one autoscaler: its server, its certificates, its Events, as one object that is started and ended.

Every replica runs one, the leader or not. It needs nothing of the others: the Secret is what they share. Its
certificates are the process's, or its own where it is alone. Made by the autoscaler's process, on the loop that it is
used on.
"""

import secrets
import socket
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from autoscaler.certificates import Certificates, certificates_of
from autoscaler.injector.answering import Answering, Notice
from autoscaler.injector.cluster import ClusterLookup, Known, Nothing
from autoscaler.injector.manifests import Installation
from autoscaler.injector.secret import SECRET
from autoscaler.injector.server import Webhook
from zerogate.clock import wall
from zerogate.kube.client import KubeClient
from zerogate.kube.event_book import About, Happening
from zerogate.kube.feed import KINDS
from zerogate.kube.objects import Resource, Workload
from zerogate.kube.rate import Rates
from zerogate.kube.sidecar import SidecarTerms
from zerogate.tasks import Nursery

RATES: Final = Rates(rate=400.0, burst=500.0)
"""For the webhook's own client: it asks only when it is asked, and a pod that waits for its turn is late or without a
sidecar. Twice as many pods as one API server on two cores was seen to make in a second."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the webhook is told. `installation` says by which names it is asked; `secret` holds its certificates."""

    sidecar: SidecarTerms
    installation: Installation = Installation()
    secret: str = SECRET
    kinds: Mapping[str, Resource[Workload]] = msgspec.field(default_factory=lambda: KINDS)
    """What has a `/scale` that zerogate writes."""


class Injector:
    """See the module. `client` should be its own, with `RATES`; it stays the caller's.

    `known`: what is watched anyway; `certificates`: somebody else runs them; `tell`: where Events go.
    """

    def __init__(
        self,
        client: KubeClient,
        terms: Terms,
        *,
        tell: Callable[[Happening], None],
        known: Known | None = None,
        certificates: Certificates | None = None,
        calendar: Callable[[], float] = wall,
    ) -> None:
        home = terms.installation.namespace
        self._tell = tell
        self._nursery = Nursery()
        self._certificates = certificates or certificates_of(
            client, terms.installation, secret=terms.secret, calendar=calendar
        )  # fmt: skip
        self._runs_certificates = certificates is None
        answering = Answering(
            ClusterLookup(client, known or Nothing(), home=home, kinds=terms.kinds),
            terms.sidecar,
            notice=self._on_notice,
            new_token=_new_token,
            new_key=self._certificates.new_key,
            kinds=terms.kinds,
            config_map=terms.installation.config_map,
        )
        self._webhook = Webhook(answering.mutate, answering.validate)
        self._certificates.add_user(self._webhook.use)

    @property
    def is_serving(self) -> bool:
        """Whether it has a certificate; without one, API servers go on as if it were not there."""
        return self._certificates.is_serving

    @property
    def fault(self) -> str:
        """What keeps its certificates from being looked after, a sentence; empty: nothing."""
        return self._certificates.fault

    @property
    def counts(self) -> Mapping[str, int]:
        """Reviews by what came of them: answered, refused, failed, malformed."""
        return self._webhook.counts

    async def start(self, sock: socket.socket) -> None:
        """Serve on a bound socket, from the moment when there is a certificate."""
        await self._webhook.start(sock)
        if self._runs_certificates:
            self._nursery.start(self._certificates.run(), name="the webhook's certificates")

    def goodbye(self) -> None:
        """Go on answering, and let API servers connect anew for the next question: to another replica by then."""
        self._webhook.is_leaving = True

    async def aclose(self) -> None:
        """Finish what is asked, and close. Its endpoint should be gone by then, or pods go without a sidecar."""
        await self._nursery.aclose()
        await self._webhook.stop()

    def _on_notice(self, notice: Notice) -> None:
        workload = notice.workload
        about = About(workload.api_version, workload.kind, notice.namespace, workload.name, workload.uid)
        self._tell(
            Happening(
                about=about, reason=notice.reason, note=notice.text, action="Inject", is_warning=notice.is_warning
            )
        )


def _new_token() -> str:
    """128 bits, as `queueproxy` takes them."""
    return secrets.token_urlsafe(16)
