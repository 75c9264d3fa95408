"""Lines of Prometheus' text exposition format 0.0.4 and of OpenMetrics 1.0. Pure.

Written by hand: the formats are three kinds of line, and a client library costs ten times as much per series and 5 MiB
in the sidecar. Who shows what is decided by the callers: the admin API of a box, and the queueproxy. OpenMetrics is the
older format with stricter rules, and with exemplars: the trace of one request beside the bucket that counted it.
"""

import re
from collections.abc import Iterator
from enum import Enum
from typing import Final, Literal

from zerogate.counters import Exemplar, Histogram

Kind = Literal["counter", "gauge", "histogram"]


class Dialect(Enum):
    """Which of the two formats; the value is its content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


CONTENT_TYPE: Final = Dialect.TEXT.value
END: Final = "# EOF\n"
"""The last line of an OpenMetrics text: without it a reader knows that the rest is missing."""

_TOTAL: Final = "_total"
_UNITS: Final = ("seconds", "bytes")
_QUALITY: Final = re.compile(r"q=(1(?:\.0{0,3})?|0(?:\.[0-9]{0,3})?)")


def preferred(accept: str) -> Dialect:
    """The format for somebody who sends this Accept field: OpenMetrics where it is named, and not less liked."""
    weights = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for choice in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in choice.split(";"))
        if kind not in weights or ("version" in choice and not _is_spoken(kind, parameters)):
            continue
        quality = next((match[1] for part in parameters if (match := _QUALITY.fullmatch(part))), "1")
        weights[kind] = max(weights[kind], float(quality))
    openmetrics, text = weights.values()
    return Dialect.OPENMETRICS if openmetrics and openmetrics >= text else Dialect.TEXT


def _is_spoken(kind: str, parameters: list[str]) -> bool:
    """Whether the version that is asked for, if one is, is ours."""
    versions = [part.removeprefix("version=").strip('"') for part in parameters if part.startswith("version=")]
    return not versions or versions[0] in (("1.0.0",) if kind.startswith("application") else ("0.0.4",))


def head(name: str, kind: str, says: str, dialect: Dialect = Dialect.TEXT) -> str:
    """The lines that introduce a family; all its samples follow."""
    if dialect is Dialect.TEXT:
        return f"# HELP {name} {says}\n# TYPE {name} {kind}\n"
    family = name.removesuffix(_TOTAL) if kind == "counter" else name
    unit = next((f"# UNIT {family} {unit}\n" for unit in _UNITS if family.endswith(f"_{unit}")), "")
    return f"# TYPE {family} {kind}\n{unit}# HELP {family} {says}\n"


def escaped(value: str) -> str:
    """A label's value as it stands between quotes."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def number(value: float) -> str:
    """A sample's value."""
    return str(value) if isinstance(value, int) else repr(float(value))


def histogram_lines(
    name: str, labels: str, histogram: Histogram, dialect: Dialect = Dialect.TEXT
) -> Iterator[str]:  # fmt: skip
    """The samples of a histogram; `labels` is empty or ends with a comma."""
    exemplars = (histogram.exemplars or {}) if dialect is Dialect.OPENMETRICS else {}
    below = 0
    for place, count in enumerate(histogram.counts):
        below += count
        bound = histogram.bounds[place] if place < len(histogram.bounds) else "+Inf"
        example = _example(exemplars[place]) if place in exemplars else ""
        yield f'{name}_bucket{{{labels}le="{bound}"}} {below}{example}\n'
    own = f"{{{labels.rstrip(',')}}}" if labels else ""
    yield f"{name}_sum{own} {number(histogram.total)}\n{name}_count{own} {below}\n"


def _example(exemplar: Exemplar) -> str:
    return f' # {{trace_id="{exemplar.trace_id}"}} {number(exemplar.value)} {exemplar.at:.3f}'
