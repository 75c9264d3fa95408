"""What the API server itself says about requests: when each came and when its answer was ready, by its audit log.

The times are of this machine's wall clock, in microseconds, so they can be laid beside those of clients here. Only the
requests that were asked for are noted, and only that they were there: a line of a file for each.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import yaml

from tests.kubernetes.harness.processes import until


class Audited(msgspec.Struct, frozen=True):
    """Requests to be noted."""

    verb: str
    group: str
    resource: str
    """With its subresource: `deployments/scale`."""


class _Place(msgspec.Struct, frozen=True):
    namespace: str = ""
    name: str = ""


class _Status(msgspec.Struct, frozen=True):
    code: int = 0


class _Event(msgspec.Struct, frozen=True, rename="camel"):
    stage: str
    request_received_timestamp: datetime
    stage_timestamp: datetime
    object_ref: _Place = _Place()
    response_status: _Status = _Status()


class Noted(msgspec.Struct, frozen=True):
    """One request: wall clock seconds at which the API server had read its head and had written its answer."""

    received_at_s: float
    answered_at_s: float
    code: int

    @property
    def took_s(self) -> float:
        """The API server's own time, with that of its store."""
        return self.answered_at_s - self.received_at_s


class Audit:
    """The log of one API server, in `folder`."""

    def __init__(self, folder: Path, audited: Sequence[Audited]) -> None:
        self._log = folder / "audit.log"
        self._policy = folder / "audit.yaml"
        rules = [
            {"level": "Metadata", "verbs": [one.verb], "resources": [{"group": one.group, "resources": [one.resource]}]}
            for one in audited
        ]
        policy = {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [*rules, {"level": "None"}],
        }
        self._policy.write_text(yaml.safe_dump(policy))

    def flags(self) -> list[str]:
        """For the API server."""
        return [f"--audit-policy-file={self._policy}", f"--audit-log-path={self._log}"]

    def first_since(self, at_s: float, namespace: str, name: str, *, within_s: float = 10) -> Noted:
        """The first request about that object which came at this time of the wall clock or later, and was answered."""
        return until(
            lambda: next((one for one in self._about(namespace, name) if one.received_at_s >= at_s), None),
            within_s=within_s,
            what=f"a request about {namespace}/{name}, noted by the API server",
        )

    def since(self, at_s: float, namespace: str, name: str) -> list[Noted]:
        """All of them until now."""
        return [one for one in self._about(namespace, name) if one.received_at_s >= at_s]

    def _about(self, namespace: str, name: str) -> list[Noted]:
        lines = self._log.read_bytes().splitlines(keepends=True) if self._log.exists() else []
        events = [msgspec.json.decode(line, type=_Event) for line in lines if line.endswith(b"\n")]
        return [
            Noted(one.request_received_timestamp.timestamp(), one.stage_timestamp.timestamp(), one.response_status.code)
            for one in events
            if one.stage == "ResponseComplete" and one.object_ref == _Place(namespace, name)
        ]
