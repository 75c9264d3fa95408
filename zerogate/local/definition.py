"""What the local runtime needs to know to run one service. Pure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from zerogate.names import REPLICA_MARK

PORT_PLACE = "{port}"
"""Replaced in every word of the command; other braces stay as they are, because arguments may be JSON."""


class LocalDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """One service as child processes.

    `definition_hash` decides whether a running replica is still the right one: equal as long as a process that was
    started with it need not be replaced. Timers and bounds are not for it: they apply to running replicas at once or to
    the next start. Made by whoever reads definitions (`cli.box.definition_hash`); here it is only compared.
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
    """Added to zerogate's own environment; `{port}` in a value is replaced."""
    cwd: Path | None = None
    """None: zerogate's own."""
    protocol: Literal["http1", "h2c", "h2"] = "http1"
    """In which it is asked whether it is ready."""
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
        own = {name: value.replace(PORT_PLACE, str(port)) for name, value in self.env.items()}
        return {**defaults, **base, **own, "PORT": str(port), REPLICA_MARK: mark}
