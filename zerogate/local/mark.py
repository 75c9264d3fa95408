"""The mark in a child's environment by which it, and whatever it started, is found again. Pure.

Its shape is said in `zerogate.names`. Read from the right, so that an instance may be a path.
"""

import re
from typing import Final, Self

import msgspec

_LAST: Final = re.compile(r"([0-9]+)(?::([0-9]+\.[0-9]+))?", re.ASCII)


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Whose child, which replica, from which definition, on which port, and how long its end may take."""

    instance: str
    service: str
    replica_id: str
    definition_hash: str
    port: int
    stop_grace_s: float | None = None
    """As it was at the start; None where a zerogate started it that did not write it down."""

    def __str__(self) -> str:
        grace = "" if self.stop_grace_s is None else f":{self.stop_grace_s:.3f}"
        return f"{self.instance}/{self.service}/{self.replica_id}/{self.definition_hash}/{self.port}{grace}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The mark, or None where the text is not one."""
        parts = text.rsplit("/", 4)
        if len(parts) != 5 or not all(parts) or (last := _LAST.fullmatch(parts[4])) is None:
            return None
        instance, service, replica_id, definition_hash, _ = parts
        return cls(
            instance=instance,
            service=service,
            replica_id=replica_id,
            definition_hash=definition_hash,
            port=int(last[1]),
            stop_grace_s=None if last[2] is None else float(last[2]),
        )
