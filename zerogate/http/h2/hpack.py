"""Compression of field sections (RFC 7541), natively: a thin binding of the coder inside `jh2`. Pure.

Of `jh2` only the compiled coder is used, not its state machine. What it leaves open is closed here: a block is looked
through before it is decoded (`_check_shape`), the number of fields is bounded besides their size, and the sizes that a
peer set between two blocks are announced as the smallest and the last. One difference to the letter stays: Huffman
padding that is not all ones is taken; it changes no meaning.
"""

import re
from typing import Final

from jh2._hazmat import Decoder as _Decoder
from jh2._hazmat import Encoder as _Encoder
from jh2._hazmat import HPACKError, OversizedHeaderListError

from zerogate.http.h2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ViolationError

HpackField = tuple[bytes, bytes, bool]
"""Name, value, and whether no table may ever hold it."""

TABLE_BYTES: Final = 4096
"""RFC 7541's initial size; a larger one of the peer is not used up, so that a connection costs at most twice this."""
MAX_FIELDS: Final = 512
"""More than this in one block is no head but a bomb: 128 are the most of a request, trailers and crumbs included."""
FIELD_OVERHEAD: Final = 32
INTEGER_BYTES: Final = 4
"""Of an integer behind its first byte: up to 2^28, more than any length or index here."""
_INDEXES: Final = re.compile(rb"[\x81-\xfe]*")
"""Nothing but short indexes: what a client sends for a head that it has sent before."""


class Decoder:
    """The peer's field sections. After an error the tables differ: the connection must end."""

    __slots__ = ("_decoder", "_limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self._decoder = _Decoder(limit_bytes)
        self._limit_bytes = limit_bytes

    def decode(self, block: bytes) -> list[HpackField]:
        """The fields of one block, names and values as they were sent; raises ViolationError."""
        if _INDEXES.fullmatch(block) is None:
            _check_shape(block)
        try:
            fields: list[HpackField] = self._decoder.decode(block, True)
        except OversizedHeaderListError as error:
            raise ViolationError(ENHANCE_YOUR_CALM, f"fields of more than {self._limit_bytes} bytes") from error
        except HPACKError as error:
            raise _broken(f"a field block that cannot be read ({error})") from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # the coder's own, not an Exception and not importable
                raise
            raise _broken("a field block that the coder fails at") from error
        if len(fields) > MAX_FIELDS:
            raise ViolationError(ENHANCE_YOUR_CALM, f"more than {MAX_FIELDS} fields")
        return fields


def _check_shape(block: bytes) -> None:
    """Hold the block to what the coder takes for granted: whole representations, and sizes only at the beginning.

    The coder panics where a representation ends early, and lets a change of the table's size stand behind a field
    (section 4.2) and more than two of them before.
    """
    at = sizes = 0
    end = len(block)
    try:
        while at < end:
            first = block[at]
            at += 1
            if first & 0x80:
                if first == 0xFF:
                    at = _behind(block, at)[1]
            elif first & 0xE0 == 0x20:
                sizes += 1
                if sizes > 2:
                    raise _broken("a change of the table's size where none may stand (RFC 7541 section 4.2)")
                if first == 0x3F:
                    at = _behind(block, at)[1]
                continue
            else:
                mask = 0x3F if first & 0x40 else 0x0F
                if first & mask == mask:
                    at = _behind(block, at)[1]
                elif not first & mask:
                    at = _behind_string(block, at)
                at = _behind_string(block, at)
            sizes = 2  # none may follow a field
    except IndexError:
        raise _broken("a field block that ends inside a field") from None
    if at > end:
        raise _broken("a field block that ends inside a field")


def _behind_string(block: bytes, at: int) -> int:
    """Where a string ends (section 5.2); raises IndexError beyond the block, and ViolationError."""
    length = block[at] & 0x7F
    at += 1
    if length == 0x7F:
        more, at = _behind(block, at)
        length += more
    return at + length


def _behind(block: bytes, at: int) -> tuple[int, int]:
    """(what it adds, where it ends) of the further bytes of an integer (section 5.1); raises like `_behind_string`."""
    value = 0
    for shift in range(0, 7 * INTEGER_BYTES, 7):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise _broken("a number without an end in a field block")


def _broken(reason: str) -> ViolationError:
    return ViolationError(COMPRESSION_ERROR, reason)


class Encoder:
    """Our field sections."""

    __slots__ = ("_encoder", "_lowest", "_table_bytes")

    def __init__(self) -> None:
        self._encoder = _Encoder()
        self._table_bytes = TABLE_BYTES
        self._lowest: int | None = None
        """The smallest size since the last block; None where the size is what it was."""

    def resize(self, table_bytes: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE; takes effect with the next block."""
        table_bytes = min(table_bytes, TABLE_BYTES)
        if table_bytes == self._table_bytes:
            return
        self._lowest = min(table_bytes, self._table_bytes if self._lowest is None else self._lowest)
        self._table_bytes = table_bytes

    def encode(self, fields: list[HpackField]) -> bytes:
        """One block. Names must be in lower case."""
        if self._lowest is not None:
            if self._lowest < self._table_bytes:
                self._encoder.header_table_size = self._lowest
            self._encoder.header_table_size = self._table_bytes
            self._lowest = None
        block: bytes = self._encoder.encode(fields)
        return block


def list_bytes(fields: list[HpackField]) -> int:
    """The size of a list as SETTINGS_MAX_HEADER_LIST_SIZE counts it."""
    return sum(len(name) + len(value) for name, value, _ in fields) + FIELD_OVERHEAD * len(fields)
