"""A running autoscaler of a Kubernetes cluster, wired together. Nothing is decided here.

Order of beginning: ports, so that nothing is started where one cannot be had; then everything that the cluster shows;
then reports are heard; and only then this process stands for election: nobody leads who does not know what there is.
A follower hears and decides as the leader does, and writes nothing.
"""

import asyncio
import logging
import os
import socket

from autoscaler.certificates import certificates_of
from autoscaler.cluster.bypasses import Bypasses
from autoscaler.cluster.coverage import Coverage
from autoscaler.cluster.enabling import Enabling
from autoscaler.cluster.hands import LeadersHands
from autoscaler.cluster.identities import CONFIRMERS, Identities
from autoscaler.cluster.metrics import Process
from autoscaler.cluster.notes import Notes
from autoscaler.cluster.reporters import Reporters
from autoscaler.cluster.route_notes import RouteNotes
from autoscaler.cluster.services import Services
from autoscaler.cluster.token_keys import TokenKeys
from autoscaler.cluster.view import ClusterView
from autoscaler.decision import Decision
from autoscaler.history import History
from autoscaler.injector.manifests import Installation
from autoscaler.injector.serving import ServedWebhook
from autoscaler.injector.settings import terms_of
from autoscaler.lead import Lead
from autoscaler.loop import Autoscaler
from autoscaler.quiescer import SidecarQuiescer
from autoscaler.receiver import Receiver
from autoscaler.settings import Settings
from zerogate.admin.server import AdminServer
from zerogate.clock import now, wall
from zerogate.drain import Steps, leave
from zerogate.garbage import ShortCollections
from zerogate.http.listener import bind
from zerogate.http.sweep import Sweep
from zerogate.kube.access import Access
from zerogate.kube.client import KubeClient
from zerogate.kube.event_book import About, Happening
from zerogate.kube.extra_kinds import ExtraKinds
from zerogate.kube.feed import Feed, Together
from zerogate.kube.hands import KubeHands
from zerogate.kube.happenings import Happenings
from zerogate.kube.leases import Leadership
from zerogate.kube.objects import Key, Workload
from zerogate.kube.runtime import KubernetesRuntime
from zerogate.kube.scaling import Scales
from zerogate.kube.takeovers import Takeovers
from zerogate.loop_lag import LoopLag
from zerogate.process import usage
from zerogate.tasks import Nursery
from zerogate.version import version

log = logging.getLogger("autoscaler")


class RunningAutoscaler:
    """See the module's text. Make it on the loop it shall run on; `start` first, `stop` last. Raises MachineError."""

    def __init__(self, settings: Settings, access: Access) -> None:
        loop = asyncio.get_running_loop()
        self.settings = settings
        self.version = version()
        self.started_at = wall()
        self._sock = bind(settings.stats, what="--stats-listen", example="--stats-listen HOST:PORT")
        self.nursery = Nursery()
        self.client = KubeClient(access)
        self._begin_to_write(loop)
        self._begin_to_hear(loop)
        self._begin_to_see()
        self.webhook = self._webhook(access)
        self._begin_to_show()
        self.lead = Lead(self)
        self.is_synced = False

    def _begin_to_write(self, loop: asyncio.AbstractEventLoop) -> None:
        """Who leads, and what a leader alone does."""
        settings = self.settings
        pod = settings.pod or socket.gethostname()
        self.happenings = Happenings(self.client, controller="zerogate.dev/autoscaler", instance=pod)
        self.leadership = Leadership(
            self.client, f"{settings.release}-autoscaler",
            namespace=settings.namespace, identity=f"{pod}_{os.urandom(4).hex()}",
        )  # fmt: skip
        self.hands = LeadersHands(
            KubeHands(self.client, self.happenings), self.happenings,
            is_leader=self.leadership.is_leader,
            view=lambda service: self.autoscaler.view(service),
            adopt=lambda service, number: self.autoscaler.adopt(service, number),
            before_write=lambda kind, key: self.enabling.record_first(kind, key),
            after_floor=lambda kind, key: self.enabling.after_floor(kind, key),
        )  # fmt: skip
        self.runtime = KubernetesRuntime(self.hands, self.nursery, call_later=loop.call_later, clock=now)
        self.history = History()

    def _begin_to_hear(self, loop: asyncio.AbstractEventLoop) -> None:
        """What is counted and by whom, and what follows from it."""
        settings = self.settings
        self.bypasses = Bypasses(self.client, namespace=settings.watch)
        self.coverage = Coverage(
            lambda source: self.autoscaler.is_lost(source), self.bypasses.of, has_activators=bool(settings.activators)
        )  # fmt: skip
        self.quiescer = SidecarQuiescer(self.runtime, call_later=loop.call_later, is_bare=self.coverage.is_bare)
        self.autoscaler = Autoscaler(
            self.runtime, loop=loop, busy=self.quiescer.busy, activity=lambda _: None,
            announce=self._on_decision, unmetered=lambda service: self.services.unmetered(service),
            is_behind=lambda service: self.runtime.is_behind(service) or self.feed.lacks_pods(service),
        )  # fmt: skip
        self.services = Services(
            self.runtime, self.autoscaler, self.coverage,
            workload_of=lambda service: self.feed.workload_of(service),
            tell=self._tell, on_hpa=self.look_at_service,
        )  # fmt: skip
        self.token_keys = TokenKeys(self.client, audience=settings.audience)
        self.identities = Identities(
            self.client, self.coverage.service_of,
            home=settings.namespace, audience=settings.audience, reporters=settings.reporters,
            keys=self.token_keys, is_ours=self.coverage.is_gateway,
            on_withdrawn=lambda token_id, why: self.receiver.withdraw(token_id, why),
            is_crowded=lambda: self.receiver.is_crowded,
        )  # fmt: skip
        self.certificates = certificates_of(
            self.client, Installation(namespace=settings.namespace, service=f"{settings.release}-autoscaler"),
            secret=f"{settings.release}-webhook", has_webhook=settings.webhook.listen is not None,
            folder=settings.certificate_folder,
        )  # fmt: skip
        self.receiver = Receiver(
            self.autoscaler, self.identities.authenticate,
            is_leading=self.leadership.is_leader, sweep=Sweep(loop), nursery=self.nursery,
            listener=self.quiescer, tls=lambda: self.certificates.stats_context,
            masters=lambda: self.certificates.masters, takes_unproven=settings.takes_unproven,
            refusal=lambda service: self.runtime.wake_trouble(service),
        )  # fmt: skip

    def _begin_to_see(self) -> None:
        """What the cluster shows, and whose of it is ours."""
        settings = self.settings
        self.takeovers = self._takeovers()
        self.route_notes = RouteNotes(
            self.client, is_leader=self.leadership.is_leader,
            namespace_labels=lambda name: self.feed.namespace_labels(name), namespace=settings.watch,
        )  # fmt: skip
        self.feed = Feed(
            self.client,
            Together(self.services, self.route_notes, *(() if self.takeovers is None else (self.takeovers,))),
            home=settings.namespace, namespace=settings.watch, on_workload=self.look_at,
            on_namespace=self.route_notes.mark,
        )  # fmt: skip
        self.reporters = Reporters(
            self.client, self.coverage, namespace=settings.namespace, heard=lambda: self.receiver.of_all,
            expect=self.autoscaler.expect, on_holders=self.quiescer.set_holders,
        )  # fmt: skip
        self.enabling = Enabling(
            self.client, is_leader=self.leadership.is_leader,
            is_managed=self._is_managed, is_floored=self._is_floored,
            number_of_ours=lambda key: self.runtime.number("/".join(key)),
            on_floor_back=lambda key: self.runtime.on_policy_changed("/".join(key)),
        )  # fmt: skip

    def _begin_to_show(self) -> None:
        """What people and their tools are told."""
        settings = self.settings
        self.loop_lag = LoopLag()
        self.collections = ShortCollections()
        self.view = ClusterView(
            self.autoscaler, self.services, self.runtime, self.history,
            busy=self.quiescer.busy, waits=self.quiescer.waits, not_taken=self._not_taken,
            faults=self._faults, age_s=lambda: self.feed.age_s,
            reasons=self._reasons, process=self._process, heard_at=str(settings.stats),
        )  # fmt: skip
        self.notes = Notes(
            self.client, self.autoscaler, is_leader=self.leadership.is_leader,
            entry_of=lambda service: self.services.entries.get(service), workload_of=self.feed.workload_of,
            notices=self.view.notices,
        )  # fmt: skip
        self.admin = AdminServer(self.view, settings.admin)
        self.admin.bind()

    def _takeovers(self) -> Takeovers | None:
        settings = self.settings
        if not settings.activators:
            return None
        takeovers = Takeovers(
            self.client, home=settings.namespace, happenings=self.happenings, activators=settings.activators,
            ports=settings.takeover_ports, namespace=settings.watch,
        )  # fmt: skip
        takeovers.on_may_zero = self.runtime.on_may_zero
        self.runtime.set_stand_in(takeovers)
        return takeovers

    def _not_taken(self, service: str) -> tuple[str, ...]:
        return self.takeovers.troubles(service) if self.takeovers is not None else ()

    def _webhook(self, access: Access) -> ServedWebhook | None:
        settings = self.settings
        if settings.webhook.listen is None:
            return None
        return ServedWebhook(
            settings.webhook.listen, access,
            lambda: terms_of(
                settings.webhook, namespace=settings.namespace, release=settings.release,
                audience=settings.audience, kinds=self.feed.kinds,
            ),
            known=self.feed, tell=self.happenings.tell, certificates=self.certificates,
        )  # fmt: skip

    @property
    def stats_port(self) -> int:
        """Where reports are heard."""
        return int(self._sock.getsockname()[1])

    async def start(self) -> None:
        """See the cluster, hear reports, stand for election. Returns when all of it has begun; raises ZerogateError."""
        self.collections.start()
        await self.admin.start()
        self.loop_lag.start()
        self.quiescer.start(self.receiver)
        for observer in (self.history, self.notes):
            self.runtime.subscribe(observer)
        self.autoscaler.start()
        self.happenings.start()
        self.nursery.start(self.enabling.run(), name="enabling")
        self.nursery.start(self.notes.run(), name="status")
        kinds = ExtraKinds(
            Scales(self.client), self.feed, self.settings.kinds, on_silent=lambda why: log.error("%s", why)
        )  # fmt: skip
        await kinds.find()
        if self.takeovers is not None:
            self.takeovers.start()
        if self.webhook is not None:
            await self.webhook.start()
        self.nursery.start(self.certificates.run(), name="certificates")
        await asyncio.gather(
            self.feed.start(), self.reporters.start(), self.bypasses.start(), self.token_keys.fetch()
        )  # fmt: skip
        self.nursery.start(self.token_keys.run(), name="keys of tokens")
        for number in range(CONFIRMERS):
            self.nursery.start(self.identities.confirm(), name=f"judgement of tokens {number}")
        self.nursery.start(self.route_notes.run(), name="status of routes")
        self.nursery.start(kinds.find_missing(), name="kinds that are missing")
        await self.reporters.tell()
        self.nursery.start(self.reporters.run(), name="who should report")
        await self.receiver.start(self._sock)
        self.is_synced = True
        self.leadership.start(self.lead.on_change)

    async def stop(self) -> None:
        """Leave in order: give the lead away, hear no more, close."""
        await leave(
            Steps(
                readiness_off=self._not_ready,
                close_listeners=self.receiver.close,
                refuse_held=lambda: None,
                finish_running=self.leadership.aclose,
                stop_replicas=self._stop_steering,
                close_infrastructure=self._close,
            )
        )

    def _not_ready(self) -> None:
        self.is_synced = False
        if self.webhook is not None:
            self.webhook.goodbye()

    async def _stop_steering(self) -> None:
        self.quiescer.close()
        self.autoscaler.close()
        await self.runtime.aclose(drain_deadline_s=0.0)

    async def _close(self) -> None:
        if self.webhook is not None:
            await self.webhook.aclose()
        self.loop_lag.close()
        self.collections.close()
        if self.takeovers is not None:
            await self.takeovers.aclose()
        await asyncio.gather(
            self.feed.aclose(), self.reporters.aclose(), self.bypasses.aclose(), self.route_notes.feed.aclose()
        )
        await self.happenings.aclose()
        await self.nursery.aclose()
        await self.client.aclose()
        await self.admin.stop()

    # What is shown

    def _reasons(self) -> tuple[str, ...]:
        if self.is_synced:
            return (self.webhook.reason,) if self.webhook is not None and self.webhook.reason else ()
        return (*self.feed.faults, *self.bypasses.faults) or (
            "the state of the cluster is not known yet, or this process is leaving",
        )

    def _faults(self) -> tuple[str, ...]:
        feeds = (self.feed, self.bypasses, self.route_notes, self.certificates)
        return tuple(dict.fromkeys(fault for feed in feeds for fault in feed.faults))

    def _process(self) -> Process:
        used, figures = usage(), self.receiver.figures
        return Process(
            version=self.version, started_at=self.started_at, cpu_s=used.cpu_s, resident_bytes=used.resident_bytes,
            open_files=used.open_files, loop_lag=self.loop_lag.histogram, is_leader=self.leadership.is_leader(),
            state_age_s=self.feed.age_s, streams=len(self.receiver.streams), reports=figures.reports,
            wakes=figures.wakes, forged=figures.forged, throttled=figures.throttled, refused=figures.refused,
            proofs=self.receiver.proofs(), reviews=self.webhook.counts if self.webhook is not None else {},
            shut_gates=self.quiescer.shut, waited_gates=self.quiescer.waiting,
            token_reviews=self.identities.reviews, unjudged_tokens=self.identities.doubted,
            withdrawn_tokens=self.identities.withdrawn, scale_writes=self.hands.writes,
            failed_writes=self.hands.failures, dropped_events=self.happenings.dropped,
        )  # fmt: skip

    # What changes

    def _on_decision(self, decision: Decision) -> None:
        self.history.on_decision(decision)
        self.notes.on_decision(decision)

    def look_at_service(self, service: str) -> None:
        """Its workload may have to be noted, or given back."""
        entry, workload = self.services.entries.get(service), self.feed.workload_of(service)
        if entry is not None and workload is not None:
            self.look_at(entry.kind, workload)

    def look_at(self, kind: str, workload: Workload) -> None:
        """The same of a workload, whoever's it is; and one whose name another one has by now is told so."""
        resource, key = self.feed.kinds[kind], workload.key
        self.enabling.look(kind, resource, workload)
        if clash := self.feed.catalog.clash(kind, key):
            about = About(resource.api_version, kind, *key, workload.metadata.uid)
            self._tell(Happening(about=about, reason="NameTaken", note=clash, action="Configure", is_warning=True))

    def _is_managed(self, kind: str, key: Key) -> bool:
        entry = self.feed.catalog.services().get("/".join(key))
        return entry is not None and entry.kind == kind

    def _is_floored(self, kind: str, key: Key) -> bool:
        entry = self.feed.catalog.services().get("/".join(key))
        return entry is not None and entry.kind == kind and entry.wanted.cluster.hpa == "floor"

    def _tell(self, happening: Happening) -> None:
        if self.leadership.is_leader():
            self.happenings.tell(happening)
