"""`python -m gateway` from its first word to its exit code."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.file import EMPTY, GatewayFile, read_file
from gateway.parent import Parent
from gateway.settings import Settings, read
from gateway.tls import ListenerCertificates, ListenerWatch
from zerogate import startup
from zerogate.errors import DefinitionError, DefinitionErrors
from zerogate.http.certificate_watch import CertificateWatch
from zerogate.http.tracing import what_is_missing


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until told to leave; the exit code."""
    return startup.run("gateway", lambda: _told(arguments, environ), lambda told: Parent(*told).run())


def _told(arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[Settings, GatewayFile, ListenerWatch | None]:
    settings = read(arguments, environ)
    if settings.cluster and not settings.kubeconfig and not environ.get("KUBERNETES_SERVICE_HOST"):
        # in a pod it is always set: who waits for it elsewhere waits for ever
        problem = "this process does not run in a pod, since KUBERNETES_SERVICE_HOST is not set"
        raise DefinitionErrors([DefinitionError(problem, key="--cluster", hint="Give --kubeconfig PATH.")])
    file = EMPTY if settings.file is None else read_file(_content(settings.file), settings.file)
    missing = what_is_missing("--trace-to", "leave it out") if settings.trace_to is not None else None
    if missing is not None:
        raise DefinitionErrors([missing])
    tls = CertificateWatch(ListenerCertificates(settings.tls)) if settings.tls is not None else None
    return settings, file, tls


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise DefinitionErrors([DefinitionError(problem, source=path, hint="Give a file of JSON.")]) from error
