"""The values of the admin API: what it answers and takes, as JSON with these names. Pure.

The OpenAPI document (`openapi.py`), the server (`app.py`) and the client (`cli.client`) all read these definitions, so
none of them can drift. `_at` is wall time in seconds since 1970 (UTC); `_s` a length of time, measured when the
answer was made. "Not known" is null.
"""

from typing import Annotated, Final, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0)]


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a replica ended."""

    cause: Literal["stopped", "crashed", "start-failed", "port-taken", "start-timeout"]
    detail: str
    """One sentence."""
    exit_code: int | None = None
    """Negative is the signal that ended it; null where no process ever ran."""
    last_lines: tuple[str, ...] = ()
    """The end of what it printed, oldest first."""


class ReplicaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One replica that is not gone."""

    id: str
    state: Literal["starting", "ready", "draining", "doubted"]
    """Doubted: it is ready and has stopped answering; it gets new requests only where no other one is ready."""
    address: str
    """`host:port` where it takes requests."""
    age_s: float
    """Since it was spawned."""
    start_s: float | None = None
    """From spawn to ready; null while it is not."""
    in_flight: Count = 0
    pid: int | None = None


class BackOffStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Starts are suspended after repeated failures."""

    failures: Count
    next_try_s: float
    """Until the next start is allowed."""
    last: Ending


class PinStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A person's word about the number of replicas."""

    replicas: Count
    until_at: float | None = None
    """Null: until it is taken away."""


class Candidate(msgspec.Struct, frozen=True):
    """One voice of a decision."""

    ask: str
    replicas: int
    why: str


class DecisionView(msgspec.Struct, frozen=True, kw_only=True):
    """A decision: how many replicas, who won, and what would change it."""

    at: float
    current: int
    desired: int
    winner: str
    why: str
    candidates: tuple[Candidate, ...] = ()
    held_back: str | None = None
    """What keeps it from another number now."""
    next_change: str | None = None
    """What comes next if nothing happens."""
    revisit_s: float | None = None
    """Until it is decided again by itself; null: only an event can change it."""
    repeats: Count = 0
    """How often the same was decided again after `at`."""


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One service as it stands now."""

    name: str
    kind: Literal["command", "endpoint", "workload"]
    """Runs here as child processes, or elsewhere: then it is never scaled; or as a workload of a cluster."""
    state: Literal["zero", "starting", "ready", "draining", "suspended", "elsewhere", "doubted"]
    """The one word for all its replicas: the best that any of them has."""
    desired: int
    min_replicas: int
    max_replicas: int
    replicas: tuple[ReplicaStatus, ...] = ()
    in_flight: Count = 0
    held: Count = 0
    requests: Count = 0
    """Accepted since zerogate started."""
    idle_s: float | None = None
    """Since the last byte of any request; null where none ever came."""
    idle_timeout_s: float | None = None
    start_s: float | None = None
    """Learned p95 from spawn to ready; null where none was ever ready."""
    models: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    path_prefix: str | None = None
    endpoint: str | None = None
    why: str = ""
    """The last decision's sentence."""
    next_change: str | None = None
    pin: PinStatus | None = None
    back_off: BackOffStatus | None = None
    last_ending: Ending | None = None
    """The last replica that ended otherwise than by our stopping it; null where none did."""
    notices: tuple[str, ...] = ()
    """What its owner should know, as sentences: an old policy still holds, an input is missing."""
    api_path: str | None = None
    """On a cluster: where the workload is in the Kubernetes API, to whose annotations a pin is written."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a service has the replicas it has: the decision that holds, and those before it, newest first."""

    service: str
    decision: DecisionView | None = None
    earlier: tuple[DecisionView, ...] = ()


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One change that the calendar brings."""

    at: float
    local: str
    """The instant in the calendar's own zone."""
    floor: int
    ceiling: int | None = None
    why: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the calendar asks for now, and its next changes."""

    service: str
    floor: int = 0
    ceiling: int | None = None
    transitions: tuple[Transition, ...] = ()
    has_schedule: bool = True


LONGEST_PIN_S: Final = 366 * 86400.0
"""A leap year: what is meant to last longer has no end, and dates beyond the year 9999 cannot be shown."""


class PinRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for exactly `replicas`, for `for_s` seconds or (null) until it is taken away."""

    replicas: Count
    for_s: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_PIN_S)] | None = None


class ReloadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload did, service by service."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: Count = 0

    def __str__(self) -> str:
        """As one line for a person."""
        named = (("added", self.added), ("changed", self.changed), ("removed", self.removed))
        parts = [f"{word} {', '.join(names)}" for word, names in named if names]
        return "; ".join([*parts, f"{self.unchanged} unchanged"])


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether traffic is taken, and if not, why."""

    ready: bool
    reasons: tuple[str, ...] = ()


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the process does its work, and since when."""

    healthy: bool
    version: str
    pid: int
    uptime_s: float
    traffic: str
    """`host:port` where requests are taken."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error (RFC 9457). `code` is a stable word for programs, `detail` says what to do."""

    title: str
    status: int
    code: str
    detail: str
    errors: tuple[str, ...] = ()
    """Where several things are wrong at once: one paragraph each."""
