"""The certificates of a box: loaded, looked at, watched.

`load_tls` opens everything that the file names and says all that is wrong with it; what it returns is given to the
listener and to the pools as a whole. Certificates change on disk without a word (cert-manager and certbot renew them),
so `stamp_of` says whether they did. All of it blocks: in a thread where traffic runs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from cli.box import BoxFile, ListenTls
from zerogate.errors import DefinitionError, DefinitionErrors
from zerogate.http.certificates import (
    Certificate,
    KeyPair,
    ServerContexts,
    pairs_in,
    replica_context,
    server_contexts,
    stamp,
)
from zerogate.http.dial import Secured

WARN_S: Final = 14 * 86400.0
"""Of 90 days, automatic renewal happens at 30: with 14 left it has failed for two weeks."""
DAY_S: Final = 86400.0


class LoadedTls(msgspec.Struct, frozen=True):
    """`server`: of the TLS listener; `endpoints`: by service, of those over TLS."""

    server: ServerContexts | None
    endpoints: dict[str, Secured]


def load_tls(box: BoxFile) -> LoadedTls:
    """Everything about TLS that the file names. Raises DefinitionErrors."""
    errors: list[DefinitionError] = []
    server = None
    endpoints: dict[str, Secured] = {}
    if box.tls is not None:
        try:
            server = server_contexts(_pairs(box.tls), box.tls.clients)
        except DefinitionError as error:
            errors.append(_placed(error, box, "client-ca" if error.key == "client-ca" else _joined("tls", error.key)))
    for service in box.services.values():
        tls = service.tls
        if tls is None:
            continue
        try:
            context = replica_context(
                tls.authority, tls.pair, verify=tls.verify, http_2=service.policy.protocol == "h2"
            )
        except DefinitionError as error:
            errors.append(_placed(error, box, f"services.{service.name}.tls.{error.key}"))
        else:
            endpoints[service.name] = Secured(context, tls.server_name)
    if errors:
        raise DefinitionErrors(errors)
    return LoadedTls(server, endpoints)


def _pairs(tls: ListenTls) -> tuple[KeyPair, ...]:
    return tls.pairs if tls.folder is None else tuple(pairs_in(Path(tls.folder)))


def _joined(above: str, key: str) -> str:
    return f"{above}.{key}" if key else above


def _placed(error: DefinitionError, box: BoxFile, key: str) -> DefinitionError:
    """The error with its place in the file. A pair of a folder stands where the folder does."""
    if box.tls is not None and box.tls.folder is not None and key.startswith("tls."):
        key = "tls"
    return DefinitionError(
        error.problem, key=key, hint=error.hint, source=box.source, line=box.line_of(*key.split("."))
    )


def stamp_of(box: BoxFile) -> tuple[object, ...]:
    """What changes when one of the files does, or when a folder has others."""
    paths: list[str] = []
    if box.tls is not None:
        try:
            pairs = _pairs(box.tls)
        except DefinitionError as error:
            pairs, paths = (), [str(error)]
        paths += [path for pair in pairs for path in (pair.certificate, pair.key)]
        paths += [box.tls.clients.authority] if box.tls.clients is not None else []
    for service in box.services.values():
        if service.tls is not None:
            pair = service.tls.pair
            paths += [path for path in (service.tls.authority, *((pair.certificate, pair.key) if pair else ())) if path]
    return stamp(paths)


def warnings(tls: LoadedTls, now_at: float) -> Iterator[str]:
    """Sentences about certificates of the listener that are not valid, or not for long. `now_at`: by the wall clock."""
    for certificate in tls.server.certificates if tls.server is not None else ():
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
