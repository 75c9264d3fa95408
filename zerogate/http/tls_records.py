"""How many records of TLS have begun in what came. Pure.

OpenSSL takes records that bring no data (KeyUpdate, tickets) without a word, each for a derivation of keys and some for
an answer: whoever wants to bound them has to count the records and take off those that brought data. Nothing but their
headers is looked at. Called by `tls_transport`, with each piece before OpenSSL has it.
"""

from typing import Final

HEADER_BYTES: Final = 5
"""Type, version, and two bytes of length (RFC 8446 section 5.1)."""


class RecordCount:
    """See the module's text; one for each direction of a connection."""

    __slots__ = ("_header", "_left")

    def __init__(self) -> None:
        self._left = 0
        """Bytes of a record that are to come before the next header."""
        self._header = b""
        """A header of which not all has come."""

    def take(self, data: bytes | memoryview) -> int:
        """How many records have a header that ends in these bytes."""
        at = self._left
        if self._header:
            data = self._header + data
        end = len(data)
        count = 0
        while at + HEADER_BYTES <= end:
            at += HEADER_BYTES + (data[at + 3] << 8 | data[at + 4])
            count += 1
        self._header = bytes(data[at:])
        self._left = max(0, at - end)
        return count
