"""The chart of the document: small panels of bars, each from zero, in one SVG. Pure.

Bars of one panel share a linear scale that begins at zero; the number stands beside each bar, and who has no figure
has no bar. Colours follow the reader's light or dark mode.
"""

from collections.abc import Mapping
from html import escape
from typing import Final

from bench.peers.report import NAMES, ROWS, Row, median
from bench.peers.world import Found

PANELS: Final = (
    ("small", "cpu_us"), ("model", "cpu_us"), ("small", "per_s"), ("same", "p99_ms"), ("sse", "cpu_us"),
    ("sse", "kib"), ("held", "kib"), ("websocket", "kib"), ("grpc", "cpu_us"), ("rest", "rss_mib"),
)  # fmt: skip
_COLUMNS: Final = 2
_WIDTH: Final = 430
_BAR: Final = 18
_LABEL: Final = 140
_VALUE: Final = 60
_HEAD: Final = 34
_STYLE: Final = """
  text { font: 12px system-ui, sans-serif; fill: #24292f } .title { font-weight: 600; font-size: 13px }
  .better { fill: #57606a } .ours { fill: #1a7f5a } .peer { fill: #afb8c1 }
  .value { font-variant-numeric: tabular-nums }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .better { fill: #8d96a0 } .ours { fill: #3fb98a } .peer { fill: #57606a }
  }
"""


def chart(found: Mapping[str, Found]) -> str:
    """The SVG; panels for which nothing was measured are left out."""
    rows = [row for load, metric in PANELS for row in ROWS if (row.load, row.metric) == (load, metric)]
    panels = [panel for row in rows if (panel := _values(found, row))]
    rows = [row for row in rows if _values(found, row)]
    height = _HEAD + _BAR * len(NAMES) + 22
    lines = -(-len(panels) // _COLUMNS)
    body = [
        _panel(row, values, (number % _COLUMNS) * _WIDTH, number // _COLUMNS * height)
        for number, (row, values) in enumerate(zip(rows, panels, strict=True))
    ]
    size = f'viewBox="0 0 {_COLUMNS * _WIDTH} {lines * height}"'
    title = "<title>zerogate beside other proxies, one core each; medians</title>"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            title,
            f"<style>{_STYLE}</style>",
            *body,
            "</svg>",
            "",
        ]
    )


def _values(found: Mapping[str, Found], row: Row) -> dict[str, float]:
    values = {key: median(found, row.load, key, row.metric) for key in NAMES}
    return {key: max(0.0, value) for key, value in values.items() if value is not None}


def _panel(row: Row, values: dict[str, float], left: int, top: int) -> str:
    better = "less is better" if row.is_less_better else "more is better"
    most = max(values.values()) or 1.0
    room = _WIDTH - _LABEL - _VALUE - 20
    parts = [
        f'<g transform="translate({left + 8} {top + 16})"><text class="title">{escape(row.name)}</text>',
        f'<text y="15" class="better">{escape(row.unit)}, {better}</text>',
    ]
    for line, (key, name) in enumerate(NAMES.items()):
        y = _HEAD + line * _BAR
        parts.append(f'<text x="{_LABEL - 8}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        if key not in values:
            parts.append(f'<text x="{_LABEL}" y="{y + 4}" class="better">not available</text>')
            continue
        width = max(1.0, values[key] / most * room)
        kind = "ours" if key in ("sidecar", "gateway") else "peer"
        parts.append(f'<rect class="{kind}" x="{_LABEL}" y="{y - 6}" width="{width:.1f}" height="{_BAR - 5}" rx="2"/>')
        parts.append(
            f'<text class="value" x="{_LABEL + width + 6:.1f}" y="{y + 4}">{values[key]:,.{row.digits}f}</text>'
        )
    return "\n".join([*parts, "</g>"])
