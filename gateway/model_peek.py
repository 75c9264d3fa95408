"""Finds the top-level "model" of a JSON object while the body passes by in chunks. Pure and synchronous.

The OpenAI SDK sends `messages` before `model`, so the name may come after 20 MiB of images. Nothing is decoded,
copied or written again: the reader keeps a state, a depth and at most one short text.

What it promises. For every valid JSON text in UTF-8 the verdict is that of a JSON parser: only a key of the outermost
object counts, compared after unescaping, and of equal keys the last one. The outermost object's own grammar is checked.
Inside nested values and in strings that do not matter only quotes, backslashes and brackets are followed (depth is a
counter, brackets of both kinds count alike), so a text that is broken only in there passes, and the server it goes to
says what is wrong with it.

How it is fast. Long strings are left by `bytes.find`. Dense text is eaten by two regular expressions that run over a
window in C: `_MEMBERS` takes whole members of the outermost object whose key is plainly not `model`, `_BALANCED` takes
whole nested values; Python sees only what neither can finish inside the window. Every repeat is possessive, so nothing
is tried twice, and each group that repeats ends with an alternative that never matches, `(?!)`: before CPython 3.11.5 a
possessive repeat whose last round failed halfway stayed where that round had come to (issue 106052), and entering an
alternative puts the position back.

Called by the gateway's shell, which gets it from `gateway.body_peek`.
"""

import json
import re
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.peeked import NAME_LIMIT_BYTES, Peeked, Verdict

_WINDOW: Final = 8192
"""Bytes that one run of an expression may see. Larger ones gain little, and what cannot be finished inside a window
is read up to `_LEVELS` times."""
_LEVELS: Final = 4
"""Nested levels that an expression takes as a whole: a chat message with parts is three deep."""
_REACH: Final = 1 << 20
"""Bytes that one `find` may run over: about 0.05 ms."""
_WORK: Final = 49_152
"""Bytes that expressions may read in one call: 0.5 ms at their usual 100 MB/s, 1.5 ms at their worst, which is an
array of empty arrays."""
_TURN_WORK: Final = 128
"""Price of one step in Python, in the same unit: about 1 µs."""

_KEY_LIMIT_BYTES: Final = len("model") * len("\\u0000")
"""The longest spelling of `model`; a longer key is another one."""
_RAW_NAME_LIMIT_BYTES: Final = NAME_LIMIT_BYTES * len("\\u0000")
_SCALAR_LIMIT_BYTES: Final = 64
"""Longer numbers are taken as they are."""

_BOM: Final = b"\xef\xbb\xbf"
_QUOTE, _BACKSLASH, _COLON, _COMMA, _OPEN, _CLOSE = b'"\\:,{}'
_OPENING: Final = b"[{"
_SPACES: Final = b" \t\n\r"
_NOT_YET: Final = -1

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


_SPACE: Final = re.compile(_SPACE_TEXT)
_SCALAR: Final = re.compile(_SCALAR_TEXT)
_WORD: Final = re.compile(rb"[-+.0-9A-Za-z]*+")
_STRING_REST: Final = re.compile(rb"(?:[^\"\\]++|\\.)*+", re.DOTALL)
_OPENINGS: Final = re.compile(rb"[\[{]++")
_CLOSINGS: Final = re.compile(rb"[\]}]++")
_BALANCED: Final = re.compile(rb"(?:%b|%b|(?!))*+" % (_INSIDE_TEXT, _nested(_LEVELS)), re.DOTALL)
_MEMBERS: Final = re.compile(
    rb'(?:%(s)b(?!"model")"[^"\\]*+"%(s)b:%(s)b(?:"[^"\\]*+"|%(scalar)b(?=[ \t\n\r,])|%(nested)b|%(string)b)%(s)b,'
    rb"|(?!))*+" % {b"s": _SPACE_TEXT, b"scalar": _SCALAR_TEXT, b"nested": _nested(_LEVELS), b"string": _STRING_TEXT},
    re.DOTALL,
)

_WHOLE_LIMIT_BYTES: Final = 65_536
"""What one read brings; 0.03 ms for a chat of that size, 0.2 ms for empty arrays."""
_WHOLE_NAME_LIMIT: Final = NAME_LIMIT_BYTES // 4
"""Characters that surely fit into the limit; longer names are looked at more closely."""


class _Named(msgspec.Struct, gc=False):
    model: str


_decode_whole: Final = msgspec.json.Decoder(_Named).decode

_MISSING: Final = Peeked(Verdict.MISSING)
_NOT_TEXT: Final = Peeked(Verdict.NOT_TEXT)
_TOO_LONG: Final = Peeked(Verdict.TOO_LONG)
_EMPTY: Final = Peeked(Verdict.MALFORMED, problem="The body is empty where a JSON object with a model is needed.")
_CUT_SHORT: Final = Peeked(Verdict.MALFORMED, problem="The JSON body ends before its object is closed.")


def whole_name(body: bytes) -> str | None:
    """The model's name in a short JSON body that is all there; None where the reader has to look more closely.

    A parser in C: 0.3 µs instead of 13 for a short chat.
    """
    if len(body) > _WHOLE_LIMIT_BYTES:
        return None
    try:
        name = _decode_whole(body).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return name if len(name) <= _WHOLE_NAME_LIMIT else None


class ModelPeek:
    """Reads one JSON body. Implements `gateway.peeked.Peek`.

    `_step` is what the grammar allows next. Each step is called with a position inside the data, reads at most a
    window (or one `find`) and returns where it stopped.
    """

    __slots__ = (
        "_after_string", "_depth", "_escaped", "_is_model", "_last", "_may_close", "_room", "_seen_bom", "_step",
        "_text",
    )  # fmt: skip

    def __init__(self) -> None:
        self._step: _Step = ModelPeek._read_bom
        self._seen_bom = 0
        self._last = _MISSING
        self._is_model = False
        """The key that was read last is `model`."""
        self._may_close = True
        """No comma stands before the key that comes."""
        self._depth = 0
        """Open brackets inside the outermost object."""
        self._text = bytearray()
        self._room = 0
        """Bytes that `_text` may still take; negative: it was too long, and is empty."""
        self._escaped = False
        """The string's next byte belongs to a backslash."""
        self._after_string: Callable[[ModelPeek], None] = ModelPeek._end_key

    @property
    def is_settled(self) -> bool:
        """True once the body cannot be a JSON object any more."""
        return self._step is ModelPeek._ignore

    def feed(self, data: bytes, start: int = 0) -> int:
        """Read on in `data` from `start`; returns how far it came. See `gateway.peeked.Peek.feed`."""
        position, end, work = start, len(data), _WORK
        while position < end and work > 0:
            before = position
            position = self._step(self, data, position)
            work -= _TURN_WORK + min(position - before, _WINDOW)
        return position

    def finish(self) -> Peeked:
        """The body has ended: what was found."""
        if self._step is ModelPeek._read_end or self._step is ModelPeek._ignore:
            return self._last
        if self._step is ModelPeek._read_bom or self._step is ModelPeek._read_open:
            return _EMPTY
        return _CUT_SHORT

    def read_whole(self, body: bytes) -> Peeked | None:
        """What a parser in C says, where it says that there is a name."""
        name = whole_name(body)
        return Peeked(Verdict.FOUND, name) if name is not None else None

    def _fail(self, problem: str) -> None:
        self._last = Peeked(Verdict.MALFORMED, problem=problem)
        self._step = ModelPeek._ignore

    def _ignore(self, data: bytes, position: int) -> int:
        return len(data)

    def _read_bom(self, data: bytes, position: int) -> int:
        seen = data[position : position + len(_BOM) - self._seen_bom]
        if _BOM.startswith(seen, self._seen_bom):
            self._seen_bom += len(seen)
            position += len(seen)
            if self._seen_bom < len(_BOM):
                return position
        elif self._seen_bom:
            self._fail("The body is not JSON: it begins with a part of a byte order mark.")
            return position
        self._step = ModelPeek._read_open
        return position

    def _read_open(self, data: bytes, position: int) -> int:
        position, byte = _next_byte(data, position)
        if byte == _OPEN:
            self._step = ModelPeek._read_members
        elif byte != _NOT_YET:
            self._fail("The body is not a JSON object: it does not begin with {.")
        return position

    def _read_members(self, data: bytes, position: int) -> int:
        after = _end_of(_MEMBERS, data, position)
        if after > position:
            self._may_close = False
        if after == len(data):
            return after
        position, byte = _next_byte(data, after)
        if byte == _QUOTE:
            self._begin_string(ModelPeek._end_key, _KEY_LIMIT_BYTES)
        elif byte == _CLOSE and self._may_close:
            self._step = ModelPeek._read_end
        elif byte != _NOT_YET:
            self._fail("The JSON body is malformed: a key in double quotes is needed after { and after a comma.")
        return position

    def _end_key(self) -> None:
        self._step = ModelPeek._read_colon
        key = bytes(self._text)
        if b"\\" in key:
            text = _unescape(key)
            if text is None:
                self._fail("The JSON body is malformed: a key has an escape that JSON does not know.")
            self._is_model = text == "model"
        else:
            self._is_model = key == b"model"

    def _read_colon(self, data: bytes, position: int) -> int:
        position, byte = _next_byte(data, position)
        if byte == _COLON:
            self._step = ModelPeek._read_value
        elif byte != _NOT_YET:
            self._fail("The JSON body is malformed: a colon is needed after a key.")
        return position

    def _read_value(self, data: bytes, position: int) -> int:
        position, byte = _next_byte(data, position)
        if byte == _NOT_YET:
            return position
        if byte == _QUOTE:
            self._begin_string(ModelPeek._end_value, _RAW_NAME_LIMIT_BYTES if self._is_model else 0)
            return position
        if self._is_model:
            self._last = _NOT_TEXT
        if byte in _OPENING:
            self._depth = 1
            self._step = ModelPeek._read_nested
            return position
        self._text.clear()
        self._step = ModelPeek._read_scalar
        return position - 1

    def _end_value(self) -> None:
        self._step = ModelPeek._read_comma
        if self._is_model:
            self._last = self._name()
            if self._last.verdict is Verdict.MALFORMED:
                self._step = ModelPeek._ignore

    def _name(self) -> Peeked:
        if self._room < 0:
            return _TOO_LONG
        name = _unescape(bytes(self._text))
        if name is None:
            return Peeked(Verdict.MALFORMED, problem='The JSON body is malformed: "model" is not a valid string.')
        if len(name.encode("utf-8", "surrogatepass")) > NAME_LIMIT_BYTES:
            return _TOO_LONG
        return Peeked(Verdict.FOUND, name)

    def _read_scalar(self, data: bytes, position: int) -> int:
        after = _end_of(_WORD, data, position)
        if len(self._text) <= _SCALAR_LIMIT_BYTES:
            self._text += data[position : min(after, position + _SCALAR_LIMIT_BYTES + 1)]
        if after < min(len(data), position + _WINDOW):
            self._step = ModelPeek._read_comma
            if len(self._text) <= _SCALAR_LIMIT_BYTES and not _SCALAR.fullmatch(self._text):
                self._fail("The JSON body is malformed: a value is neither a string, number, array, object nor word.")
        return after

    def _read_comma(self, data: bytes, position: int) -> int:
        position, byte = _next_byte(data, position)
        if byte == _COMMA:
            self._may_close = False
            self._step = ModelPeek._read_members
        elif byte == _CLOSE:
            self._step = ModelPeek._read_end
        elif byte != _NOT_YET:
            self._fail("The JSON body is malformed: a comma or } is needed after a value.")
        return position

    def _read_end(self, data: bytes, position: int) -> int:
        position, byte = _next_byte(data, position)
        if byte != _NOT_YET:
            self._fail("The JSON body is malformed: something follows its object.")
        return position

    def _read_nested(self, data: bytes, position: int) -> int:
        position = _end_of(_BALANCED, data, position)
        if position == len(data):
            return position
        if data[position] == _QUOTE:
            self._begin_string(ModelPeek._end_nested, 0)
            return position + 1
        after = _end_of(_OPENINGS, data, position)
        if after > position:
            self._depth += after - position
            return after
        after = min(_end_of(_CLOSINGS, data, position), position + self._depth)
        self._depth -= after - position
        if not self._depth:
            self._step = ModelPeek._read_comma
        return after

    def _end_nested(self) -> None:
        self._step = ModelPeek._read_nested

    def _begin_string(self, after: "Callable[[ModelPeek], None]", room: int) -> None:
        self._step = ModelPeek._read_string
        self._after_string = after
        self._room = room
        self._text.clear()

    def _read_string(self, data: bytes, position: int) -> int:
        after = position + self._escaped
        self._escaped = False
        after = _end_of(_STRING_REST, data, after)
        if after == len(data) or data[after] != _QUOTE:
            after, self._escaped = _leap(data, after)
        if self._room >= 0:
            self._keep(data, position, after)
        if not self._escaped and after < len(data) and data[after] == _QUOTE:
            self._after_string(self)
            return after + 1
        return after

    def _keep(self, data: bytes, position: int, after: int) -> None:
        """Add a part of a string to the text, or forget it where it has no room."""
        self._room -= after - position
        if self._room >= 0:
            self._text += data[position:after]
        else:
            self._text.clear()


_Step = Callable[[ModelPeek, bytes, int], int]


def _end_of(expression: re.Pattern[bytes], data: bytes, position: int) -> int:
    found = expression.match(data, position, position + _WINDOW)
    return found.end() if found else position


def _next_byte(data: bytes, position: int) -> tuple[int, int]:
    """The first byte that is not white space (`_NOT_YET`: this window has none) and the position behind what was read.

    `position` is inside the data.
    """
    byte = data[position]
    if byte not in _SPACES:
        return position + 1, byte
    position = _end_of(_SPACE, data, position)
    if position == len(data) or data[position] in _SPACES:
        return position, _NOT_YET
    return position + 1, data[position]


def _leap(data: bytes, position: int) -> tuple[int, bool]:
    """From a place between two characters of a string to its next quote that is not escaped, as far as one `find` sees.

    The second result: the byte there is not the closing quote or a character's beginning but belongs to a backslash.
    """
    quote = data.find(b'"', position, position + _REACH)
    stop = quote if quote >= 0 else min(len(data), position + _REACH)
    if stop == position or data[stop - 1] != _BACKSLASH:
        return stop, False
    backslashes = stop - position - len(data[position:stop].rstrip(b"\\"))
    return stop, backslashes % 2 == 1


def _unescape(raw: bytes) -> str | None:
    """What a JSON string with these bytes between its quotes means; None where it is not valid."""
    try:
        text = json.loads(b'"%b"' % raw if raw.isascii() else f'"{raw.decode()}"')
    except ValueError:
        return None
    return text if isinstance(text, str) else None
