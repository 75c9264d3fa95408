"""Kinds of values: how a raw one (annotation, YAML scalar or list) becomes a checked one. Pure.

A kind parses, says in words what is allowed, prints a value as a user would write it, and gives the JSON Schema
fragment that editors check with, all from the same bounds. Invariants: whatever `parse` takes, the fragment takes
too (no red line under a valid file); `parse(shown_as(value)) == value`. The tables of keys use them: of policies in
`zerogate.policy_keys`, of the box file in `cli.file_keys`.
"""

import re
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import msgspec

from zerogate.errors import DefinitionError, nearest, shown
from zerogate.quantities import (
    DURATION_PATTERN,
    PERCENT_PATTERN,
    SIZE_PATTERN,
    format_duration,
    format_percent,
    format_size,
    parse_duration,
    parse_percent,
    parse_size,
)
from zerogate.schedule import Window
from zerogate.schedule_text import LONGEST_TEXT, parse_window

Raw: TypeAlias = "str | int | float | bool | list[Raw] | None"
Fragment: TypeAlias = dict[str, Any]
"""A JSON Schema fragment."""

_WHOLE_PATTERN = "^[0-9]{1,12}$"
_NUMBER_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,6})?$"
_MOST_ITEMS = 256
"""Of a list: more names than any service answers to, few enough that a bad file stays cheap."""


class Kind(Protocol):
    """See the module."""

    def parse(self, raw: Raw) -> Any:
        """The checked value. Raises DefinitionError without a place: the caller knows key and line."""

    def allowed(self) -> str:
        """What may be written, as a noun phrase."""

    def shown_as(self, value: Any) -> str:
        """The value as a user would write it."""

    def fragment(self) -> Fragment:
        """JSON Schema of the raw value."""


class Whole(msgspec.Struct, frozen=True):
    """A whole number within bounds."""

    minimum: int
    maximum: int

    def parse(self, raw: Raw) -> int:
        number = _number_in(raw, _WHOLE_PATTERN, self)
        if number % 1:
            raise wrong(raw, self.allowed())
        return int(_bounded(number, self.minimum, self.maximum, raw, self))

    def allowed(self) -> str:
        return f"a whole number from {self.minimum} to {self.maximum}"

    def shown_as(self, value: Any) -> str:
        return str(value)

    def fragment(self) -> Fragment:
        bounds = {"minimum": self.minimum, "maximum": self.maximum}
        return {"type": ["integer", "string"], **bounds, "pattern": _WHOLE_PATTERN}


class Number(msgspec.Struct, frozen=True):
    """A number within bounds."""

    minimum: float
    maximum: float

    def parse(self, raw: Raw) -> float:
        number = _number_in(raw, _NUMBER_PATTERN, self)
        return float(_bounded(number, self.minimum, self.maximum, raw, self))

    def allowed(self) -> str:
        return f"a number from {self.minimum:g} to {self.maximum:g}"

    def shown_as(self, value: Any) -> str:
        return f"{value:g}"

    def fragment(self) -> Fragment:
        bounds = {"minimum": self.minimum, "maximum": self.maximum}
        return {"type": ["number", "string"], **bounds, "pattern": _NUMBER_PATTERN}


class Duration(msgspec.Struct, frozen=True):
    """Seconds with a unit; `none` may be a word for "no such limit"; `later` are words of later versions."""

    minimum_s: float
    maximum_s: float
    none: bool = False
    later: tuple[str, ...] = ()

    def parse(self, raw: Raw) -> float | None:
        if self.none and raw == "none":
            return None
        if raw in self.later and isinstance(raw, str):
            raise not_available(raw)
        seconds = _with_unit(raw, parse_duration, self)
        return _bounded(seconds, self.minimum_s, self.maximum_s, raw, self)

    def allowed(self) -> str:
        bounds = f"a duration from {format_duration(self.minimum_s)} to {format_duration(self.maximum_s)}"
        return f"{bounds}, or none" if self.none else bounds

    def shown_as(self, value: Any) -> str:
        return "none" if value is None else format_duration(value)

    def fragment(self) -> Fragment:
        pattern = f"^(?:none|{DURATION_PATTERN[1:-1]})$" if self.none else DURATION_PATTERN
        return {"type": "string", "pattern": pattern}


class Size(msgspec.Struct, frozen=True):
    """Bytes with a unit; `none` may be a word for "no such limit"."""

    minimum: int
    maximum: int
    none: bool = False

    def parse(self, raw: Raw) -> int | None:
        if self.none and raw == "none":
            return None
        size = _with_unit(raw, parse_size, self)
        return int(_bounded(size, self.minimum, self.maximum, raw, self))

    def allowed(self) -> str:
        bounds = f"a size from {format_size(self.minimum)} to {format_size(self.maximum)}"
        return f"{bounds}, or none" if self.none else bounds

    def shown_as(self, value: Any) -> str:
        return "none" if value is None else format_size(value)

    def fragment(self) -> Fragment:
        pattern = f"^(?:none|{SIZE_PATTERN[1:-1]})$" if self.none else SIZE_PATTERN
        return {"type": "string", "pattern": pattern}


class Percent(msgspec.Struct, frozen=True):
    """A percentage, as a ratio in code."""

    minimum: float
    maximum: float

    def parse(self, raw: Raw) -> float:
        return _bounded(_with_unit(raw, parse_percent, self), self.minimum, self.maximum, raw, self)

    def allowed(self) -> str:
        return f"a percentage from {format_percent(self.minimum)} to {format_percent(self.maximum)}"

    def shown_as(self, value: Any) -> str:
        return format_percent(value)

    def fragment(self) -> Fragment:
        return {"type": "string", "pattern": PERCENT_PATTERN}


class Choice(msgspec.Struct, frozen=True):
    """One word of a few; words that begin with one of `later` are known, but of later versions."""

    words: tuple[str, ...]
    later: tuple[str, ...] = ()

    def parse(self, raw: Raw) -> str:
        if isinstance(raw, str) and raw in self.words:
            return raw
        if isinstance(raw, str) and self.later and raw.startswith(self.later):
            raise not_available(raw)
        near = nearest(raw, self.words) if isinstance(raw, str) else None
        raise wrong(raw, self.allowed(), f"Did you mean {near}?" if near else "")

    def allowed(self) -> str:
        return " or ".join(self.words)

    def shown_as(self, value: Any) -> str:
        return str(value)

    def fragment(self) -> Fragment:
        return {"enum": list(self.words)}


class Text(msgspec.Struct, frozen=True):
    """A string that matches `pattern` as a whole; `what` names it in errors, `example` shows one."""

    pattern: str
    """Without ^ and $; read the same by Python and by JSON Schema."""
    what: str
    example: str
    longest: int = 253
    """DNS allows names of 253 characters; the other texts have no longer use."""
    lower: bool = False
    """Letters are made small first: for names without regard to case."""
    trim: str = ""
    """A sign that means nothing at the end, such as the slash of a path prefix."""

    def parse(self, raw: Raw) -> str:
        if not isinstance(raw, str):
            raise wrong(raw, self.allowed(), "" if raw is None else "Put it in quotes if it is meant as text.")
        text = raw.lower() if self.lower else raw
        if len(text) > self.longest:
            raise wrong(raw, f"{self.allowed()}, of at most {self.longest} characters")
        if not re.fullmatch(self.pattern, text, re.ASCII):
            raise wrong(raw, self.allowed())
        return (text.rstrip(self.trim) or text[:1]) if self.trim else text

    def allowed(self) -> str:
        return f"{self.what} such as {self.example}"

    def shown_as(self, value: Any) -> str:
        return "–" if value is None else str(value)

    def fragment(self) -> Fragment:
        letters = {"maxLength": self.longest, "minLength": 1}
        return (
            {"type": "string", **letters}
            if self.lower
            else {"type": "string", **letters, "pattern": f"^{self.pattern}$"}
        )


class Calendar(msgspec.Struct, frozen=True):
    """One window of a calendar: see `zerogate.schedule_text`."""

    def parse(self, raw: Raw) -> Window:
        return parse_window(_text_in(raw, self))

    def allowed(self) -> str:
        return "a window such as 'Mon-Fri 08:00-18:00 Europe/Berlin = 2'"

    def shown_as(self, value: Any) -> str:
        return str(value.text)

    def fragment(self) -> Fragment:
        return {"type": "string", "maxLength": LONGEST_TEXT, "minLength": 1}


class Several(msgspec.Struct, frozen=True):
    """A list, or one string with the items separated: annotations have no lists."""

    item: Kind
    separators: str = ","

    def parse(self, raw: Raw) -> tuple[Any, ...]:
        parts = (
            [part.strip() for part in re.split(f"[{self.separators}\n]", raw.strip())] if isinstance(raw, str) else raw
        )
        if not isinstance(parts, list):
            raise wrong(raw, self.allowed())
        if len(parts) > _MOST_ITEMS:
            raise DefinitionError(f"there are {len(parts)} items", hint=f"Allowed are {_MOST_ITEMS}.")
        items = tuple(self.item.parse(part) for part in parts)
        for place, item in enumerate(items):
            if item in items[:place]:
                raise DefinitionError(f"{shown(self.item.shown_as(item))} is given twice")
        return items

    def allowed(self) -> str:
        return f"{self.item.allowed()}, or a list of them"

    def shown_as(self, value: Any) -> str:
        return f"{self.separators[0]} ".join(self.item.shown_as(item) for item in value) or "–"

    def fragment(self) -> Fragment:
        lists = {"items": self.item.fragment(), "maxItems": _MOST_ITEMS, "uniqueItems": True}
        return {"type": ["string", "array"], "minLength": 1, **lists}


def wrong(raw: Raw, allowed: str, hint: str = "") -> DefinitionError:
    """The error for a value that is not what its key allows."""
    if raw is None:
        return DefinitionError("has no value", hint=hint or f"Allowed is {allowed}.")
    return DefinitionError(f"{shown(raw)} is not allowed", hint=f"Allowed is {allowed}.{f' {hint}' if hint else ''}")


def not_available(raw: str) -> DefinitionError:
    """The error for what a later version will know."""
    return DefinitionError(f"{shown(raw)} is not available in this version")


def _text_in(raw: Raw, kind: Kind) -> str:
    """The raw value as text where it is one; a bare number goes on as text, to be told that its unit is missing."""
    if isinstance(raw, str):
        return raw
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return str(raw)
    raise wrong(raw, kind.allowed())


def _with_unit(raw: Raw, parse: Callable[[str], float], kind: Kind) -> float:
    try:
        return parse(_text_in(raw, kind))
    except DefinitionError as error:
        if error.hint.startswith("Allowed"):
            raise
        raise DefinitionError(error.problem, hint=f"{error.hint} Allowed is {kind.allowed()}.") from error


def _number_in(raw: Raw, pattern: str, kind: Kind) -> float:
    if isinstance(raw, str) and re.fullmatch(pattern[1:-1], raw):
        return float(raw)
    if isinstance(raw, int | float) and not isinstance(raw, bool) and abs(raw) <= 1e15:
        return raw
    raise wrong(raw, kind.allowed())


def _bounded(value: float, minimum: float, maximum: float, raw: Raw, kind: Kind) -> float:
    if not minimum <= value <= maximum:
        raise DefinitionError(f"{shown(raw)} is out of range", hint=f"Allowed is {kind.allowed()}.")
    return value
