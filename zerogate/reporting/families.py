"""What Prometheus is shown of how a process reports: the sidecar's and the gateway's families alike. Pure.

`docs/queueproxy.md` and `docs/gateway.md` describe them; tests compare. Loads nothing of the sender: a sidecar that
does not report needs none.
"""

from typing import Final

import msgspec

from zerogate.exposition import Kind


class Told(msgspec.Struct, frozen=True):
    """What a sender has counted. `streams`: autoscalers that hear it now; `readings`: that were said, to any of them;
    `unheard_wakes`: times that no leader acknowledged a wake in time."""

    streams: int = 0
    readings: int = 0
    unheard_wakes: int = 0


FAMILIES: Final[tuple[tuple[str, Kind, str, str], ...]] = (
    ("zerogate_report_streams", "gauge", "Streams of reports that autoscalers hear now.", "streams"),
    ("zerogate_told_readings_total", "counter", "Readings that were told to autoscalers.", "readings"),
    (
        "zerogate_unheard_wakes_total",
        "counter",
        "Times that no leader acknowledged for 3 s that a request waits.",
        "unheard_wakes",
    ),
)
"""Name, kind, what it says, and the field of `Told`."""
