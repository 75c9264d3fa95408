"""What a stream of reports looks like: a first line, then frames. Pure.

The sender opens with `PREAMBLE`; from then on each message, both ways, is its length in four bytes (big endian) and
MessagePack: a list whose first item says which message it is. Further items may be added at the end of a message with
a default, so either side may be the older one; what cannot be read so needs another number in the preamble. A stream of
`PROVEN_PREAMBLE` begins with a challenge, and then each message ends with a code (`zerogate.reporting.proof`).

Everything a source says is cumulative, so a message that is lost or said again distorts nothing. The source's name and
incarnation are said once, in `Hello`: no message can speak for another source. What the leader orders is a lease that
runs out by itself, and carries a number, so that an order or an answer that comes late is known to be overtaken. Used
by `zerogate.reporting.sender` and `autoscaler.stream`.
"""

from typing import Annotated, Final, Literal

import msgspec

from zerogate.errors import UNREADABLE, ZerogateError
from zerogate.stats import Stat

PREAMBLE: Final = b"zerogate-stats/1\n"
PROVEN_PREAMBLE: Final = b"zerogate-stats/2\n"
"""Of a stream that begins with a `Challenge`, and whose messages have codes from the `Proof` on."""
BEAT_S: Final = 5.0
"""A source speaks at least so often; each beat is acknowledged."""
SILENCE_S: Final = 15.0
"""Then the other side is not there: three beats."""
MOST_READINGS: Final = 128
"""In one message: 0.3 ms to read and encode, so that a loop which carries traffic stays smooth."""
MOST_BYTES: Final = 128 * 1024
"""Of a frame: 128 readings with the longest names of services that Kubernetes allows."""
MOST_BYTES_OF_ONE: Final = 16 * 1024
"""Of a frame of a source that speaks of one service, and of everybody's first: a token has 1 to 2 KiB."""

LEASE_S: Final = 30.0
"""A leader that dies keeps no gate shut for longer: three renewals, so that one may be lost and one late."""
MOST_REFUSED: Final = 500
"""Letters of why a wake came to nothing: they go into answers to clients."""
MOST_INSIDE: Final = 200
"""Replicas in a beat, with the longest names that Kubernetes allows; of more, others are told."""
MOST_LEASE_S: Final = 120.0
"""Nobody may shut a gate for longer at once."""

Kind = Literal["sidecar", "gateway", "activator"]
_Lease = Annotated[float, msgspec.Meta(ge=0.0, le=MOST_LEASE_S)]
_Asker = Annotated[str, msgspec.Meta(max_length=64)]
_Replica = Annotated[str, msgspec.Meta(max_length=512)]
_Workers = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]


class WireError(ZerogateError):
    """The other side does not speak this protocol."""


class Reading(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A `Stat` without what the stream says once. The meaning of each field is there."""

    service: str
    sequence: int
    at_s: float
    arrivals: int = 0
    completions: int = 0
    abandoned: int = 0
    refused: int = 0
    running_s: float = 0.0
    held_s: float = 0.0
    completed_run_s: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    in_flight: int = 0
    held: int = 0
    since_arrival_s: float | None = None
    since_byte_s: float | None = None


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The first message of a source. `service`: the only one that it can see; empty: it may see all. `workers`: so many
    processes of its pod are sources, each for itself."""

    source: str
    incarnation: str
    kind: Kind
    token: str = ""
    service: str = ""
    workers: _Workers = 1


class Readings(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """What changed, at most MOST_READINGS."""

    readings: Annotated[tuple[Reading, ...], msgspec.Meta(max_length=MOST_READINGS)]


class Wake(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A request waits for the service; acknowledged by its number."""

    number: int
    reading: Reading


class Beat(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=3):
    """The source lives, whether or not anything changed; acknowledged with number 0.

    `inside`: requests of a gateway inside replicas without a sidecar (NAMESPACE/POD), where it has any; at most
    MOST_INSIDE. It is for the choice of who is stopped first, and not what is asked before that.
    """

    inside: dict[_Replica, _Count] = {}


class Token(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The source's token was renewed."""

    token: str


class Bye(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The source has said all and goes: what it said last is over, not unknown."""


class Quiesced(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """How it is behind a gate that the leader has shut.

    Told as an answer to each order, and whenever the last request leaves or the first one comes in. `asker`, `number`:
    of the last order heard from that one. `sequence` grows with each of these messages of an incarnation. `inside`:
    requests in the replica or about to enter it. `replica`: as the order said.
    """

    asker: str
    number: int
    sequence: int
    inside: int
    replica: str = ""


class Challenge(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The very first message where the autoscaler has to prove itself; see `zerogate.reporting.proof`."""

    key: str
    nonce: bytes


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """The source is known from now on. `leading`: this autoscaler is the one that acts."""

    leading: bool


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Received. Where not `leading`, nobody acts on it here. Number 0: of a beat, or because another one leads now.

    `refused`: of a wake, why the leader cannot bring its service up from zero, as a clause; empty: it can, or has.
    """

    number: int
    leading: bool
    refused: str = ""


class TurnedAway(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """The stream is closed, and why, for a person. `is_passing`: the next try may well succeed.

    `come_again_s`: in so many seconds there is time for it; 0: that is not known.
    """

    reason: str
    is_passing: bool = False
    come_again_s: float = 0.0


class Quiesce(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """To a sidecar: take nothing more from gateways for `for_s` from now on. To a gateway: send nothing more to
    `replica` (NAMESPACE/POD), which has no sidecar.

    `asker`: the autoscaler that says so, unlike any other and any earlier one; its orders are numbered, and one that is
    overtaken counts for nothing.
    """

    asker: _Asker
    number: int
    for_s: _Lease
    replica: _Replica = ""


class Reopen(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """To a sidecar, or to a gateway about `replica`: what this asker ordered is over."""

    asker: _Asker
    number: int
    replica: _Replica = ""


class Proof(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """To a challenge, and the last message without a code."""

    nonce: bytes
    proof: bytes


Order = Quiesce | Reopen
FromSource = Hello | Readings | Wake | Beat | Token | Bye | Quiesced | Challenge
ToSource = Welcome | Ack | TurnedAway | Quiesce | Reopen | Proof

_encode = msgspec.msgpack.Encoder().encode
_from_source: msgspec.msgpack.Decoder[FromSource] = msgspec.msgpack.Decoder(FromSource)
_to_source: msgspec.msgpack.Decoder[ToSource] = msgspec.msgpack.Decoder(ToSource)


def frame(message: FromSource | ToSource) -> bytes:
    """The message as it goes over the stream."""
    body = _encode(message)
    return len(body).to_bytes(4, "big") + body


def read_from_source(body: bytes) -> FromSource:
    """Raises WireError."""
    try:
        return _from_source.decode(body)
    except UNREADABLE as error:
        raise WireError(f"the source said what has no meaning here: {error}") from error


def read_to_source(body: bytes) -> ToSource:
    """Raises WireError."""
    try:
        return _to_source.decode(body)
    except UNREADABLE as error:
        raise WireError(f"the autoscaler said what has no meaning here: {error}") from error


def reading_of(stat: Stat) -> Reading:
    """The stat as it is sent."""
    return Reading(
        stat.service, stat.sequence, stat.at_s, stat.arrivals, stat.completions, stat.abandoned, stat.refused,
        stat.running_s, stat.held_s, stat.completed_run_s, stat.bytes_in, stat.bytes_out, stat.in_flight, stat.held,
        stat.since_arrival_s, stat.since_byte_s,
    )  # fmt: skip


def stat_of(reading: Reading, source: str, incarnation: str) -> Stat:
    """The stat of this source."""
    return Stat(
        service=reading.service, source=source, incarnation=incarnation, sequence=reading.sequence, at_s=reading.at_s,
        arrivals=reading.arrivals, completions=reading.completions, abandoned=reading.abandoned,
        refused=reading.refused, running_s=reading.running_s, held_s=reading.held_s,
        completed_run_s=reading.completed_run_s, bytes_in=reading.bytes_in, bytes_out=reading.bytes_out,
        in_flight=reading.in_flight, held=reading.held, since_arrival_s=reading.since_arrival_s,
        since_byte_s=reading.since_byte_s,
    )  # fmt: skip


class Frames:
    """Whole frames out of what comes in pieces. `most_bytes` of a frame may change at any time."""

    __slots__ = ("_rest", "most_bytes")

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that are complete now. Raises WireError for one that is longer than `most_bytes`."""
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < 4 + int.from_bytes(rest[:4], "big") <= 4 + self.most_bytes:
                return []
            data = bytes(rest)
            rest.clear()
        bodies: list[bytes] = []
        start, end = 0, len(data)
        while end - start >= 4:
            begin = start + 4
            length = int.from_bytes(data[start:begin], "big")
            if length > self.most_bytes:
                raise WireError(f"a message of {length} bytes is longer than {self.most_bytes}")
            if end - begin < length:
                break
            start = begin + length
            bodies.append(data[begin:start])
        rest += data[start:]
        return bodies
