"""What happens between the decision to start a replica and its process: port, log, spawn. Blocks: runs in threads."""

import os
import shlex
import time
from pathlib import Path

import msgspec

from zerogate import clock
from zerogate.errors import MachineError
from zerogate.local import logs
from zerogate.local.definition import LocalDefinition
from zerogate.local.mark import Mark
from zerogate.local.ports import Ports
from zerogate.local.processes import Handle
from zerogate.local.spawn import SpawnError, out_of, spawn


class Launched(msgspec.Struct, frozen=True, kw_only=True):
    """A process, and where it writes. `leader` is None where only its descendants are left."""

    leader: Handle | None
    started_s: float
    """`zerogate.clock.now` of the spawn."""
    log_path: Path
    log_offset: int = 0
    warning: str | None = None
    """What is wrong with it although it runs, for status."""


class LaunchFailure(msgspec.Struct, frozen=True, kw_only=True):
    """There is no process. `detail` is a sentence for people."""

    detail: str
    at_s: float


def launch(
    definition: LocalDefinition, instance: str, replica_id: str, log_path: Path, ports: Ports
) -> tuple[Mark, Launched | LaunchFailure]:
    """Start one replica; the port in the mark is held in any case, and the caller's to release."""
    port = 0
    try:
        port = ports.choose()
        mark = _mark(definition, instance, replica_id, port)
        return mark, _start(definition, mark, log_path)
    except (SpawnError, MachineError) as error:
        detail = str(error)
    except OSError as error:
        detail = out_of(error.errno or 0) or f"{replica_id} could not be started: {error.strerror}."
    return _mark(definition, instance, replica_id, port), LaunchFailure(detail=detail, at_s=clock.now())


def _mark(definition: LocalDefinition, instance: str, replica_id: str, port: int) -> Mark:
    return Mark(
        instance=instance,
        service=definition.service,
        replica_id=replica_id,
        definition_hash=definition.definition_hash,
        port=port,
        stop_grace_s=definition.stop_grace_s,
    )


def _start(definition: LocalDefinition, mark: Mark, log_path: Path) -> Launched:
    command = definition.arguments(mark.port)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock.wall()))
    log = logs.open_log(log_path, f"[zerogate] {stamp} {mark.replica_id} on port {mark.port}: {shlex.join(command)}")
    try:
        env = definition.environment(os.environ, port=mark.port, mark=str(mark))
        started_s = clock.now()
        pid = spawn(command, env=env, cwd=definition.cwd, output_fd=log.fd)
        leader = _watchable(pid)
    finally:
        os.close(log.fd)
    return Launched(leader=leader, started_s=started_s, log_path=log_path, log_offset=log.offset, warning=log.warning)


def _watchable(pid: int) -> Handle:
    """A process that cannot be watched must not run."""
    try:
        return Handle.of_child(pid)
    except OSError:
        os.kill(pid, 9)  # ours and not waited for: the pid is still its own
        os.waitpid(pid, 0)
        raise
