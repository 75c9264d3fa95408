"""From bytes of the API to structs: single objects, pages of lists, lines of a watch. Pure.

Lists and watch lines are split first and their objects decoded one by one: a large page can be worked off in slices,
and one object that nobody can read costs that object and not its neighbours.
"""

from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec

from zerogate.kube.objects import Wire

S = TypeVar("S")

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes of one watch line. etcd refuses objects over 1.5 MiB; JSON of one that is stored as protobuf is a few times
that. What is longer is no watch."""


class ListMeta(Wire, frozen=True, kw_only=True):
    resource_version: str = ""
    continue_token: str = msgspec.field(default="", name="continue")


class Page(Wire, frozen=True, kw_only=True):
    """One page of a list; `items` are still JSON."""

    metadata: ListMeta = ListMeta()
    items: list[msgspec.Raw] | None = None


class Cause(Wire, frozen=True, kw_only=True):
    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(Wire, frozen=True, kw_only=True):
    causes: tuple[Cause, ...] = ()
    retry_after_seconds: int = 0


class Status(Wire, frozen=True, kw_only=True):
    """How the API says that something failed, as an answer's body or inside a watch."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: StatusDetails | None = None

    def has_cause(self, reason: str) -> bool:
        return self.details is not None and any(cause.reason == reason for cause in self.details.causes)


class WatchLine(Wire, frozen=True, kw_only=True):
    """`type` is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR; `object` is still JSON."""

    type: str
    object: msgspec.Raw


@lru_cache(maxsize=256)
def _decoder(shape: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(shape)


def decode(data: bytes | msgspec.Raw, shape: type[S]) -> S:
    """One object. `msgspec.DecodeError` (of which `ValidationError` is one) where it is not of that shape."""
    try:
        decoded: S = _decoder(cast("Any", shape)).decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
    return decoded


def status_of(data: bytes) -> Status:
    """The Status in an answer's body; where a proxy answered with something else, the beginning of its text."""
    try:
        return decode(data, Status)
    except msgspec.DecodeError:
        return Status(message=data[:200].decode(errors="replace").strip())


class Lines:
    """Cuts a stream of bytes into lines, however it arrives."""

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._rest = bytearray()
        self._longest = longest

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends. ValueError where one is longer than allowed."""
        if b"\n" not in data:
            self._rest += data
            if len(self._rest) > self._longest:
                raise ValueError(f"a line of a watch is longer than {self._longest} bytes")
            return []
        first, *others = data.split(b"\n")
        lines = [bytes(self._rest) + first, *others[:-1]]
        self._rest = bytearray(others[-1])
        return [line for line in lines if line.strip()]
