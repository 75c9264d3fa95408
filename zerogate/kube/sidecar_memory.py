"""What a sidecar may keep, so that it stays within the memory of its container. Pure.

A container that takes more than its limit is killed, and every stream through it is cut. So the sidecar is told two
bounds that follow from the limit: how many bytes of bodies and answers it keeps, and how many connections it takes,
each of which may cost up to `CONNECTION_BYTES` that are not counted among those. Called by `zerogate.kube.sidecar`
and by whoever reads what the cluster's owner wants.
"""

from typing import Final

import msgspec

from zerogate.errors import DefinitionError, shown
from zerogate.quantities import format_size, parse_size

MIB: Final = 1024 * 1024
ITSELF_BYTES: Final = 28 * MIB
"""24 MiB are measured at rest, with reports; the rest is for control connections, the admin port and a scrape."""
CONNECTION_BYTES: Final = 132 * 1024
"""At worst: a head of 64 KiB that has not ended, 64 KiB of an answer that its client is still taking, and 4 KiB for the
connection itself. Of a thousand with 60 KiB of a head each took 61.6 KiB, idle ones 2.4, ones with a stream 5.4."""
LEAST_LIMIT_BYTES: Final = 48 * MIB
"""11 MiB for bodies and answers beside 64 connections; below it hardly more than the process itself would fit."""
USEFUL_LIMIT_BYTES: Final = 16 * 1024 * MIB
"""What is beyond it is left to whatever else runs there: 55,000 connections are near what one process can have."""

_BODIES: Final = 9
_PARTS: Final = 16
"""Nine parts of sixteen of what is left beside the process: of the usual 256 MiB that is the sidecar's own default of
128 MiB, and 768 connections. Bodies have more, because what they lack is refused in the middle of ordinary use."""
_EVEN: Final = 32
"""Connections come in multiples of this: nobody has to read 773."""


class Bounds(msgspec.Struct, frozen=True):
    """What a sidecar is told; its memory for bodies and answers in whole MiB."""

    body_memory_bytes: int
    max_connections: int

    @property
    def body_memory(self) -> str:
        """As the sidecar reads it."""
        return f"{self.body_memory_bytes // MIB}Mi"


def bounds_within(limit_bytes: int) -> Bounds:
    """The bounds of a sidecar whose container may use `limit_bytes`, of which there are `LEAST_LIMIT_BYTES`."""
    left_bytes = min(limit_bytes, USEFUL_LIMIT_BYTES) - ITSELF_BYTES
    body_bytes = left_bytes * _BODIES // _PARTS // MIB * MIB
    connections = left_bytes * (_PARTS - _BODIES) // _PARTS // CONNECTION_BYTES
    return Bounds(body_bytes, connections // _EVEN * _EVEN)


def check_limit(text: str) -> int:
    """The bytes of a limit as Kubernetes writes it. Raises DefinitionError."""
    limit_bytes = memory_bytes(text)
    if limit_bytes < LEAST_LIMIT_BYTES:
        itself, least = format_size(ITSELF_BYTES), format_size(LEAST_LIMIT_BYTES)
        raise DefinitionError(
            f"{shown(text)} is too little memory for a sidecar, which takes up to {itself} without any request",
            hint=f"Write {least} or more.",
        )
    return limit_bytes


def memory_bytes(text: str) -> int:
    """Bytes of a quantity of Kubernetes; without a unit it is in bytes there. Raises DefinitionError."""
    return int(text) if text.isascii() and text.isdigit() else parse_size(text)
