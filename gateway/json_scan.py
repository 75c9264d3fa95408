"""How JSON text is run over in windows, and what the tokens are that the reader of bodies stops at. Pure.

Long strings are left by `bytes.find`. Dense text is eaten by two regular expressions that run over a window in C:
`MEMBERS` takes whole members of the outermost object whose key is plainly not `model`, `BALANCED` takes whole nested
values; Python sees only what neither can finish inside the window. Every repeat is possessive, so nothing
is tried twice, and each group that repeats ends with an alternative that never matches, `(?!)`: before CPython 3.11.5 a
possessive repeat whose last round failed halfway stayed where that round had come to (issue 106052), and entering an
alternative puts the position back.

Called by `gateway.model_peek`, which keeps the state between windows.
"""

import json
import re
from typing import Final

WINDOW: Final = 8192
"""Bytes that one run of an expression may see. Larger ones gain little, and what cannot be finished inside a window
is read up to `_LEVELS` times."""
_LEVELS: Final = 4
"""Nested levels that an expression takes as a whole: a chat message with parts is three deep."""
_REACH: Final = 1 << 20
"""Bytes that one `find` may run over: about 0.05 ms."""

_BACKSLASH: Final = 0x5C
_SPACES: Final = b" \t\n\r"
NOT_YET: Final = -1

_SPACE_TEXT: Final = rb"[ \t\n\r]*+"
_STRING_TEXT: Final = rb'"(?:[^"\\]++|\\.)*+"'
_SCALAR_TEXT: Final = (  # the three words of json.loads that are not JSON included
    rb"(?:-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?|true|false|null|NaN|-?Infinity)"
)
_INSIDE_TEXT: Final = rb'"[^"\\]*+"[^"\[\]{}]*+|[^"\[\]{}]++|' + _STRING_TEXT
"""What stands between two brackets; the first alternative is a short cut, worth a third of the time."""


def _nested(levels: int) -> bytes:
    """An expression for an array or object of at most `levels` levels, its grammar not checked."""
    value = rb"[\[{](?:%b|(?!))*+[\]}]" % _INSIDE_TEXT
    for _ in range(levels - 1):
        value = rb"[\[{](?:%b|%b|(?!))*+[\]}]" % (_INSIDE_TEXT, value)
    return value


SPACE: Final = re.compile(_SPACE_TEXT)
SCALAR: Final = re.compile(_SCALAR_TEXT)
WORD: Final = re.compile(rb"[-+.0-9A-Za-z]*+")
STRING_REST: Final = re.compile(rb"(?:[^\"\\]++|\\.)*+", re.DOTALL)
OPENINGS: Final = re.compile(rb"[\[{]++")
CLOSINGS: Final = re.compile(rb"[\]}]++")
BALANCED: Final = re.compile(rb"(?:%b|%b|(?!))*+" % (_INSIDE_TEXT, _nested(_LEVELS)), re.DOTALL)
MEMBERS: Final = re.compile(
    rb'(?:%(s)b(?!"model")"[^"\\]*+"%(s)b:%(s)b(?:"[^"\\]*+"|%(scalar)b(?=[ \t\n\r,])|%(nested)b|%(string)b)%(s)b,'
    rb"|(?!))*+" % {b"s": _SPACE_TEXT, b"scalar": _SCALAR_TEXT, b"nested": _nested(_LEVELS), b"string": _STRING_TEXT},
    re.DOTALL,
)


def end_of(expression: re.Pattern[bytes], data: bytes, position: int) -> int:
    found = expression.match(data, position, position + WINDOW)
    return found.end() if found else position


def next_byte(data: bytes, position: int) -> tuple[int, int]:
    """The first byte that is not white space (`NOT_YET`: this window has none) and the position behind what was read.

    `position` is inside the data.
    """
    byte = data[position]
    if byte not in _SPACES:
        return position + 1, byte
    position = end_of(SPACE, data, position)
    if position == len(data) or data[position] in _SPACES:
        return position, NOT_YET
    return position + 1, data[position]


def leap(data: bytes, position: int) -> tuple[int, bool]:
    """From a place between two characters of a string to its next quote that is not escaped, as far as one `find` sees.

    The second result: the byte there is not the closing quote or a character's beginning but belongs to a backslash.
    """
    quote = data.find(b'"', position, position + _REACH)
    stop = quote if quote >= 0 else min(len(data), position + _REACH)
    if stop == position or data[stop - 1] != _BACKSLASH:
        return stop, False
    backslashes = stop - position - len(data[position:stop].rstrip(b"\\"))
    return stop, backslashes % 2 == 1


def unescape(raw: bytes) -> str | None:
    """What a JSON string with these bytes between its quotes means; None where it is not valid."""
    try:
        text = json.loads(b'"%b"' % raw if raw.isascii() else f'"{raw.decode()}"')
    except ValueError:
        return None
    return text if isinstance(text, str) else None
