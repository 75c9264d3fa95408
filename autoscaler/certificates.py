"""The certificates and secrets that prove an autoscaler: to API servers, to gateways and activators, to sidecars.

One certificate serves the webhook and the stream of reports; it is made and renewed here
(`autoscaler.injector.rotation`) or by somebody else, who puts it into a folder. New connections meet the newest; those
that are open stay. Sidecars are proved to by the masters of their keys (`zerogate.reporting.proof`), which are kept in
the same Secret and never expire: a sidecar's key is as old as its pod. Every autoscaler has all of it, whoever leads.
Owned by the process.
"""

import os
import secrets
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from autoscaler.injector.manifests import Installation, server_names
from autoscaler.injector.rotation import CertificateStore, Given, Rotation
from autoscaler.injector.secret import SecretStore
from zerogate.clock import wall
from zerogate.errors import ZerogateError
from zerogate.kube.client import KubeClient
from zerogate.reporting.proof import new_key

Use = Callable[[bytes, bytes], None]
"""Serve this certificate with its key (PEM) from now on."""
_MOST_BYTES: Final = 256 * 1024


class Certificates:
    """See the module's text. `run` it as a task."""

    def __init__(
        self,
        store: CertificateStore,
        names: Sequence[str],
        *,
        folder: str = "",
        calendar: Callable[[], float] = wall,
    ) -> None:
        self.masters: tuple[bytes, ...] = ()
        self.stats_context: ssl.SSLContext | None = None
        """For the stream of reports; None until there is a certificate."""
        self._users: list[Use] = [self._use_for_stats]
        given = (lambda: read_folder(folder)) if folder else None
        self._rotation = Rotation(store, names, self._use, calendar, on_masters=self._take_masters, given=given)

    def add_user(self, use: Use) -> None:
        """Tell this one too, from the next certificate on: add it before `run`."""
        self._users.append(use)

    @property
    def is_serving(self) -> bool:
        """Whether there is a certificate."""
        return self._rotation.is_serving

    @property
    def fault(self) -> str:
        """Why they cannot be looked after, a sentence; empty: they are."""
        return self._rotation.fault

    @property
    def faults(self) -> tuple[str, ...]:
        """The same for people who do not know what it is about."""
        return (f"the autoscalers' certificates: {self.fault}",) if self.fault else ()

    async def run(self) -> None:
        """Look after them until cancelled."""
        await self._rotation.run()

    def new_key(self, service: str) -> str:
        """The text of a new sidecar's key; empty before there is a master."""
        return new_key(self.masters[0], service, secrets.token_urlsafe(16)).text() if self.masters else ""

    def _take_masters(self, masters: tuple[bytes, ...]) -> None:
        self.masters = masters

    def _use(self, certificate: bytes, key: bytes) -> None:
        for use in self._users:
            use(certificate, key)

    def _use_for_stats(self, certificate: bytes, key: bytes) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        load(context, certificate, key)
        self.stats_context = context


def certificates_of(
    client: KubeClient,
    installation: Installation,
    *,
    secret: str,
    has_webhook: bool = True,
    folder: str = "",
    calendar: Callable[[], float] = wall,
) -> Certificates:
    """Those of a cluster's autoscaler, in its Secret, or with their certificate in a folder that somebody else
    keeps."""
    configuration = installation.name if has_webhook and not folder else ""
    store = SecretStore(client, namespace=installation.namespace, configuration=configuration, secret=secret)
    return Certificates(store, server_names(installation), folder=folder, calendar=calendar)


def read_folder(folder: str) -> Given:
    """As a volume of a Secret of the type kubernetes.io/tls has it. Raises ZerogateError."""
    try:
        certificate, key = (_read(Path(folder) / name) for name in ("tls.crt", "tls.key"))
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
    except OSError as error:  # an SSLError is one
        raise ZerogateError(f"The certificate in {folder} cannot be used: {error}.") from error
    return Given(certificate, key)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)


def load(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Take a pair into a context. OpenSSL takes paths alone, and a private key has no business on a disk."""
    with _InMemory(certificate) as certificate_path, _InMemory(key) as key_path:
        context.load_cert_chain(certificate_path, key_path)


class _InMemory:
    """Bytes as a file that nobody else can open and that leaves no trace."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._descriptor = -1

    def __enter__(self) -> str:
        self._descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
        os.write(self._descriptor, self._content)
        return f"/proc/self/fd/{self._descriptor}"

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
