"""What a gateway's processes tell each other: a length of four bytes, then msgpack. Pure.

Worker ⇄ parent and admin process ⇄ parent, over one socket pair each. All are of one version, since the parent forked
the others: nothing here has to understand older ones.
"""

from typing import Final, TypeAlias

import msgspec

from zerogate.counters import Exemplar
from zerogate.errors import ZerogateError

MOST_BYTES: Final = 64 * 1024 * 1024
"""Of one message: a file of 100,000 replicas is a tenth of that. More is a fault, and would grow without end."""
_LENGTH_BYTES: Final = 4


Number: TypeAlias = int | float


class MessageError(ZerogateError):
    """The other side said what has no meaning."""


class Figures(msgspec.Struct, frozen=True):
    """Numbers of one service, or of the process itself: `counters` only grow, `gauges` are of now; `examples` are of
    buckets of histograms that were counted."""

    counters: dict[str, Number]
    gauges: dict[str, Number]
    examples: dict[str, Exemplar] = {}


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The worker takes requests."""


class Alive(msgspec.Struct, frozen=True, tag=True):
    """A process that has nothing to report lives all the same."""


class Leaving(msgspec.Struct, frozen=True, tag=True):
    """Somebody told the worker to leave, who was not the parent: it takes no more requests."""


class Applied(msgspec.Struct, frozen=True, tag=True):
    """The worker works by this edition of the file."""

    edition: int


class Report(msgspec.Struct, frozen=True, tag=True):
    """A worker's cumulative figures: what changed since the last report. "" is the process itself.

    `sequence` grows with each; `edition`: of the file that it works by.
    """

    sequence: int
    edition: int
    figures: dict[str, Figures]


class Ask(msgspec.Struct, frozen=True, tag=True):
    """From the admin process: somebody asks for `path`, and takes what the field `accept` says."""

    number: int
    path: str
    accept: str = ""


class WakeUp(msgspec.Struct, frozen=True, tag=True):
    """From a worker, and on to the cluster process: a request waits and no autoscaler says that it knows."""

    service: str


class Changed(msgspec.Struct, frozen=True, tag=True):
    """From the cluster process: a slice of a change (`gateway.changes`). `is_first`: of everything there is, because
    it has just begun to watch; `is_last`: of this change."""

    data: bytes
    is_first: bool
    is_last: bool


class News(msgspec.Struct, frozen=True, tag=True):
    """From the cluster process, when it is another than before. `faults`: what keeps it from being up to date;
    `refused`: by service, routes that it asked for and others have."""

    faults: tuple[str, ...] = ()
    refused: dict[str, tuple[str, ...]] = {}


class Woken(msgspec.Struct, frozen=True, tag=True):
    """From the cluster process: it has written a replica count."""

    service: str


class Amend(msgspec.Struct, frozen=True, tag=True):
    """To workers: a slice of a change; it was checked."""

    edition: int
    data: bytes


class Apply(msgspec.Struct, frozen=True, tag=True):
    """Work by this file from now on; it was checked."""

    edition: int
    data: bytes


class Leave(msgspec.Struct, frozen=True, tag=True):
    """Finish what runs and end. `is_last`: all leave, so the port closes; else a successor has it."""

    is_last: bool


class LeaveAtOnce(msgspec.Struct, frozen=True, tag=True):
    """Reset what runs and end."""


class Answer(msgspec.Struct, frozen=True, tag=True):
    """To the admin process: the answer to `Ask`; JSON, or metrics in a dialect whose content type is given."""

    number: int
    status: int
    body: bytes
    content_type: str = ""


ToParent: TypeAlias = Ready | Alive | Leaving | Applied | Report | Ask | WakeUp | Changed | News | Woken
FromParent: TypeAlias = Apply | Amend | Leave | LeaveAtOnce | Answer | WakeUp

_encode = msgspec.msgpack.Encoder().encode
_to_parent: Final[msgspec.msgpack.Decoder[ToParent]] = msgspec.msgpack.Decoder(ToParent)
_from_parent: Final[msgspec.msgpack.Decoder[FromParent]] = msgspec.msgpack.Decoder(FromParent)


def frame(message: ToParent | FromParent) -> bytes:
    """The message as it goes over the socket."""
    data = _encode(message)
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


def read_to_parent(data: bytes) -> ToParent:
    """Raises MessageError."""
    try:
        return _to_parent.decode(data)
    except msgspec.DecodeError as error:
        raise MessageError(_MEANINGLESS % error) from error


def read_from_parent(data: bytes) -> FromParent:
    """Raises MessageError."""
    try:
        return _from_parent.decode(data)
    except msgspec.DecodeError as error:
        raise MessageError(_MEANINGLESS % error) from error


_MEANINGLESS: Final = "a message between the gateway's processes has no meaning: %s"


class Frames:
    """Whole messages out of what comes in pieces."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now. Raises MessageError for one longer than MOST_BYTES."""
        rest = self._rest
        rest += data
        found: list[bytes] = []
        begin = 0
        while len(rest) >= begin + _LENGTH_BYTES:
            body = begin + _LENGTH_BYTES
            end = body + int.from_bytes(rest[begin:body], "big")
            if end - body > MOST_BYTES:
                raise MessageError(f"a message between the gateway's processes is longer than {MOST_BYTES} bytes")
            if len(rest) < end:
                break
            found.append(bytes(rest[body:end]))
            begin = end
        del rest[:begin]
        return found
