"""What proxies tell the autoscaler: cumulative counters, never samples.

A gauge that is sampled misses what happens between two samples; a counter that is differenced by the receiver
misses nothing, and a report that is lost or repeated distorts nothing. *Running* is told by whoever owns the slots
(the gate), *held* by whoever holds, so that no request counts twice.
"""

import msgspec


class Stat(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One report of one source about one service. All counters and integrals start at 0 with the incarnation.

    `source`: who reports, unique among those alive. `incarnation`: changes whenever the counters restart at zero.
    `sequence`: grows by one with each report of this source about this service. `at_s`: the source's own monotonic
    clock when the counters were read; only differences between stats of one incarnation mean anything.
    """

    service: str
    source: str
    incarnation: str
    sequence: int
    at_s: float
    arrivals: int = 0
    """Requests accepted for the service, held or not."""
    completions: int = 0
    """Requests that ended after they had entered a replica, however they ended."""
    abandoned: int = 0
    """Requests whose client went away while they were held."""
    refused: int = 0
    """Requests answered by zerogate itself instead of a replica: bounds, timeouts, failed starts."""
    running_s: float = 0.0
    """Integral of `in_flight` over time, in request-seconds."""
    held_s: float = 0.0
    """Integral of `held` over time, in request-seconds."""
    completed_run_s: float = 0.0
    """Sum of the times that completed requests spent inside a replica."""
    bytes_in: int = 0
    bytes_out: int = 0
    in_flight: int = 0
    """Inside replicas right now."""
    held: int = 0
    """Waiting for capacity right now."""
    since_arrival_s: float | None = None
    """Seconds from the last arrival to `at_s`; None where none ever came."""
    since_byte_s: float | None = None
    """Seconds from the last byte of any request (arrivals included) to `at_s`; None where none ever was."""
