"""Finds the field "model" of a multipart/form-data body while it passes by in chunks. Pure and synchronous.

A transcription's form may bring 25 MiB of audio before the model's name. The contents of other parts are left by
`bytes.find`; what is kept between two chunks is never more than a delimiter or one part's head.

One meaning or none: lines end with CRLF, a delimiter is followed by a line end or by `--`, a part has exactly one
Content-Disposition with one name. What breaks this, and a form with two different models, is refused, because servers
read such forms in different ways. The same model twice is the same model.

Called by the gateway's shell, which gets it from `gateway.body_peek`.
"""

import re
from collections.abc import Callable
from typing import Final

from gateway.peeked import NAME_LIMIT_BYTES, Peeked, Verdict

BOUNDARY_LIMIT_BYTES: Final = 200
"""RFC 2046 allows 70; servers take more."""
_HEAD_LIMIT_BYTES: Final = 8192
"""Of one part; a long file name is a few hundred bytes."""
_TURNS: Final = 150
"""Steps of one call, three for each part: 0.3 ms with plain heads, 1 ms with heads at their limit."""

_DELIMITER_END: Final = re.compile(rb"--|[ \t]{0,128}\r\n")
"""RFC 2046 allows white space before the line end; nobody sends it."""
_DELIMITER_END_BEGUN: Final = re.compile(rb"-|[ \t]{0,128}\r?")
_PARAMETER: Final = re.compile(rb';[ \t]*([^\s=;"]+)=(?:"((?:[^"\\]|\\.)*+)"|([^\s;"]+))[ \t]*')
_ESCAPED: Final = re.compile(rb'\\(["\\])')
_PLAIN_ENCODINGS: Final = (b"", b"7bit", b"8bit", b"binary")

_MISSING: Final = Peeked(Verdict.MISSING)
_NOT_TEXT: Final = Peeked(Verdict.NOT_TEXT)
_TOO_LONG: Final = Peeked(Verdict.TOO_LONG)
_AMBIGUOUS: Final = Peeked(Verdict.AMBIGUOUS)
_EMPTY: Final = Peeked(Verdict.MALFORMED, problem="The body is empty where a form with a model is needed.")
_CUT_SHORT: Final = Peeked(Verdict.MALFORMED, problem="The form ends before its closing delimiter.")
_NOT_UTF8: Final = Peeked(Verdict.MALFORMED, problem='The form\'s field "model" is not text in UTF-8.')


def parse_parameters(text: bytes) -> dict[bytes, bytes] | None:
    """Parameters of a header value (RFC 9110 section 5.6.6), `text` from the first semicolon on; names in lower case.

    None where it cannot be read in one way: bad syntax, or a name twice. In quotes a backslash is an escape only before
    a quote or a backslash, because browsers of old sent Windows paths.
    """
    found: dict[bytes, bytes] = {}
    text, position = text.rstrip(b" \t;"), 0
    while position < len(text):
        parameter = _PARAMETER.match(text, position)
        if parameter is None or parameter[1].lower() in found:
            return None
        quoted = parameter[2]
        found[parameter[1].lower()] = parameter[3] if quoted is None else _ESCAPED.sub(rb"\1", quoted)
        position = parameter.end()
    return found


class MultipartPeek:
    """Reads one form. Implements `gateway.peeked.Peek`.

    `_step` is what comes next. Each step is called with a position in the bytes at hand and returns where it stopped;
    with `_is_hungry` set it can do no more without further bytes.
    """

    __slots__ = ("_carry", "_delimiter", "_is_hungry", "_is_model", "_last", "_step", "_text")

    def __init__(self, boundary: bytes) -> None:
        """`boundary`: the parameter of Content-Type, without quotes."""
        self._delimiter = b"\r\n--" + boundary
        self._carry = b"\r\n"
        """Bytes of earlier chunks that are not read yet. The first delimiter needs no line end before it."""
        self._step: _Step = MultipartPeek._read_content
        self._is_hungry = False
        self._is_model = False
        """The part that is being read is the field `model`."""
        self._text = bytearray()
        self._last = _MISSING

    def read_whole(self, body: bytes) -> Peeked | None:
        """Never: forms come with files."""
        return None

    @property
    def is_settled(self) -> bool:
        """True behind the closing delimiter, and once the body cannot be a form any more."""
        return self._step is MultipartPeek._ignore

    def feed(self, data: bytes, start: int = 0) -> int:
        """Read on in `data` from `start`; returns how far it came. See `gateway.peeked.Peek.feed`."""
        carried = len(self._carry)
        at_hand, position = (self._carry + data[start:], 0) if carried else (data, start)
        behind = start - carried if carried else 0
        self._is_hungry = False
        turns = _TURNS
        while position < len(at_hand) and not self._is_hungry and turns:
            position = self._step(self, at_hand, position)
            turns -= 1
        if self._is_hungry or position == len(at_hand):
            self._carry = at_hand[position:]
            return len(data)
        self._carry = at_hand[position:carried] if carried else b""
        return max(start, position + behind)

    def finish(self) -> Peeked:
        """The body has ended: what was found."""
        if self.is_settled:
            return self._last
        return _EMPTY if self._carry == b"\r\n" and self._step is MultipartPeek._read_content else _CUT_SHORT

    def _fail(self, problem: str) -> None:
        self._last = Peeked(Verdict.MALFORMED, problem=f"The form is malformed: {problem}.")
        self._step = MultipartPeek._ignore

    def _ignore(self, data: bytes, position: int) -> int:
        return len(data)

    def _read_content(self, data: bytes, position: int) -> int:
        found = data.find(self._delimiter, position)
        after = found if found >= 0 else max(position, len(data) - len(self._delimiter) + 1)
        if self._is_model and len(self._text) <= NAME_LIMIT_BYTES:
            self._text += data[position : min(after, position + NAME_LIMIT_BYTES + 1)]
        if found < 0:
            self._is_hungry = True
            return after
        if self._is_model:
            self._add(self._name())
        self._step = MultipartPeek._read_delimiter_end
        return found + len(self._delimiter)

    def _name(self) -> Peeked:
        if len(self._text) > NAME_LIMIT_BYTES:
            return _TOO_LONG
        try:
            return Peeked(Verdict.FOUND, self._text.decode())
        except UnicodeDecodeError:
            return _NOT_UTF8

    def _add(self, found: Peeked) -> None:
        self._is_model = False
        self._last = found if self._last in (_MISSING, found) else _AMBIGUOUS

    def _read_delimiter_end(self, data: bytes, position: int) -> int:
        line = _DELIMITER_END.match(data, position)
        if line and line[0] == b"--":
            self._step = MultipartPeek._ignore
            return line.end()
        if line:
            self._step = MultipartPeek._read_head
            return line.end() - 2
        if _DELIMITER_END_BEGUN.fullmatch(data, position):
            self._is_hungry = True
        else:
            self._fail("a delimiter is followed by something else than a line end or --")
        return position

    def _read_head(self, data: bytes, position: int) -> int:
        """Read a part's head, from the line end before it, so that an empty head looks like any other."""
        found = data.find(b"\r\n\r\n", position, position + _HEAD_LIMIT_BYTES)
        if found >= 0:
            self._step = MultipartPeek._read_content
            self._begin_part(data[position + 2 : found])
            return found + 4
        if len(data) - position >= _HEAD_LIMIT_BYTES:
            self._fail(f"the head of a part is longer than {_HEAD_LIMIT_BYTES} bytes")
        else:
            self._is_hungry = True
        return position

    def _begin_part(self, head: bytes) -> None:
        fields = _parse_head(head)
        value = fields.get(b"content-disposition") if fields is not None else None
        if fields is None or value is None:
            self._fail("a part needs header lines, exactly one Content-Disposition among them")
            return
        kind, semicolon, rest = value.partition(b";")
        parameters = parse_parameters(semicolon + rest)
        if kind.strip().lower() != b"form-data" or parameters is None or b"name" not in parameters:
            self._fail('a part needs a Content-Disposition like form-data; name="model"')
        elif parameters[b"name"] == b"model":
            encoding = fields.get(b"content-transfer-encoding", b"").lower()
            if b"filename" in parameters or b"filename*" in parameters or encoding not in _PLAIN_ENCODINGS:
                self._add(_NOT_TEXT)
            else:
                self._is_model = True
                self._text.clear()


_Step = Callable[[MultipartPeek, bytes, int], int]


def _parse_head(head: bytes) -> dict[bytes, bytes] | None:
    """Fields of a part's head, names in lower case; None where a line is not a field, is folded, or comes twice."""
    fields: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.rstrip(b" \t").lower()
        if not colon or not name or name[:1] in b" \t" or name in fields or b"\r" in line or b"\n" in line:
            return None
        fields[name] = value.strip(b" \t")
    return fields
