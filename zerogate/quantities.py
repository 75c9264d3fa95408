"""Numbers with units as people write them: durations, byte sizes, percent. Pure.

Every number carries its unit, because "30" is seconds to one reader and minutes to the next. Parsing is strict (no
spaces, no second spelling), and each pattern is one regular expression that Python and JSON Schema read the same way,
so that an editor refuses what we refuse. What is printed can be read back.
"""

import re
from typing import Final

from zerogate.errors import DefinitionError, shown

_NUMBER: Final = r"[0-9]{1,9}(?:\.[0-9]{1,3})?"
_DURATION_BODY: Final = "(?=[0-9])" + "".join(rf"(?:{_NUMBER}{unit})?" for unit in ("d", "h", "m", "s"))

_PARTS: Final = [rf"{_NUMBER}{unit}" for unit in ("d", "h", "m", "s")]
DURATION_PATTERN: Final = "^(?:{})$".format(
    "|".join(part + "".join(f"(?:{later})?" for later in _PARTS[place + 1 :]) for place, part in enumerate(_PARTS))
)
"""Without looking ahead, which Helm's regular expressions cannot (they are those of Go)."""
SIZE_PATTERN: Final = rf"^{_NUMBER}(?:Ki|Mi|Gi|Ti|k|K|M|G|T)$"
PERCENT_PATTERN: Final = rf"^{_NUMBER}%$"

_DURATION: Final = re.compile(_DURATION_BODY)
_DURATION_WITH_MS: Final = re.compile(rf"{_DURATION_BODY}(?:{_NUMBER}ms)?")
_PART: Final = re.compile(rf"({_NUMBER})(ms|[dhms])")
_SIZE: Final = re.compile(rf"({_NUMBER})([KMGTk]i?)")
_PERCENT: Final = re.compile(rf"({_NUMBER})%")
_BARE: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,3})?")

_SECONDS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_BYTES: Final = {
    "Ti": 1 << 40, "Gi": 1 << 30, "Mi": 1 << 20, "Ki": 1 << 10,
    "T": 10**12, "G": 10**9, "M": 10**6, "k": 10**3, "K": 10**3,
}  # fmt: skip


def parse_duration(text: str, *, with_ms: bool = False) -> float:
    """Seconds in `15s`, `10m`, `1h30m`, `2d`; `ms` only for callers that ask. Raises DefinitionError."""
    if not (_DURATION_WITH_MS if with_ms else _DURATION).fullmatch(text):
        if _BARE.fullmatch(text):
            raise DefinitionError(f"{shown(text)} has no unit", hint=f"Write {text}s, {text}m or {text}h.")
        if not with_ms and _DURATION_WITH_MS.fullmatch(text):
            raise DefinitionError(f"{shown(text)} is finer than a second", hint="Write 1s or more.")
        raise DefinitionError(f"{shown(text)} is not a duration", hint="Write 15s, 10m, 1h30m or 2d, without spaces.")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def format_duration(seconds: float) -> str:
    """`1h30m`, `45s`, `1.2s`, `250ms`: exact for whole seconds, else rounded to what a person wants to read."""
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if 0 < seconds < 0.9995:
        return f"{max(round(seconds * 1000), 1)}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    rest, parts = round(seconds), []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, round(_SECONDS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def parse_size(text: str) -> int:
    """Bytes in `256Mi` (powers of 1024) or `1G` (powers of 1000). Raises DefinitionError."""
    match = _SIZE.fullmatch(text)
    if not match or match[2] not in _BYTES:
        if _BARE.fullmatch(text):
            raise DefinitionError(f"{shown(text)} has no unit", hint=f"Write {text}Ki, {text}Mi or {text}Gi.")
        raise DefinitionError(
            f"{shown(text)} is not a size in bytes", hint="Write 256Mi or 2Gi (times 1024), or 1G (times 1000)."
        )
    return round(float(match[1]) * _BYTES[match[2]])


def format_size(size_bytes: int) -> str:
    """`256Mi`, `1.5Gi`, `12` (bytes): the largest binary unit that leaves at least 1, one decimal where needed."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if size_bytes >= _BYTES[unit]:
            return f"{size_bytes / _BYTES[unit]:.1f}".removesuffix(".0") + unit
    return str(size_bytes)


def parse_percent(text: str) -> float:
    """The ratio in `200%`: 2.0. Raises DefinitionError."""
    match = _PERCENT.fullmatch(text)
    if not match:
        raise DefinitionError(f"{shown(text)} is not a percentage", hint="Write it with its sign, such as 200%.")
    return float(match[1]) / 100


def format_percent(ratio: float) -> str:
    """`200%` for 2.0."""
    return f"{ratio * 100:.3f}".rstrip("0").rstrip(".") + "%"
