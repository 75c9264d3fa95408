"""What gateways and a replica's sidecar tell each other over their control connection. Pure.

An HTTP/1.1 request with `Upgrade: zerogate-control/1` and the gateway's own name in `zerogate-holder`, answered with
101; after it one JSON object per line, both ways. Every message is the whole state of its side, so one that is repeated
says nothing new and none has to be remembered; unknown fields are left alone, so that either side may be the older one.
"""

import re
from typing import Final

import msgspec

from zerogate.errors import UNREADABLE, ZerogateError

PROTOCOL: Final = b"zerogate-control/1"
BEAT_S: Final = 5.0
"""Each side speaks at least so often."""
SILENCE_S: Final = 15.0
"""Then the other side is not there: three beats."""
MAX_LINE_BYTES: Final = 4096
MOST: Final = 1_000_000
_SHOWN: Final = 500
"""Characters of why a replica is not ready: the line has to stay within its bound, escapes included."""
_NAME: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class ControlError(ZerogateError):
    """The other side does not speak this protocol."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """From the sidecar. `allowance`: how many of this gateway's requests may be inside, those that are there included.

    `limit`: most requests inside altogether, 0 for none; then `allowance` bounds only those that were held.
    `most`: how many slots there are to be had at best; asking for more is of no use. `contended`: others wait too.
    """

    ready: bool
    detail: str
    allowance: int
    limit: int
    most: int
    contended: bool = False


class Demand(msgspec.Struct, frozen=True):
    """From the gateway. `waiting`: its requests that wait and that this replica could take. `in_flight`: those that it
    sent and whose end it has not seen, from which the sidecar knows how many are on their way.

    Spoken when it changes and something waits, there or elsewhere (`Terms.contended`); warm traffic says nothing.
    """

    waiting: int
    in_flight: int


_encode = msgspec.json.Encoder().encode
_terms = msgspec.json.Decoder(Terms)
_demand = msgspec.json.Decoder(Demand)


def line(message: Terms | Demand) -> bytes:
    """The message as it goes over the connection."""
    if isinstance(message, Terms) and len(message.detail) > _SHOWN:
        message = msgspec.structs.replace(message, detail=message.detail[:_SHOWN])
    return _encode(message) + b"\n"


def read_terms(text: bytes) -> Terms:
    """Raises ControlError."""
    try:
        terms = _terms.decode(text)
    except UNREADABLE as error:
        raise ControlError(f"the sidecar said what has no meaning here: {error}") from error
    if not all(0 <= number <= MOST for number in (terms.allowance, terms.limit, terms.most)):
        raise ControlError(f"the sidecar spoke of numbers that are not from 0 to {MOST}")
    return terms


def read_demand(text: bytes) -> Demand:
    """Raises ControlError."""
    try:
        demand = _demand.decode(text)
    except UNREADABLE as error:
        raise ControlError(f"the gateway said what has no meaning here: {error}") from error
    if not (0 <= demand.waiting <= MOST and 0 <= demand.in_flight <= MOST):
        raise ControlError(f"the gateway spoke of a number that is not from 0 to {MOST}")
    return demand


def is_name(name: bytes) -> bool:
    """Whether a gateway may call itself so."""
    return _NAME.fullmatch(name) is not None


class Lines:
    """Whole lines out of what comes in pieces."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete now. Raises ControlError for one that is longer than MAX_LINE_BYTES."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if any(len(text) > MAX_LINE_BYTES for text in (*lines, self._rest)):
            raise ControlError(f"a line is longer than {MAX_LINE_BYTES} bytes")
        return lines
