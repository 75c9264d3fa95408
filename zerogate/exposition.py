"""Lines of Prometheus' text exposition format 0.0.4. Pure.

Written by hand: the format is three kinds of line, and a client library costs ten times as much per series and 5 MiB
in the sidecar. Who shows what is decided by the callers: the admin API of a box, and the queueproxy.
"""

from collections.abc import Iterator
from typing import Final, Literal

from zerogate.counters import Histogram

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["counter", "gauge", "histogram"]


def head(name: str, kind: str, says: str) -> str:
    """The two lines that introduce a family; all its samples follow."""
    return f"# HELP {name} {says}\n# TYPE {name} {kind}\n"


def escaped(value: str) -> str:
    """A label's value as it stands between quotes."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def number(value: float) -> str:
    """A sample's value."""
    return str(value) if isinstance(value, int) else repr(float(value))


def histogram_lines(name: str, labels: str, histogram: Histogram) -> Iterator[str]:
    """The samples of a histogram; `labels` is empty or ends with a comma."""
    below = 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        below += count
        yield f'{name}_bucket{{{labels}le="{bound}"}} {below}\n'
    count = below + histogram.counts[-1]
    yield f'{name}_bucket{{{labels}le="+Inf"}} {count}\n'
    own = f"{{{labels.rstrip(',')}}}" if labels else ""
    yield f"{name}_sum{own} {number(histogram.total)}\n{name}_count{own} {count}\n"
