"""What the local runtime needs to know to run one service. Pure."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from zerogate.names import REPLICA_MARK

PORT_PLACE = "{port}"
"""Replaced in every word of the command; other braces stay as they are, because arguments may be JSON."""


class LocalDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """One service as child processes.

    `definition_hash` decides whether a running replica is still the right one: it covers what a process was started
    with (see `hash_of`), and none of the timers, bounds and the log file, which apply to running replicas at once or
    to the next start.
    """

    service: str
    """Without `/` and whitespace."""
    command: tuple[str, ...]
    """Program and arguments; `{port}` in any of them is replaced."""
    definition_hash: str
    """Without `/` and whitespace."""
    log_file: Path
    """Replicas that run beside the first write to `NAME.2.SUFFIX`, `NAME.3.SUFFIX` …"""
    env: Mapping[str, str] = {}
    """Added to zerogate's own environment."""
    cwd: Path | None = None
    """None: zerogate's own."""
    ready_path: str = "/health"
    ready_below: int = 500
    """Any status below counts as ready."""
    start_timeout_s: float = 600.0
    """Large models from a cold disk take minutes; a start that hangs must end all the same."""
    stop_grace_s: float = 30.0
    """From SIGTERM to SIGKILL; Kubernetes gives as much."""
    max_replicas: int = 1

    def arguments(self, port: int) -> tuple[str, ...]:
        """The command for a replica on that port."""
        return tuple(word.replace(PORT_PLACE, str(port)) for word in self.command)

    def environment(self, base: Mapping[str, str], *, port: int, mark: str) -> dict[str, str]:
        """The whole environment of a replica on that port.

        `PYTHONUNBUFFERED`: or the last words of a crashed Python server are lost in its buffer. `SPT_NOENV`: or
        servers that set their process title (vLLM's workers) overwrite the mark by which they are found.
        """
        defaults = {"PYTHONUNBUFFERED": "1", "SPT_NOENV": "1"}
        return {**defaults, **base, **self.env, "PORT": str(port), REPLICA_MARK: mark}


def hash_of(command: tuple[str, ...], env: Mapping[str, str], cwd: Path | None, ready_path: str) -> str:
    """A short hash of what makes one running process differ from another."""
    words = msgspec.json.encode([command, sorted(env.items()), str(cwd or ""), ready_path])
    return hashlib.sha256(words).hexdigest()[:16]
