"""Chooses how to look for the model's name in a request's body. Pure.

Only a form says so reliably: `curl -d` labels JSON as a URL-encoded form, and model servers read it all the same, so
everything that is not a multipart form is read as JSON. Called by the gateway's shell for a `router.ByModel`.
"""

from gateway.model_peek import ModelPeek
from gateway.multipart_peek import BOUNDARY_LIMIT_BYTES, MultipartPeek, parse_parameters
from gateway.peeked import Peek
from zerogate.errors import Refusal


def peek_for(content_type: bytes | None, content_encoding: bytes | None = None) -> Peek | Refusal:
    """The reader for a body with these headers (None: not sent), or the 400 or 415 where none can read it."""
    if content_encoding is not None and content_encoding.strip().lower() not in (b"", b"identity"):
        return Refusal(
            status=415,
            code="body_encoded",
            detail="The model's name cannot be read out of a compressed body. Send it without Content-Encoding, "
            "or call the service by its own host or path prefix.",
            hopeless=True,
        )
    kind, semicolon, rest = (content_type or b"").partition(b";")
    if kind.strip().lower() != b"multipart/form-data":
        return ModelPeek()
    boundary = (parse_parameters(semicolon + rest) or {}).get(b"boundary", b"")
    if not 0 < len(boundary) <= BOUNDARY_LIMIT_BYTES:
        return Refusal(
            status=400,
            code="body_malformed",
            detail=f"A multipart form needs one boundary of 1 to {BOUNDARY_LIMIT_BYTES} bytes in its Content-Type.",
            hopeless=True,
        )
    return MultipartPeek(boundary)
