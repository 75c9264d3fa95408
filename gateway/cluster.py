"""The process that watches a cluster for a gateway: services and replicas out of its objects, and wakes into them.

The only process of a gateway that speaks with the Kubernetes API, and the only one that loads what that takes. It
carries no traffic: when it ends, another one begins, and the workers go on by what they know. What is different goes
to the parent at once and then at most every `SPACING_S`, so that a rollout is not a change for each of its pods.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from gateway.bare_book import Crowd
from gateway.bare_probes import BareProbes
from gateway.changes import NOTHING, encode
from gateway.channel import Channel
from gateway.cluster_book import ClusterBook
from gateway.messages import Alive, Changed, FromParent, Leave, LeaveAtOnce, News, Ready, WakeUp, Woken
from gateway.settings import Settings
from zerogate.clock import now
from zerogate.errors import MachineError
from zerogate.garbage import set_aside
from zerogate.kube.access import Access, way_in
from zerogate.kube.catalog import Managed
from zerogate.kube.client import KubeClient
from zerogate.kube.event_book import About, Happening
from zerogate.kube.extra_kinds import ExtraKinds
from zerogate.kube.feed import Feed
from zerogate.kube.happenings import Happenings
from zerogate.kube.objects import Pod, Workload
from zerogate.kube.peers import GATEWAY_PODS, LABELS, GatewayPod, peers_of
from zerogate.kube.route_book import RouteReading
from zerogate.kube.route_feed import RouteFeed
from zerogate.kube.route_objects import HTTP_ROUTES
from zerogate.kube.scaling import Scales
from zerogate.kube.unmade import Unmade
from zerogate.kube.waking import Waker
from zerogate.kube.watching import Change, Watched
from zerogate.tasks import Nursery

log = logging.getLogger("gateway")

SPACING_S: Final = 0.02
"""The first change goes at once; beyond that many pods of a rollout are one change, and nobody notices 20 ms."""
LIFE_S: Final = 1.0
AGAIN_S: Final = 2.0
"""After a way into the cluster that was none: a file may come, a token may be mounted later."""
LAST_WORDS_S: Final = 1.0
PEERS_S: Final = 5.0
"""For the list of the gateways, at the start; a gateway that may not see it serves all but limited pods without a
sidecar."""


class Cluster:
    """See the module's text. Make it on the loop it shall run on; a listener of the feed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._channel = Channel(self._on_message, self._on_orphaned)
        self._nursery = Nursery(self._on_failure)
        self._told_to_leave = asyncio.Event()
        self._feed: Feed | None = None
        self._http: RouteFeed | None = None
        self._is_reading_due = True
        self._book = ClusterBook(self._workload_of)
        self._peers: Watched[GatewayPod] | None = None
        self._probes = BareProbes(self._on_answer)
        self._waker: Waker | None = None
        self._unmade: Unmade | None = None
        self._happenings: Happenings | None = None
        self._news: News | None = None
        """What was said last; nothing yet: the parent may know what another one said before."""
        self._fault = ""
        """Why there is no way into the cluster at all."""
        self._is_begun = False
        """Everything there is was told once."""
        self._flush_timer: asyncio.TimerHandle | None = None
        self._flushed_s = float("-inf")

    async def run(self, channel: socket.socket) -> None:
        """Watch until told to leave."""
        await self._channel.open(channel)
        # as the admin process: it serves until the last worker has ended
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
        self._nursery.start(self._show_life(), name="signs of life")
        watching = self._nursery.start(self._watch(), name="cluster")
        await self._told_to_leave.wait()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await self._nursery.aclose()
        await self._channel.close(within_s=LAST_WORDS_S)

    async def _watch(self) -> None:
        client = KubeClient(await self._access())
        self._fault = ""
        self._channel.say(Ready())  # to read a kubeconfig may keep the loop for seconds, which is no hang before this
        self._happenings = Happenings(
            client, controller="zerogate.dev/gateway", instance=self._settings.pod or socket.gethostname()
        )  # fmt: skip
        scales = Scales(client)
        # all pods: those that nobody injected have no label to be found by, and take requests too
        self._feed = Feed(
            client, self, home=self._settings.namespace, namespace=self._settings.watch,
            on_namespace=self._on_http_routes,
        )  # fmt: skip
        self._http = RouteFeed(
            client, namespace_labels=self._feed.namespace_labels, on_change=self._on_http_routes,
            namespace=self._settings.watch,
        )  # fmt: skip
        self._waker = Waker(scales, is_blind=self._is_blind)
        self._unmade = Unmade(client, self._nursery, self._on_unmade)
        self._peers = Watched(client, GATEWAY_PODS, namespace=self._settings.namespace, labels=LABELS)
        try:
            self._happenings.start()
            kinds = ExtraKinds(scales, self._feed, self._settings.kinds, on_silent=self._complain_of)
            await kinds.find()
            self._fault = ""
            await self._feed.start()
            await self._http.start()
            self._peers.start(self._on_peer)
            with suppress(TimeoutError):
                async with asyncio.timeout(PEERS_S):
                    await self._peers.wait_synced()
            self._look_at_peers()
            self._nursery.start(kinds.find_missing(), name="kinds that are missing")
            self._is_begun = True
            self._tell(is_first=True)
            set_aside()
            await self._told_to_leave.wait()
        finally:
            self._probes.close()
            await self._peers.aclose()
            await self._http.aclose()
            await self._feed.aclose()
            await self._happenings.aclose()
            await client.aclose()

    def _complain_of(self, fault: str) -> None:
        if self._fault != fault:
            log.error("%s", fault)
        self._fault = fault

    def _on_failure(self, name: str, failure: BaseException) -> None:
        """A fault of ours: whoever is forked instead begins anew."""
        log.error("%s failed", name, exc_info=failure)
        self._told_to_leave.set()

    async def _access(self) -> Access:
        while True:
            try:
                return await way_in(self._settings.kubeconfig, os.environ)
            except MachineError as error:
                self._complain_of(str(error))
            await asyncio.sleep(AGAIN_S)

    def _is_blind(self) -> bool:
        return self._feed is not None and bool(self._feed.faults)

    def _workload_of(self, service: str) -> Workload | None:
        return self._feed.workload_of(service) if self._feed is not None else None

    # What the feed tells

    def on_services(self, services: Mapping[str, Managed]) -> None:
        """All services; some are new, different or gone."""
        self._book.on_services(services)
        self._on_http_routes()

    def on_number(self, service: str, number: int, version: int) -> None:
        """A workload looks different."""
        self._book.on_number(service)
        self._tell_soon()

    def on_pod(self, service: str, pod: Pod) -> None:
        """A pod is new or looks different."""
        self._book.on_pod(service, pod)
        self._tell_soon()

    def on_pod_gone(self, service: str, name: str) -> None:
        """A pod is gone."""
        self._book.on_pod_gone(service, name)
        self._tell_soon()

    def _on_http_routes(self) -> None:
        """HTTPRoutes, or what they lead to, are different."""
        self._is_reading_due = True
        self._tell_soon()

    def _on_peer(self, _: Change, old: GatewayPod | None, new: GatewayPod | None) -> None:
        if self._look_at_peers():
            self._tell_soon()

    def _look_at_peers(self) -> bool:
        """Whether it makes a difference how the gateways are now."""
        watched, settings = self._peers, self._settings
        if watched is None:
            return False
        me, pods = settings.pod or socket.gethostname(), watched.items
        peers = peers_of(pods.values()) if watched.is_synced or pods else None
        is_fit = bool(settings.listen.port) and not any(
            one.host and one.host.encode() in settings.trusted for one in peers or ()
        )  # fmt: skip
        return self._book.on_crowd(
            Crowd(
                me=me, peers=peers, is_member=(settings.namespace, me) in pods,
                may_pass=is_fit and self._sees_peers(watched), port=settings.listen.port,
                workers=settings.workers or len(os.sched_getaffinity(0)),
            )
        )  # fmt: skip

    def _sees_peers(self, watched: Watched[GatewayPod]) -> bool:
        """Where others may see more than this one, requests are better held than passed in a circle. Where nobody sees
        anything new, all go on by the same."""
        return watched.fault is None or self._is_blind()

    def _on_answer(self, uid: str, is_ready: bool) -> None:
        if self._book.on_answer(uid, is_ready=is_ready):
            self._tell_soon()

    # What the parent is told

    def _on_unmade(self, service: str, words: str) -> None:
        if self._book.on_unmade(service, words):
            self._tell_soon()

    def _tell_soon(self) -> None:
        if self._is_begun and self._flush_timer is None:
            wait_s = max(0.0, self._flushed_s + SPACING_S - now())
            self._flush_timer = asyncio.get_running_loop().call_later(wait_s, self._tell)

    def _tell(self, *, is_first: bool = False) -> None:
        self._flush_timer = None
        self._flushed_s = now()
        if self._is_reading_due and self._http is not None:
            self._is_reading_due = False
            self._book.on_http_routes(self._http.readings(self._book.entries).values())
        refused = self._book.refused
        slices = [encode(change) for change in self._book.take(now())]
        self._probes.keep(self._book.questions())
        if is_first and not slices:
            slices = [encode(NOTHING)]
        for index, data in enumerate(slices):
            self._channel.say(Changed(data, is_first=is_first and index == 0, is_last=index == len(slices) - 1))
        if self._book.refused != refused:
            self._complain(refused)
            self._say_news()

    def _complain(self, before: Mapping[str, tuple[str, ...]]) -> None:
        """Where people look, of routes that somebody asked for and did not get."""
        for owner, sentences in self._book.refused.items():
            reading = self._book.http_routes.get(owner)
            about = _about_route(reading) if reading is not None else _about(self._book.entries[owner])
            for sentence in sentences:
                if sentence in before.get(owner, ()):
                    continue
                log.warning("%s: %s", owner, sentence)
                if self._happenings is not None:
                    self._happenings.tell(_conflict(about, sentence))

    def _say_news(self) -> None:
        faults = self._faults()
        news = News(
            faults=faults or ((self._fault,) if self._fault and not self._is_begun else ()),
            refused=self._book.notices(),
        )
        if news != self._news:
            self._news = news
            self._channel.say(news)

    def _faults(self) -> tuple[str, ...]:
        feeds = (self._feed, self._http)
        faults = [fault for feed in feeds if feed is not None for fault in feed.faults]
        if self._peers is not None and self._peers.fault is not None:
            faults.append(f"other gateways are not seen: {self._peers.fault}")
        return tuple(dict.fromkeys(faults))

    async def _show_life(self) -> None:
        while True:
            if not self._channel.is_behind:
                self._say_news()
                self._channel.say(Alive())
            if self._unmade is not None:
                self._unmade.ask(self._book.take_unmade(now()))
            is_due = self._book.on_time(now())
            if self._look_at_peers() or is_due:  # a watch that fails, or is back, is not told
                self._tell_soon()
            await asyncio.sleep(LIFE_S)

    # What the parent says

    def _on_message(self, message: FromParent) -> None:
        if isinstance(message, WakeUp):
            self._nursery.start(self._wake(message.service), name=f"wake {message.service}")
        elif isinstance(message, Leave | LeaveAtOnce):
            self._told_to_leave.set()

    def _on_orphaned(self) -> None:
        self._told_to_leave.set()

    async def _wake(self, service: str) -> None:
        entry, workload = self._book.entries.get(service), self._workload_of(service)
        if entry is None or workload is None or self._waker is None:
            return
        if await self._waker.wake(entry, workload):
            self._channel.say(Woken(service))
            if self._happenings is not None:
                self._happenings.tell(_woken(entry))


def _about(entry: Managed) -> About:
    return About(entry.resource.api_version, entry.kind, *entry.key, entry.uid)


def _about_route(reading: RouteReading) -> About:
    return About(HTTP_ROUTES.api_version, "HTTPRoute", *reading.key, reading.uid)


def _conflict(about: About, sentence: str) -> Happening:
    return Happening(about=about, reason="RouteTaken", action="Route", note=sentence, is_warning=True)


def _woken(entry: Managed) -> Happening:
    note = "A request waited, and no autoscaler answered or could write: a gateway scaled from 0 to 1."
    return Happening(about=_about(entry), reason="WokenByGateway", note=note, is_warning=True)


async def serve(settings: Settings, channel: socket.socket) -> None:
    """The process's life."""
    await Cluster(settings).run(channel)
