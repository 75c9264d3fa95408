"""Which requests the admin API answers at all. Pure.

It has no passwords: what protects it is that only this machine reaches it. A web page in a browser on this machine
must not borrow that. A page of another origin can send requests (refused by `Origin` and `Sec-Fetch-Site` where they
would change something) and can point its own name at 127.0.0.1 (refused by `Host`: a name that is not ours). What a
Kubernetes API server passes on has the API server's own name, which cannot be known here: `X-Forwarded-Uri` shows it,
and it counts only where others than this machine are let in anyway.
"""

import ipaddress
from collections.abc import Mapping
from typing import Final

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PROBED_PATHS: Final = frozenset({"/metrics", "/healthz", "/readyz"})
"""Asked for by machines under whatever name this one has, once the API binds more than loopback."""


def refusal(method: str, path: str, headers: Mapping[str, str], *, bound_to: str) -> str | None:
    """Why the request is refused, as a sentence; None where it may pass. `bound_to`: the host that the API binds."""
    host = headers.get("Host", "")
    if not _is_ours(host, path, bound_to) and not _is_from_api_server(headers, bound_to):
        return f"The name {host!r} is not one of this admin API; ask for it as http://{bound_to}, or as localhost."
    if method in SAFE_METHODS:
        return None
    origin = headers.get("Origin")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        return f"A page of {origin} may not change anything here."
    if headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        return "A page of another site may not change anything here."
    return None


def _is_from_api_server(headers: Mapping[str, str], bound_to: str) -> bool:
    return not is_loopback(bound_to) and headers.get("X-Forwarded-Uri", "").startswith("/api/v1/namespaces/")


def is_loopback(host: str) -> bool:
    """Whether the host, a name or an address, is this machine seen from itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_ours(header: str, path: str, bound_to: str) -> bool:
    host = _without_port(header).lower()
    if is_loopback(host) or host == bound_to.lower():
        return bool(host)
    if is_loopback(bound_to):
        return False
    return path in PROBED_PATHS or _is_address(host)


def _is_address(host: str) -> bool:
    """An address cannot be pointed elsewhere as a name can."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _without_port(header: str) -> str:
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0] if header.count(":") == 1 else header
