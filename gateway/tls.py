"""The certificates of a gateway's TLS listener, as `zerogate.http.certificate_watch` loads and watches them.

The parent loads them before it binds, and forks workers that have them; each worker then watches the files itself.
"""

from typing import TypeAlias

import msgspec

from zerogate.errors import DefinitionError, DefinitionErrors
from zerogate.http.certificate_files import ListenTls, contexts_of, paths_of
from zerogate.http.certificate_watch import CertificateWatch
from zerogate.http.certificates import ServerContexts, stamp


class LoadedListener(msgspec.Struct, frozen=True):
    """What was loaded."""

    server: ServerContexts | None


class ListenerCertificates(msgspec.Struct, frozen=True):
    """The files that the flags name."""

    tls: ListenTls

    def stamp(self) -> tuple[object, ...]:
        return stamp(paths_of(self.tls))

    def load(self) -> LoadedListener:
        try:
            return LoadedListener(contexts_of(self.tls))
        except DefinitionError as error:
            key = "--client-ca" if error.key == "client-ca" else "--tls"
            raise DefinitionErrors([DefinitionError(error.problem, key=key, hint=error.hint)]) from error


ListenerWatch: TypeAlias = CertificateWatch[LoadedListener]
