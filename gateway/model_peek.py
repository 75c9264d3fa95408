"""Finds the top-level "model" of a JSON object while the body passes by in chunks. Pure and synchronous.

The OpenAI SDK sends `messages` before `model`, so the name may come after 20 MiB of images. Nothing is decoded,
copied or written again: the reader keeps a state, a depth and at most one short text.

What it promises. For every valid JSON text in UTF-8 the verdict is that of a JSON parser: only a key of the outermost
object counts, compared after unescaping, and of equal keys the last one. The outermost object's own grammar is checked.
Inside nested values and in strings that do not matter only quotes, backslashes and brackets are followed (depth is a
counter, brackets of both kinds count alike), so a text that is broken only in there passes, and the server it goes to
says what is wrong with it.

What a window holds is read by the expressions of `gateway.json_scan`; here is what they cannot finish.

Called by the gateway's shell, which gets it from `gateway.body_peek`.
"""

from collections.abc import Callable
from typing import Final

from gateway.json_scan import (
    BALANCED,
    CLOSINGS,
    MEMBERS,
    NOT_YET,
    OPENINGS,
    SCALAR,
    STRING_REST,
    WINDOW,
    WORD,
    end_of,
    leap,
    next_byte,
    unescape,
)
from gateway.peeked import NAME_LIMIT_BYTES, Peeked, Verdict
from gateway.whole_name import whole_name

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
_QUOTE, _COLON, _COMMA, _OPEN, _CLOSE = b'":,{}'
_OPENING: Final = b"[{"

_MISSING: Final = Peeked(Verdict.MISSING)
_NOT_TEXT: Final = Peeked(Verdict.NOT_TEXT)
_TOO_LONG: Final = Peeked(Verdict.TOO_LONG)
_EMPTY: Final = Peeked(Verdict.MALFORMED, problem="The body is empty where a JSON object with a model is needed.")
_CUT_SHORT: Final = Peeked(Verdict.MALFORMED, problem="The JSON body ends before its object is closed.")


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
            work -= _TURN_WORK + min(position - before, WINDOW)
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
        position, byte = next_byte(data, position)
        if byte == _OPEN:
            self._step = ModelPeek._read_members
        elif byte != NOT_YET:
            self._fail("The body is not a JSON object: it does not begin with {.")
        return position

    def _read_members(self, data: bytes, position: int) -> int:
        after = end_of(MEMBERS, data, position)
        if after > position:
            self._may_close = False
        if after == len(data):
            return after
        position, byte = next_byte(data, after)
        if byte == _QUOTE:
            self._begin_string(ModelPeek._end_key, _KEY_LIMIT_BYTES)
        elif byte == _CLOSE and self._may_close:
            self._step = ModelPeek._read_end
        elif byte != NOT_YET:
            self._fail("The JSON body is malformed: a key in double quotes is needed after { and after a comma.")
        return position

    def _end_key(self) -> None:
        self._step = ModelPeek._read_colon
        key = bytes(self._text)
        if b"\\" in key:
            text = unescape(key)
            if text is None:
                self._fail("The JSON body is malformed: a key has an escape that JSON does not know.")
            self._is_model = text == "model"
        else:
            self._is_model = key == b"model"

    def _read_colon(self, data: bytes, position: int) -> int:
        position, byte = next_byte(data, position)
        if byte == _COLON:
            self._step = ModelPeek._read_value
        elif byte != NOT_YET:
            self._fail("The JSON body is malformed: a colon is needed after a key.")
        return position

    def _read_value(self, data: bytes, position: int) -> int:
        position, byte = next_byte(data, position)
        if byte == NOT_YET:
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
        name = unescape(bytes(self._text))
        if name is None:
            return Peeked(Verdict.MALFORMED, problem='The JSON body is malformed: "model" is not a valid string.')
        if len(name.encode("utf-8", "surrogatepass")) > NAME_LIMIT_BYTES:
            return _TOO_LONG
        return Peeked(Verdict.FOUND, name)

    def _read_scalar(self, data: bytes, position: int) -> int:
        after = end_of(WORD, data, position)
        if len(self._text) <= _SCALAR_LIMIT_BYTES:
            self._text += data[position : min(after, position + _SCALAR_LIMIT_BYTES + 1)]
        if after < min(len(data), position + WINDOW):
            self._step = ModelPeek._read_comma
            if len(self._text) <= _SCALAR_LIMIT_BYTES and not SCALAR.fullmatch(self._text):
                self._fail("The JSON body is malformed: a value is neither a string, number, array, object nor word.")
        return after

    def _read_comma(self, data: bytes, position: int) -> int:
        position, byte = next_byte(data, position)
        if byte == _COMMA:
            self._may_close = False
            self._step = ModelPeek._read_members
        elif byte == _CLOSE:
            self._step = ModelPeek._read_end
        elif byte != NOT_YET:
            self._fail("The JSON body is malformed: a comma or } is needed after a value.")
        return position

    def _read_end(self, data: bytes, position: int) -> int:
        position, byte = next_byte(data, position)
        if byte != NOT_YET:
            self._fail("The JSON body is malformed: something follows its object.")
        return position

    def _read_nested(self, data: bytes, position: int) -> int:
        position = end_of(BALANCED, data, position)
        if position == len(data):
            return position
        if data[position] == _QUOTE:
            self._begin_string(ModelPeek._end_nested, 0)
            return position + 1
        after = end_of(OPENINGS, data, position)
        if after > position:
            self._depth += after - position
            return after
        after = min(end_of(CLOSINGS, data, position), position + self._depth)
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
        after = end_of(STRING_REST, data, after)
        if after == len(data) or data[after] != _QUOTE:
            after, self._escaped = leap(data, after)
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
