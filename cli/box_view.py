"""A running box as the admin API shows and changes it.

Reads the parts, writes through their own methods, keeps nothing: every answer is made of what is so at that moment.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from pathlib import Path

from autoscaler.shown import back_off_status, ending, explanation, pin_status, plan_of, replica_status, state_word
from cli.box import BoxFile, ServiceDefinition
from cli.metrics import ProcessSample, ServiceSample, render
from cli.runnable import read_runnable
from cli.running import RunningBox
from cli.tls_files import load_tls
from zerogate.admin import api
from zerogate.admin.problems import MalformedRequestError, NotApplicableError, UnknownServiceError
from zerogate.clock import now, wall
from zerogate.errors import DefinitionError, DefinitionErrors
from zerogate.exposition import Dialect
from zerogate.process import usage
from zerogate.runtime.interface import Replica, ReplicaState
from zerogate.version import version

_STATES = ("ready", "starting", "draining")


class BoxView:
    """Implements `zerogate.admin.app.Box` over a running box that was read from the file at `path`."""

    def __init__(self, running: RunningBox, path: Path) -> None:
        self._running = running
        self._path = path
        self._version = version()  # asked once: it searches the disk
        self._started_at = wall()
        self._reloading = asyncio.Lock()
        """Of two reloads at once the one that read the file later is applied last."""

    def names(self) -> Sequence[str]:
        return tuple(self._running.box.services)

    def _definition(self, name: str) -> ServiceDefinition:
        definition = self._running.box.services.get(name)
        if definition is None:
            raise UnknownServiceError(name, self.names())
        return definition

    def _scaled(self, name: str) -> ServiceDefinition:
        definition = self._definition(name)
        if definition.command is None:
            where = definition.endpoint
            raise NotApplicableError(f"{name} runs elsewhere ({where}): zerogate neither scales nor logs it.")
        return definition

    # What is shown

    def service(self, name: str) -> api.ServiceStatus:
        definition = self._definition(name)
        hold = self._running.holds[name]
        policy = definition.policy
        state = self._running.autoscaler.view(name) if definition.command is not None else None
        meter = hold.meter
        decision = state.decision if state is not None else None
        doubted = hold.doubted
        last_ending = self._running.history.of(name).last_ending
        now_s = now()
        return api.ServiceStatus(
            name=name,
            kind="endpoint" if state is None else "command",
            state=state_word(state, doubted),
            desired=decision.desired if decision is not None else 0,
            min_replicas=policy.min_replicas,
            max_replicas=policy.max_replicas,
            replicas=tuple(
                replica_status(one, now_s, in_flight=self._running.holds.busy(one.id), is_doubted=one.id in doubted)
                for one in (state.replicas if state is not None else ())
            ),
            in_flight=meter.in_flight,
            held=meter.held,
            requests=meter.arrivals,
            idle_s=now_s - meter.last_byte_s if meter.last_byte_s is not None and not meter.in_flight else None,
            idle_timeout_s=policy.idle_timeout_s if state is not None else None,
            start_s=state.boot_time_s if state is not None else None,
            models=policy.models,
            hosts=policy.hosts,
            path_prefix=policy.path_prefix,
            endpoint=str(definition.endpoint) if definition.endpoint is not None else None,
            why=decision.why if decision is not None else "",
            next_change=decision.next_change if decision is not None else None,
            pin=pin_status(state),
            back_off=back_off_status(state.back_off, now_s) if state is not None and state.back_off else None,
            last_ending=ending(last_ending) if last_ending is not None else None,
            notices=self._notices(name),
        )

    def _notices(self, name: str) -> tuple[str, ...]:
        details = self._running.runtime.details()
        warnings = (one.warning for one in details if one.service == name and one.warning is not None)
        return (*self._running.holds.notices(name), *self._port_notes(name), *warnings)

    def _port_notes(self, name: str) -> Iterator[str]:
        """While it starts: of one that answered, or was told its port, there is nothing to say."""
        command = self._definition(name).command
        if command is not None and command.port_note:
            starting = any(one.state is ReplicaState.STARTING for one in self._running.autoscaler.view(name).replicas)
            if starting:
                yield f"if this start takes for ever: {command.port_note}."

    def explain(self, name: str) -> api.Explanation:
        if self._definition(name).command is None:
            return api.Explanation(service=name)  # nobody decides about what runs elsewhere
        return explanation(self._running.autoscaler.view(name), self._running.autoscaler.decisions(name), now())

    def plan(self, name: str, count: int) -> api.Plan:
        self._scaled(name)
        return plan_of(self._running.autoscaler.view(name), wall(), count)

    def log_path(self, name: str) -> Path:
        self._scaled(name)
        path = self._running.runtime.log_path(name)
        assert path is not None
        return path

    def health(self) -> api.Health:
        return api.Health(
            healthy=True,
            version=self._version,
            pid=os.getpid(),
            uptime_s=now() - self._running.started_s,
            traffic=str(self._running.box.listen),
        )

    def readiness(self) -> api.Readiness:
        is_ready = self._running.is_ready
        return api.Readiness(ready=is_ready, reasons=() if is_ready else ("zerogate starts or is being stopped",))

    async def metrics(self, dialect: Dialect) -> AsyncGenerator[bytes, None]:
        async for part in render(await self.process_sample(), self.service_samples(), dialect):
            yield part

    async def process_sample(self) -> ProcessSample:
        used = await asyncio.to_thread(usage)
        return ProcessSample(
            version=self._version,
            started_at=self._started_at,
            cpu_s=used.cpu_s,
            resident_bytes=used.resident_bytes,
            open_files=used.open_files,
            most_open_files=used.most_open_files,
            loop_lag=self._running.loop_lag.histogram,
            unrouted=self._running.ingress.unrouted.refused_by_code,
            connections=len(self._running.server.connections),
            accepted=self._running.server.accepted,
            bad_requests=self._running.server.bad_requests,
            lost_connections=self._running.lost_connections(),
            certificates=self._running.tls.ends(),
            dropped_log_lines=self._running.access_log.dropped,
            body_bytes=self._running.server.memory.body_bytes,
            answer_bytes=self._running.server.memory.answer_bytes,
            upload_bytes=self._running.server.memory.upload_bytes,
            head_bytes=self._running.server.memory.head_bytes,
            traces=self._running.tracing.fates if self._running.tracing is not None else {},
        )

    def service_samples(self) -> Iterable[ServiceSample]:
        for name in self.names():
            hold = self._running.holds.get(name)
            definition = self._running.box.services.get(name)
            if hold is None or definition is None:
                continue  # a reload took it away between two slices
            history = self._running.history.of(name)
            state = self._running.autoscaler.view(name) if definition.command is not None else None
            yield ServiceSample(
                service=name,
                counters=hold.counters,
                meter=hold.meter,
                replicas=_by_state(state.replicas) if state is not None else {},
                doubted=len(hold.doubted),
                desired=state.asked if state is not None else None,
                decisions=history.decisions,
                endings=history.endings,
                replica_s=history.total_replica_s(now()),
                is_suspended=state is not None and state.back_off is not None,
            )

    # What is changed

    async def pin(self, name: str, request: api.PinRequest) -> None:
        most = self._scaled(name).policy.max_replicas
        if request.replicas > most:
            raise MalformedRequestError(
                f"{name} has max-replicas {most}: it cannot be pinned to {request.replicas}. Raise max-replicas first."
            )
        until = wall() + request.for_s if request.for_s is not None else None
        self._running.autoscaler.pin(name, request.replicas, until_wall_s=until)
        await self._running.remember()

    async def unpin(self, name: str) -> None:
        self._scaled(name)
        self._running.autoscaler.unpin(name)
        await self._running.remember()

    async def reload(self) -> api.ReloadReport:
        async with self._reloading:
            new = await asyncio.to_thread(read_runnable, self._path)
            old = self._running.box
            _check_fixed(old, new)
            self._running.apply(new, await asyncio.to_thread(load_tls, new))
            return _report(old, new)


def _check_fixed(old: BoxFile, new: BoxFile) -> None:
    """Refuse what cannot change while it runs."""
    errors = [
        DefinitionError(
            f"cannot change from {before} to {after} while zerogate runs",
            key=key,
            source=new.source,
            line=new.line_of(key),
            hint="Stop zerogate and start it again.",
        )
        for key, before, after in (
            ("listen", old.listen, new.listen),
            ("listen-tls", old.listen_tls or "none", new.listen_tls or "none"),
            ("admin", old.admin, new.admin),
            ("state-dir", old.state_dir, new.state_dir),
            ("trace-to", old.trace_to or "none", new.trace_to or "none"),
        )
        if before != after
    ]
    if errors:
        raise DefinitionErrors(errors)


def _report(old: BoxFile, new: BoxFile) -> api.ReloadReport:
    both = [name for name in new.services if name in old.services]
    changed = tuple(name for name in both if new.services[name] != old.services[name])
    return api.ReloadReport(
        added=tuple(name for name in new.services if name not in old.services),
        changed=changed,
        removed=tuple(name for name in old.services if name not in new.services),
        unchanged=len(both) - len(changed),
    )


def _by_state(replicas: Sequence[Replica]) -> dict[str, int]:
    counted = dict.fromkeys(_STATES, 0)
    for replica in replicas:
        counted[replica.state.value] += 1
    return counted
