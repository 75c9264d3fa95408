"""The certificates of a TLS listener as files: which there are, what changes when they do, what to say of them.

Shared by the box and the gateway. Certificates change on disk without a word (cert-manager and certbot renew them);
`zerogate.http.certificate_watch` looks for that. It blocks: in a thread where traffic runs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from zerogate.errors import DefinitionError
from zerogate.http.certificates import (
    Certificate,
    ClientCertificates,
    KeyPair,
    ServerContexts,
    pairs_in,
    server_contexts,
)

WARN_S: Final = 14 * 86400.0
"""Of 90 days, automatic renewal happens at 30: with 14 left it has failed for two weeks."""
DAY_S: Final = 86400.0


class ListenTls(msgspec.Struct, frozen=True, kw_only=True):
    """Certificates of the TLS listener: pairs, or a folder of them. Paths are absolute."""

    pairs: tuple[KeyPair, ...] = ()
    folder: str | None = None
    clients: ClientCertificates | None = None


def pairs_of(tls: ListenTls) -> tuple[KeyPair, ...]:
    """The pairs that are there now. Raises DefinitionError."""
    return tls.pairs if tls.folder is None else tuple(pairs_in(Path(tls.folder)))


def contexts_of(tls: ListenTls) -> ServerContexts:
    """What a listener needs. Raises DefinitionError as `server_contexts` does."""
    return server_contexts(pairs_of(tls), tls.clients)


def paths_of(tls: ListenTls) -> list[str]:
    """The files to look at: of the pairs that are there now, and the authorities of clients."""
    try:
        pairs = pairs_of(tls)
    except DefinitionError as error:
        return [str(error)]
    paths = [path for pair in pairs for path in (pair.certificate, pair.key)]
    return paths if tls.clients is None else [*paths, tls.clients.authority]


def warnings(server: ServerContexts | None, now_at: float) -> Iterator[str]:
    """Sentences about certificates of the listener that are not valid, or not for long. `now_at`: by the wall clock."""
    for certificate in server.certificates if server is not None else ():
        left_s = certificate.valid_until_at - now_at
        early_s = certificate.valid_from_at - now_at
        path = certificate.pair.certificate
        if left_s <= 0:
            yield f"the certificate {path} expired {_days(-left_s)} ago: clients refuse it. Renew it."
        elif early_s > 0:
            yield f"the certificate {path} is valid only in {_days(early_s)}: is the clock right?"
        elif left_s < WARN_S:
            yield f"the certificate {path} expires in {_days(left_s)}. Renew it; new files are in use within a minute."


def shown(certificate: Certificate, now_at: float) -> str:
    """One line about a certificate for a person."""
    names = ", ".join(certificate.names) or "no names"
    left_s = certificate.valid_until_at - now_at
    until = f"expires in {_days(left_s)}" if left_s > 0 else f"expired {_days(-left_s)} ago"
    return f"{certificate.pair.certificate}: {names}; {until}"


def _days(seconds: float) -> str:
    if seconds < 2 * DAY_S:
        return f"{max(1, int(seconds // 3600))} h"
    return f"{int(seconds // DAY_S)} days"
