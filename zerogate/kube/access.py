"""Where the API server is and how one shows who one is: inside a pod, or by a kubeconfig.

Inside a pod that is two environment variables and two files, read here. A kubeconfig may ask for plugins, OIDC, several
files merged: that is `kubernetes_asyncio`'s part, imported (1.2 s, 66 MiB) only where there is a kubeconfig to read.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from zerogate.clock import now
from zerogate.errors import MachineError

POD_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")

TOKEN_AGE_S = 60.0
"""The kubelet replaces a token when 80 % of its life (mostly of an hour) is over: a minute is soon enough."""


class Access:
    """The way in. `server` is a URL without a path at its end; `tls` None means plain HTTP (tests).

    `namespace` is the one that the credentials belong to; empty where they say none.
    """

    def __init__(
        self,
        server: str,
        *,
        tls: ssl.SSLContext | None = None,
        token: Callable[[], str] | None = None,
        namespace: str = "",
        renew: Callable[[], Awaitable[None]] | None = None,
        server_name: str | None = None,
        proxy: str | None = None,
    ) -> None:
        self.server = server.rstrip("/")
        self.tls = tls
        self.namespace = namespace
        self.server_name = server_name
        self.proxy = proxy
        self._token = token
        self._renew = renew

    def headers(self) -> dict[str, str]:
        """`Authorization`, where a token is used."""
        token = self._token() if self._token else ""
        return {"Authorization": f"Bearer {token}"} if token else {}

    async def renew(self) -> None:
        """The server did not accept the credentials: read or ask for new ones."""
        if self._renew:
            await self._renew()


class TokenFile:
    """A token that somebody replaces in its file."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = now) -> None:
        self._path = path
        self._clock = clock
        self._token = ""
        self._read_at_s = float("-inf")

    def __call__(self) -> str:
        """The token, read anew when it is a minute old; when the file cannot be read now, the last one."""
        if self._clock() - self._read_at_s >= TOKEN_AGE_S:
            self._read()
        return self._token

    def _read(self) -> None:
        try:
            self._token = self._path.read_text().strip() or self._token
        except OSError:
            if not self._token:
                raise
        self._read_at_s = self._clock()

    async def renew(self) -> None:
        """Read it at the next call, whatever its age."""
        self._read_at_s = float("-inf")


def in_pod(environ: Mapping[str, str], folder: Path = POD_FOLDER) -> Access:
    """The ServiceAccount of the pod that this process runs in. MachineError says what is missing."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise MachineError(
            "This process does not run in a pod: KUBERNETES_SERVICE_HOST is not set. "
            "Outside of a cluster give --kubeconfig PATH."
        )
    token = TokenFile(folder / "token")
    try:
        token()
        tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        namespace = (folder / "namespace").read_text().strip()
    except OSError as error:
        raise MachineError(
            f"The pod has no ServiceAccount token in {folder} ({error.strerror or error}). "
            "Take `automountServiceAccountToken: false` away from the pod or its ServiceAccount."
        ) from error
    address = f"[{host}]" if ":" in host else host
    return Access(f"https://{address}:{port}", tls=tls, token=token, namespace=namespace, renew=token.renew)


async def way_in(kubeconfig: str, environ: Mapping[str, str]) -> Access:
    """By that file, or where none is named as the pod's own account: what `--kubeconfig` says. Raises MachineError."""
    return await by_kubeconfig(Path(kubeconfig)) if kubeconfig else in_pod(environ)


async def by_kubeconfig(path: Path | None = None, *, context: str | None = None) -> Access:
    """A context of a kubeconfig; without `path` that of `KUBECONFIG` or `~/.kube/config`.

    MachineError says what is wrong. The first call holds the loop for the 1.2 s of the import.
    """
    if path is not None and not await asyncio.to_thread(path.exists):
        raise MachineError(f"No way into a cluster by the kubeconfig {path}: there is no such file.")
    from kubernetes_asyncio.client.configuration import Configuration
    from kubernetes_asyncio.config import ConfigException, load_kube_config
    from yaml import YAMLError

    settings: Any = Configuration()

    async def load() -> Any:
        return await load_kube_config(
            str(path) if path else None, context=context, client_configuration=settings, persist_config=False
        )

    try:
        loader = await load()
    except (ConfigException, OSError, YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        where = f"the kubeconfig {path}" if path else "KUBECONFIG or ~/.kube/config"
        why = "it is YAML, and not a kubeconfig. `kubectl config view` shows what one has to say."
        if isinstance(error, ConfigException | OSError):
            why = str(error)
        elif isinstance(error, YAMLError):
            why = f"it is not YAML: {' '.join(str(error).split())}."
        raise MachineError(f"No way into a cluster by {where}: {why}") from error

    def token() -> str:
        return str(settings.api_key.get("BearerToken", "")).removeprefix("Bearer ")

    async def renew() -> None:
        await load()

    return Access(
        settings.host,
        tls=_tls(settings),
        token=token,
        namespace=_namespace(loader),
        renew=renew,
        server_name=settings.tls_server_name,
        proxy=settings.proxy,
    )


def _namespace(loader: Any) -> str:
    current = loader.current_context
    return str(current["context"].get("namespace", "")) if current else ""


def _tls(settings: Any) -> ssl.SSLContext | None:
    if not settings.host.startswith("https"):
        return None
    context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    if not settings.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, keyfile=settings.key_file)
    return context
