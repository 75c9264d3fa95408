"""The model's name in a short JSON body that came in one piece, by a parser in C. Pure.

The usual case: `gateway.ingress` asks here first, and `gateway.model_peek` reads what this cannot tell.
"""

from typing import Final

import msgspec

from gateway.peeked import NAME_LIMIT_BYTES
from zerogate.errors import UNREADABLE

_WHOLE_LIMIT_BYTES: Final = 65_536
"""What one read brings; 0.03 ms for a chat of that size, 0.2 ms for empty arrays."""
_WHOLE_NAME_LIMIT: Final = NAME_LIMIT_BYTES // 4
"""Characters that surely fit into the limit; longer names are looked at more closely."""


class _Named(msgspec.Struct, gc=False):
    model: str


_decode_whole: Final = msgspec.json.Decoder(_Named).decode


def whole_name(body: bytes) -> str | None:
    """The model's name in a short JSON body that is all there; None where the reader has to look more closely.

    A parser in C: 0.3 µs instead of 13 for a short chat.
    """
    if len(body) > _WHOLE_LIMIT_BYTES:
        return None
    try:
        name = _decode_whole(body).model
    except UNREADABLE:
        return None
    return name if len(name) <= _WHOLE_NAME_LIMIT else None
