"""The policy of a service: what its owner asked for, parsed once at the border, in units that code can use. Pure.

The same keys stand in annotations (`zerogate.dev/KEY`), in YAML and in the console. Defaults are for LLM servers on
GPUs; each carries its reason.
"""

from typing import Literal

import msgspec

from zerogate.affinity import Affinity
from zerogate.schedule import Window


class Policy(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One service's policy. Durations in seconds, memory in bytes, ratios 0..1 unless said."""

    # how many
    min_replicas: int = 0
    max_replicas: int = 1
    target_concurrency: float = 8.0
    """Per replica, what the scaler aims at: about where batching on one GPU stops being free."""
    concurrency_limit: int = 0
    """Hard cap per replica; 0 is none (the engine queues by itself)."""
    metric: Literal["concurrency", "rps"] = "concurrency"
    target_rps: float | None = None
    idle_timeout_s: float = 300.0
    """Quiet time before zero."""
    scale_down_delay_s: float = 60.0
    scale_down_rate: float = 2.0
    stable_window_s: float = 60.0
    panic_window_s: float = 6.0
    panic_threshold_ratio: float = 2.0
    drain_backlog_within_s: float = 30.0
    schedule: tuple[Window, ...] = ()

    # the hold
    queue_limit: int = 512
    queue_bytes: int = 256 * 1024 * 1024
    priority: str | None = None
    """Request header whose integer orders the hold (higher first), in lower case; None: strictly first come."""
    hold_timeout_s: float = 540.0
    """OpenAI's SDK gives up reading at 10 minutes: the hold answers before."""
    hold_heartbeat_s: float | None = None
    """How often a held request for a stream of events is sent a comment."""
    body_limit_bytes: int | None = None
    """Most bytes of a request's body."""

    # the other timers
    connect_timeout_s: float = 5.0
    first_byte_timeout_s: float = 600.0
    idle_stream_timeout_s: float = 300.0
    total_timeout_s: float | None = None

    # routes
    hosts: tuple[str, ...] = ()
    """Exact names or `*.example.org`, in lower case, without a port."""
    path_prefix: str | None = None
    models: tuple[str, ...] = ()
    """Names by which the model is asked for; `/v1/models` shows the first, the others are aliases."""

    # the replica
    protocol: Literal["http1", "h2c", "h2"] = "http1"
    """What is spoken to it; what clients speak is their own choice."""
    ready_path: str = "/health"
    health_paths: tuple[str, ...] = ()
    """Paths answered without waking."""
    retry: Literal["unsent", "stale"] = "unsent"
    idle_websocket: Literal["busy", "quiet"] = "busy"
    affinity: Affinity | None = None
    """What in a request says which replica it had better go to."""
