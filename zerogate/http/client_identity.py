"""Who a client with a certificate is, as the field that tells it to a replica. Pure.

`X-Forwarded-Client-Cert` in Envoy's form, because what reads such a field reads this one. Only zerogate can set it:
`zerogate.http.heads` drops what clients send under this name and under RFC 9440's. Values come out of a certificate
that was verified, but whoever made it chose the letters: all that could end a value is percent-encoded.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

FIELD: Final = b"X-Forwarded-Client-Cert"
LONGEST: Final = 256
"""Of one value."""
MOST_NAMES: Final = 8
"""Of each kind: certificates of clients have one."""
MOST_PARTS: Final = 12
"""Of a subject, the most specific ones."""

_SHORT: Final = {
    "commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C",
    "localityName": "L", "stateOrProvinceName": "ST", "domainComponent": "DC", "userId": "UID",
}  # fmt: skip


def identity_line(certificate: Mapping[str, Any], der: bytes) -> bytes:
    """The field with its end of line. `certificate` is what `getpeercert()` gives, `der` the certificate itself."""
    subject = ",".join(
        f"{_SHORT.get(key, key)}={_safe(value)}"
        for part in reversed(certificate.get("subject", ())[-MOST_PARTS:])
        for key, value in part
    )
    parts = [f"Hash={sha256(der).hexdigest()}", f'Subject="{subject}"']
    for kind in ("URI", "DNS"):
        values = [value for name, value in certificate.get("subjectAltName", ()) if name == kind]
        parts.extend(f"{kind}={_safe(value)}" for value in values[:MOST_NAMES])
    return b"%b: %b\r\n" % (FIELD, ";".join(parts).encode("ascii"))


def _safe(value: str) -> str:
    return quote(value[:LONGEST], safe=" -._~:/@*+")
