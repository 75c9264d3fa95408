"""What a look into a request's body found: the model's name, or why there is none. Pure.

Both peeks (`gateway.model_peek` for JSON, `gateway.multipart_peek` for forms) answer with a `Peeked` and take bytes in
the same way, so that the shell need not know which one it feeds.
"""

from enum import StrEnum
from typing import Final, Protocol

import msgspec

from zerogate.errors import Refusal

NAME_LIMIT_BYTES: Final = 512
"""Longest model name. Hugging Face allows 96 characters per half of `organisation/name`; paths on a disk are longer."""


class Verdict(StrEnum):
    FOUND = "found"
    MISSING = "missing"
    """A well-formed body without `model`."""
    NOT_TEXT = "not-text"
    """`model` is there, but it is a number, an object, a file …"""
    TOO_LONG = "too-long"
    AMBIGUOUS = "ambiguous"
    """A form with two different `model` fields: servers disagree on which one counts."""
    MALFORMED = "malformed"


class Peeked(msgspec.Struct, frozen=True):
    """The result of a peek. `name` is set exactly when found; `problem` says what is wrong with a malformed body."""

    verdict: Verdict
    name: str = ""
    problem: str = ""


class Peek(Protocol):
    """A body's reader. Any split into chunks gives the same result; memory does not grow with the body."""

    @property
    def is_settled(self) -> bool:
        """True where no further byte can change the result: the rest need not be fed."""

    def feed(self, data: bytes, start: int = 0) -> int:
        """Read on in `data` from `start`; returns how far it came.

        Short of `len(data)` the work of one call was used up (about a millisecond): call again with the same data and
        the returned position, in a later turn of the loop.
        """

    def finish(self) -> Peeked:
        """The body has ended: what was found."""

    def read_whole(self, body: bytes) -> Peeked | None:
        """The result for a body that came in one piece, where it is small and plain; None: feed it."""


_PROBLEMS: Final = {
    Verdict.MISSING: ("model_required", 'The body names no model. Add "model"; GET /v1/models lists the names.'),
    Verdict.NOT_TEXT: ("model_invalid", 'The body\'s "model" must be a string; GET /v1/models lists the names.'),
    Verdict.TOO_LONG: ("model_invalid", f'The body\'s "model" is longer than {NAME_LIMIT_BYTES} bytes.'),
    Verdict.AMBIGUOUS: ("model_invalid", 'The form has two different "model" fields; send one.'),
}


def refusal_of(peeked: Peeked) -> Refusal:
    """The 400 for a body in which no name was found. Raises KeyError for a found one: a bug in the caller."""
    if peeked.verdict is Verdict.MALFORMED:
        return Refusal(status=400, code="body_malformed", detail=peeked.problem, hopeless=True)
    code, detail = _PROBLEMS[peeked.verdict]
    return Refusal(status=400, code=code, detail=detail, hopeless=True)
