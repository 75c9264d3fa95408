"""The error tree, and what a request that is not served is told.

Two kinds, because they meet different readers. `ZerogateError` is raised to an operator: a file, a command, a
machine. `Refusal` is a value, not an exception: the answer to a client whose request cannot be served. Foreign
exceptions are turned into one of them at the edge where they appear, cause kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final

import msgspec

_SHOWN = 60
"""Signs of a wrong value that an error repeats: enough to find it, too few to fill a terminal."""


UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that somebody else wrote: of no meaning, no UTF-8, nested deeper than the stack is."""


def shown(value: object, *, longest: int = _SHOWN) -> str:
    """What the user wrote, for an error: strings in quotes with control characters escaped, long ones cut."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    printable = "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in text[:longest])
    return printable if len(text) <= longest else f"{printable}…"


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """The allowed word that `word` was probably meant to be; None where nothing is near."""
    by_lower = {name.lower(): name for name in allowed}
    meant = word[:_SHOWN].lower()
    of_parts = [name for name in by_lower if meant and meant in name.split("-")]
    near = of_parts if len(of_parts) == 1 else get_close_matches(meant, by_lower, n=1, cutoff=0.6)
    return by_lower[near[0]] if near else None


class ZerogateError(Exception):
    """Root of everything that zerogate raises on purpose. `str(error)` is one paragraph for a person."""


class DefinitionError(ZerogateError):
    """A definition (file, annotation, flag) that cannot be accepted.

    Says where (`source`, `line` from 1, `key` as the user wrote it), what was found, what is allowed and what to do.
    `problem` is a clause such as "7x is not a duration"; `hint` a sentence such as "Write 15s, 10m or 2h."
    """

    def __init__(
        self, problem: str, *, key: str = "", hint: str = "", source: str = "", line: int | None = None
    ) -> None:
        self.problem = problem
        self.key = key
        self.hint = hint
        self.source = source
        self.line = line
        super().__init__(problem)

    def at(self, *, source: str | None = None, line: int | None = None, key: str | None = None) -> DefinitionError:
        """The same error with the place filled in by a caller that knows it; what is already known stays."""
        return DefinitionError(
            self.problem,
            key=self.key or key or "",
            hint=self.hint,
            source=self.source or source or "",
            line=self.line if self.line is not None else line,
        )

    def __str__(self) -> str:
        line = f":{self.line}" if self.line else ""
        place = f"{self.source}{line}: " if self.source else ""
        key = f"{self.key}: " if self.key else ""
        return f"{place}{key}{self.problem}.{' ' + self.hint if self.hint else ''}"


class DefinitionErrors(ZerogateError):  # noqa: N818 - it is many of them
    """All that is wrong with one definition, so that it is put right in one go. `errors` is in order, never empty."""

    def __init__(self, errors: Sequence[DefinitionError]) -> None:
        self.errors = tuple(errors)
        super().__init__(*self.errors)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class MachineError(ZerogateError):
    """The machine refuses something that zerogate needs: a port, a folder, a program. `str` says what to do."""


class PortTakenError(MachineError):
    """A port that somebody else listens on: `port`, so that who can look whose it is may say so."""

    def __init__(self, says: str, port: int) -> None:
        self.port = port
        super().__init__(says)


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request is not served, in the terms of HTTP.

    `code` is a stable word for programs (`queue_full`, `hold_timeout`, `start_failed`, `model_not_found` …), `detail`
    a sentence or two for a person, naming the service and what to do. `retry_after_s` goes out as `Retry-After`,
    rounded up to whole seconds. `hopeless` says that trying again cannot help (`x-should-retry: false`). `not_sent`
    promises to a gateway in front that no replica saw anything of the request, or that it may be sent again in spite of
    that (`zerogate-not-sent: 1`).
    """

    status: int
    code: str
    detail: str
    retry_after_s: float | None = None
    hopeless: bool = False
    not_sent: bool = False
