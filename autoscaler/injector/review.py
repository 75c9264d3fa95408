"""Admission reviews as the API server posts them, and the answers. Pure.

An answer always carries the review's uid and always allows, unless somebody's own annotations are wrong. Warnings reach
whoever applied the object, one line each; the API server cuts long ones, so they are cut here where it can be seen.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from zerogate.errors import UNREADABLE, ZerogateError

API_VERSION: Final = "admission.k8s.io/v1"
_LONGEST_WARNING: Final = 256
"""Signs; an API server may cut what is longer."""
_MOST_WARNINGS: Final = 12
"""An API server drops those over 4 KiB altogether."""


class MalformedReviewError(ZerogateError):
    """What came is not an admission review."""


class Kind(msgspec.Struct, frozen=True):
    """Of an object."""

    kind: str
    group: str = ""
    version: str = ""


class Request(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is asked. `object` is what would be stored, `old_object` what is."""

    uid: str
    kind: Kind
    operation: str = "CREATE"
    namespace: str = ""
    name: str = ""
    object: dict[str, Any] | None = None
    old_object: dict[str, Any] | None = None
    dry_run: bool = False
    """Nothing will be stored, and nothing may happen elsewhere because of it."""


class _Review(msgspec.Struct, frozen=True, rename="camel"):
    request: Request
    api_version: str


_DECODER: Final = msgspec.json.Decoder(_Review)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered. `refusal`: why it is not allowed; None allows."""

    operations: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[str] = ()
    refusal: str | None = None


UNCHANGED: Final = Answer()


def read_review(body: bytes) -> Request:
    """The request in a review. Raises MalformedReviewError."""
    try:
        review = _DECODER.decode(body)
    except UNREADABLE as error:
        raise MalformedReviewError(f"This is not an admission review: {error}.") from error
    if review.api_version != API_VERSION:
        raise MalformedReviewError(f"This is a review of another version than {API_VERSION}.")
    return review.request


def write_review(uid: str, answer: Answer) -> bytes:
    """The review that answers the one with `uid`."""
    response: dict[str, Any] = {"uid": uid, "allowed": answer.refusal is None}
    if answer.refusal is not None:
        response["status"] = {"code": 422, "reason": "Invalid", "message": answer.refusal}
    elif answer.operations:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(msgspec.json.encode(answer.operations)).decode()
    if answer.warnings:
        response["warnings"] = [*_warnings(answer.warnings)]
    return msgspec.json.encode({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response})


def _warnings(texts: Iterable[str]) -> Iterable[str]:
    for text in [*texts][:_MOST_WARNINGS]:
        line = "zerogate: " + " ".join(text.split())
        yield line if len(line) <= _LONGEST_WARNING else line[: _LONGEST_WARNING - 1] + "…"
