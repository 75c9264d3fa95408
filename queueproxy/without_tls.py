"""A process that speaks no TLS does without OpenSSL: 4 to 6 MiB of each pod.

uvloop imports `ssl` whether it is used or not. The sidecar stands beside its model server, takes requests inside the
pod's network, and autoscalers prove themselves to it by its pod's key (`zerogate.reporting.proof`), so it never needs
it. Digests are Python's own: `hashlib` does without OpenSSL where `_hashlib` is not there. `leave_out` puts a module in
the place of `ssl` that has the names which uvloop and the engine look up while they are imported, and nothing that
works: whoever asked for TLS all the same would get an AttributeError at once, never a connection in the clear. Called
by `queueproxy.__main__` before anything else is imported.
"""

import sys
from types import ModuleType
from typing import Final

_TYPES: Final = ("MemoryBIO", "SSLContext", "SSLObject", "SSLSocket")
_ERRORS: Final = (
    "CertificateError", "SSLCertVerificationError", "SSLError", "SSLSyscallError", "SSLWantReadError",
    "SSLZeroReturnError",
)  # fmt: skip
_CODES: Final = ("SSL_ERROR_WANT_READ", "SSL_ERROR_WANT_WRITE", "SSL_ERROR_SYSCALL")


def leave_out() -> None:
    """From now on `import ssl` loads nothing; where it is loaded already, it stays."""
    absent = ModuleType("ssl", "TLS is left out of this process: see queueproxy/without_tls.py.")
    for name in _TYPES:
        setattr(absent, name, type(name, (), {}))
    for name in _ERRORS:
        setattr(absent, name, type(name, (OSError,), {}))
    for name in _CODES:
        setattr(absent, name, -1)

    def create_default_context() -> None:
        raise AttributeError("TLS is left out of this process")

    absent.create_default_context = create_default_context  # type: ignore[attr-defined]
    sys.modules.setdefault("ssl", absent)
    if "hashlib" not in sys.modules:
        sys.modules.setdefault("_hashlib", None)  # type: ignore[arg-type]
