"""Objects as the API server keeps them in etcd: protobuf in an envelope, of which some fields are set anew.

Of the schemas only the field numbers are here that copies differ in (`generated.proto` of k8s.io/api and apimachinery,
which never change). JSON in the store would be read as well, but takes the API server ten times as long whenever it
starts, which no real one does.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_MAGIC: Final = b"k8s\x00"
_RAW: Final = 2
"""In the envelope: the object."""
METADATA, SPEC, STATUS = 1, 2, 3
"""Of every object."""

Value = int | str | bytes | Sequence["Value"] | None
"""None: left out. A sequence: a repeated field."""


def changed(message: bytes, fields: Mapping[int, Value]) -> bytes:
    """The message with these fields set anew, whatever they were."""
    kept = [raw for number, _, raw in _fields(message) if number not in fields]
    return b"".join([*kept, *(_field(number, value) for number, value in fields.items())])


def part(message: bytes, number: int) -> bytes:
    """The message in a field of it; empty where there is none."""
    return next((value for found, value, _ in _fields(message) if found == number), b"")


def opened(stored: bytes) -> tuple[bytes, bytes]:
    """(envelope, object) of what etcd holds."""
    if not stored.startswith(_MAGIC):
        raise ValueError(f"not what an API server writes: {stored[:20]!r}")
    envelope = stored.removeprefix(_MAGIC)
    return envelope, part(envelope, _RAW)


def closed(envelope: bytes, message: bytes) -> bytes:
    """What etcd is to hold."""
    return _MAGIC + changed(envelope, {_RAW: message})


def metadata(before: bytes, about: Mapping[str, Any]) -> bytes:
    """ObjectMeta with these of its fields as JSON has them; the others stay."""
    fields: dict[int, Value] = {}
    for name, value in about.items():
        if name in ("labels", "annotations"):
            fields[_META[name]] = texts(value)
        elif name == "ownerReferences":
            fields[_META[name]] = [
                changed(b"", {_OWNER[key]: int(one) if isinstance(one, bool) else one for key, one in owner.items()})
                for owner in value
            ]
        else:
            fields[_META[name]] = value
    return changed(before, fields)


def texts(pairs: Mapping[str, str]) -> list[bytes]:
    """A map of texts."""
    return [changed(b"", {1: key, 2: value}) for key, value in pairs.items()]


_META: Final = {"name": 1, "namespace": 3, "uid": 5, "labels": 11, "annotations": 12, "ownerReferences": 13}
_OWNER: Final = {"kind": 1, "name": 3, "uid": 4, "apiVersion": 5, "controller": 6, "blockOwnerDeletion": 7}


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(number, content where it has a length, all of its bytes) of each field."""
    at = 0
    while at < len(message):
        began = at
        tag, at = _number(message, at)
        content = b""
        if tag & 7 == 0:
            _, at = _number(message, at)
        elif tag & 7 == 2:
            length, at = _number(message, at)
            content, at = message[at : at + length], at + length
        else:
            raise ValueError(f"field {tag >> 3} is of a kind ({tag & 7}) that no stored object has")
        yield tag >> 3, content, message[began:at]


def _field(number: int, value: Value) -> bytes:
    if value is None:
        return b""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return _varint(number << 3 | 2) + _varint(len(value)) + value
    return b"".join(_field(number, one) for one in value)


def _number(message: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while True:
        byte = message[at]
        found |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return found, at


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
