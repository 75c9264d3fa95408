"""The certificates of a box: loaded, looked at, watched.

`load_tls` opens everything that the file names and says all that is wrong with it; what it returns is given to the
listener and to the pools as a whole. Certificates change on disk without a word (cert-manager and certbot renew them),
so `stamp_of` says whether they did. What concerns the listener alone is in `zerogate.http.certificate_files`. All of it
blocks: in a thread where traffic runs.
"""

import msgspec

from cli.box import BoxFile
from zerogate.errors import DefinitionError, DefinitionErrors
from zerogate.http.certificate_files import contexts_of, paths_of
from zerogate.http.certificates import ServerContexts, replica_context, stamp
from zerogate.http.dial import Secured


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
            server = contexts_of(box.tls)
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
    paths = paths_of(box.tls) if box.tls is not None else []
    for service in box.services.values():
        if service.tls is not None:
            pair = service.tls.pair
            paths += [path for path in (service.tls.authority, *((pair.certificate, pair.key) if pair else ())) if path]
    return stamp(paths)


class BoxCertificates(msgspec.Struct, frozen=True):
    """What `zerogate.http.certificate_watch` looks at."""

    box: BoxFile

    def stamp(self) -> tuple[object, ...]:
        return stamp_of(self.box)

    def load(self) -> LoadedTls:
        return load_tls(self.box)
