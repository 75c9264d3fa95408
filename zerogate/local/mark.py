"""The mark in a child's environment by which it, and whatever it started, is found again. Pure.

Its shape is said in `zerogate.names`. Read from the right, so that an instance may be a path.
"""

from typing import Self

import msgspec


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Whose child, which replica, from which definition, on which port."""

    instance: str
    service: str
    replica_id: str
    definition_hash: str
    port: int

    def __str__(self) -> str:
        return f"{self.instance}/{self.service}/{self.replica_id}/{self.definition_hash}/{self.port}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The mark, or None where the text is not one."""
        parts = text.rsplit("/", 4)
        if len(parts) != 5 or not all(parts) or not parts[4].isdecimal():
            return None
        instance, service, replica_id, definition_hash, port = parts
        return cls(
            instance=instance,
            service=service,
            replica_id=replica_id,
            definition_hash=definition_hash,
            port=int(port),
        )
