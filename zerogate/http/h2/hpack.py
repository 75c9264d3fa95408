"""Compression of field sections (RFC 7541), natively: a thin binding of the coder inside `jh2`. Pure.

Of `jh2` only the compiled coder is used, not its state machine. What it leaves open is closed here: the size of a list
counts 32 bytes per field (section 4.1 and RFC 9113 section 10.5.1), a change of the table's size may stand only at the
beginning of a block (section 4.2), and the sizes that a peer set between two blocks are announced as the smallest and
the last. One difference to the letter stays: Huffman padding that is not all ones is taken; it changes no meaning.
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
_MAYBE_SIZE: Final = re.compile(rb"[\x20-\x3f]")
_INTEGER_LIMIT: Final = 5


class Decoder:
    """The peer's field sections. After an error the tables differ: the connection must end."""

    __slots__ = ("_decoder", "_limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self._decoder = _Decoder(limit_bytes)
        self._limit_bytes = limit_bytes

    def decode(self, block: bytes) -> list[HpackField]:
        """The fields of one block, names and values as they were sent; raises ViolationError."""
        if _MAYBE_SIZE.search(block) is not None:
            _check_sizes(block)
        try:
            fields: list[HpackField] = self._decoder.decode(block, True)
        except OversizedHeaderListError as error:
            raise ViolationError(ENHANCE_YOUR_CALM, f"fields of more than {self._limit_bytes} bytes") from error
        except HPACKError as error:
            raise ViolationError(COMPRESSION_ERROR, f"a field block that cannot be read ({error})") from error
        if len(fields) > MAX_FIELDS:
            raise ViolationError(ENHANCE_YOUR_CALM, f"more than {MAX_FIELDS} fields")
        return fields


def _check_sizes(block: bytes) -> None:
    """Refuse a change of the table's size behind a field (section 4.2), and more than two of them before.

    Walks the representations without decoding them; a block that is broken is left for the decoder to refuse.
    """
    at = sizes = 0
    has_field = False
    end = len(block)
    while at < end:
        first = block[at]
        if first & 0xE0 == 0x20:
            sizes += 1
            if has_field or sizes > 2:
                raise ViolationError(COMPRESSION_ERROR, "a change of the table's size behind a field (RFC 7541 4.2)")
            _, at = _integer(block, at, 0x1F)
            continue
        has_field = True
        if first & 0x80:
            _, at = _integer(block, at, 0x7F)
            continue
        index, at = _integer(block, at, 0x3F if first & 0x40 else 0x0F)
        for _ in range(1 if index else 2):
            if at >= end:
                return
            length, at = _integer(block, at, 0x7F)
            at += length


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """(value, where it ends) of an integer (section 5.1); where it is broken, an end beyond the block."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    for shift in range(_INTEGER_LIMIT):
        if at >= len(block):
            break
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << 7 * shift
        if not byte & 0x80:
            return value, at
    return 0, len(block)


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
