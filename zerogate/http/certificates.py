"""Certificates as files: read, tried, described, chosen by name.

Everything is found out before a client meets it: each pair is loaded and shakes hands once with itself in memory, which
shows that key and certificate belong together, that the certificate is one for servers, whom it names and until when.
It blocks (files, and a few milliseconds for each pair): not for the loop that carries traffic. Old contexts go on
serving the connections they were made for, so a reload makes new ones and swaps them.
"""

import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from zerogate.errors import DefinitionError, shown

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption, nothing else. TLS 1.3 has only such."""
ALPN: Final = ("h2", "http/1.1")
"""What is offered to clients, best first; `zerogate.http.entrance` says who speaks it."""
REPLICA_ALPN: Final = {False: ("http/1.1",), True: ("h2",)}
"""What is offered to replicas, by whether HTTP/2 is to be spoken: one word, since the policy has decided."""

_NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of openssl/x509_vfy.h: an expired certificate can be described, too."""
_SHOWN: Final = 500
"""A path is of no use when it is cut."""
_LARGEST_BYTES: Final = 4 * 1024 * 1024


class KeyPair(msgspec.Struct, frozen=True):
    """Paths of a certificate (with what is between it and its authority, leaf first) and of its key."""

    certificate: str
    key: str


class ClientCertificates(msgspec.Struct, frozen=True):
    """`authority`: path of the certificates that a client's has to lead to; `required`: whether it has to have one."""

    authority: str
    required: bool


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What a loaded certificate says. Times are by the wall clock."""

    pair: KeyPair
    names: tuple[str, ...]
    """DNS names, small letters, `*.` in front of some; IP addresses as text."""
    valid_from_at: float
    valid_until_at: float


class ServerContexts:
    """Contexts of one listener by the names of their certificates; the first is for everyone else."""

    def __init__(self, loaded: Sequence[tuple[ssl.SSLContext, Certificate]]) -> None:
        self.certificates = tuple(certificate for _, certificate in loaded)
        self.default = loaded[0][0]
        self._by_name: dict[str, ssl.SSLContext] = {}
        for context, certificate in loaded:
            for name in certificate.names:
                self._by_name.setdefault(name, context)
        self.default.sni_callback = self._choose

    def of(self, server_name: str | None) -> ssl.SSLContext:
        """The context for a name that a client asks for: exact, then a wildcard for its first label, then the first."""
        if not server_name:
            return self.default
        name = server_name.lower()
        return self._by_name.get(name) or self._by_name.get(f"*.{name.partition('.')[2]}") or self.default

    def _choose(self, tls: ssl.SSLObject, server_name: str | None, asked: ssl.SSLContext) -> None:
        chosen = self.of(server_name)
        if chosen is not asked:
            tls.context = chosen


def server_contexts(pairs: Iterable[KeyPair], clients: ClientCertificates | None) -> ServerContexts:
    """Load what a listener needs. Raises DefinitionError with the key `certificate`, `key` or `client-ca`, and of the
    pair at `[n]`."""
    loaded = []
    for at, pair in enumerate(pairs):
        try:
            loaded.append(_load(pair, clients))
        except DefinitionError as error:
            raise error if error.key == "client-ca" else _renamed(error, f"[{at}].{error.key}") from error
    return ServerContexts(loaded)


def _renamed(error: DefinitionError, key: str) -> DefinitionError:
    return DefinitionError(error.problem, key=key, hint=error.hint)


def _load(pair: KeyPair, clients: ClientCertificates | None) -> tuple[ssl.SSLContext, Certificate]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(ALPN)
    load_pair(context, pair)
    certificate = describe(pair, context)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED if clients.required else ssl.CERT_OPTIONAL
        load_authority(context, clients.authority, "client-ca")
    return context, certificate


def replica_context(
    authority: str | None, pair: KeyPair | None, *, verify: bool, http_2: bool = False
) -> ssl.SSLContext:
    """How replicas are talked to. Without an authority the system's are trusted. Raises DefinitionError with the key
    `ca`, `certificate` or `key`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(REPLICA_ALPN[http_2])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif authority is not None:
        load_authority(context, authority, "ca")
        # the file says what is trusted; it may be the replica's own certificate
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    else:
        context.load_default_certs()
    if pair is not None:
        load_pair(context, pair)
    return context


def load_pair(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Give the context its certificate and key. Raises DefinitionError with the key `certificate` or `key`."""
    _pem(pair.certificate, "certificate", b"-----BEGIN CERTIFICATE-----", "a certificate")
    text = _pem(pair.key, "key", b"PRIVATE KEY-----", "a private key")
    if b"ENCRYPTED" in text:
        hint = "Nobody could type its password at a restart: write it without one (openssl pkey -in KEY -out PLAIN)."
        raise DefinitionError(f"the key in {_path(pair.key)} is encrypted", key="key", hint=hint)
    try:
        context.load_cert_chain(pair.certificate, pair.key, password="")
    except ssl.SSLError as error:
        raise _unusable(error, pair) from error
    except OSError as error:
        raise _unreadable(error, pair.certificate, "certificate") from error


def _unusable(error: ssl.SSLError, pair: KeyPair) -> DefinitionError:
    if error.reason == "KEY_VALUES_MISMATCH":
        problem = f"the key in {_path(pair.key)} does not belong to the certificate in {_path(pair.certificate)}"
        hint = "The server's own certificate has to stand first in its file, before those of authorities."
        return DefinitionError(problem, key="key", hint=hint)
    if error.reason and "TOO_SMALL" in error.reason:
        problem = f"the key of {_path(pair.certificate)} is too short to be safe"
        return DefinitionError(problem, key="certificate", hint="Have one made with ECDSA P-256 or RSA of 2048 bits.")
    what = error.reason.replace("_", " ").lower() if error.reason else "it is damaged"
    problem = f"{_path(pair.certificate)} with {_path(pair.key)} cannot be used: {what}"
    return DefinitionError(problem, key="certificate", hint="Both have to be whole files in PEM.")


def load_authority(context: ssl.SSLContext, path: str, key: str) -> None:
    """Trust the certificates of a file. Raises DefinitionError with that key."""
    _pem(path, key, b"-----BEGIN CERTIFICATE-----", "a certificate")
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise DefinitionError(f"{_path(path)} is damaged", key=key, hint="It has to be whole, in PEM.") from error
    except OSError as error:
        raise _unreadable(error, path, key) from error


def _pem(path: str, key: str, mark: bytes, what: str) -> bytes:
    """The text of a file that has to hold `what`. Raises DefinitionError."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(_LARGEST_BYTES)
    except OSError as error:
        raise _unreadable(error, path, key) from error
    if mark not in text:
        is_der = text[:1] == b"\x30"
        hint = "It is binary (DER); convert it with openssl." if is_der else "It has to be text in PEM: -----BEGIN …"
        raise DefinitionError(f"{_path(path)} holds no {what.partition(' ')[2]} in PEM", key=key, hint=hint)
    return text


def _unreadable(error: OSError, path: str, key: str) -> DefinitionError:
    if isinstance(error, PermissionError):
        hint = "Let the user that zerogate runs as read it: group and mode 0640 are enough."
        return DefinitionError(f"{_path(path)} may not be read", key=key, hint=hint)
    if isinstance(error, FileNotFoundError):
        hint = "Paths are seen from the folder of the file."
        return DefinitionError(f"there is no file {_path(path)}", key=key, hint=hint)
    return DefinitionError(f"{_path(path)} cannot be read: {(error.strerror or str(error)).lower()}", key=key)


def _path(path: str) -> str:
    return shown(path, longest=_SHOWN)


def describe(pair: KeyPair, context: ssl.SSLContext) -> Certificate:
    """What the loaded pair says of itself: it shakes hands with a client that trusts exactly it. Raises
    DefinitionError with the key `certificate`."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(pair.certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        client.wrap_bio(to_client, to_server),
        context.wrap_bio(to_server, to_client, server_side=True),
    )
    try:
        for side in sides * 2:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
        said = sides[0].getpeercert() or {}
    except (ssl.SSLError, ValueError) as error:
        what = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
        problem = f"{_path(pair.certificate)} cannot be used by a server: {what.replace('_', ' ').lower()}"
        hint = "It has to be one for servers (extended key usage serverAuth, or none)."
        raise DefinitionError(problem, key="certificate", hint=hint) from error
    alternatives: Any = said.get("subjectAltName", ())
    return Certificate(
        pair=pair,
        names=tuple(str(value).lower() for kind, value in alternatives if kind in ("DNS", "IP Address")),
        valid_from_at=ssl.cert_time_to_seconds(str(said["notBefore"])),
        valid_until_at=ssl.cert_time_to_seconds(str(said["notAfter"])),
    )


def pairs_in(folder: Path) -> list[KeyPair]:
    """The pairs of a folder: NAME.crt beside NAME.key, and tls.crt beside tls.key in folders below it, as Kubernetes
    mounts secrets. `default` first, the others by name. Raises DefinitionError for a certificate without its key."""
    found: dict[str, KeyPair] = {}
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise _unreadable(error, str(folder), "") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue  # ..data and its like, through which Kubernetes swaps the whole content
        certificate = entry / "tls.crt" if entry.is_dir() else entry
        if certificate.suffix == ".crt" and certificate.is_file():
            key = certificate.with_suffix(".key")
            if not key.exists():
                hint = "Put the key beside it, or take the certificate out."
                raise DefinitionError(f"{_path(str(certificate))} has no {key.name} beside it", hint=hint)
            found[entry.name if entry.is_dir() else entry.stem] = KeyPair(str(certificate), str(key))
    if not found:
        hint = "Put NAME.crt and NAME.key there, or folders with tls.crt and tls.key."
        raise DefinitionError(f"the folder {_path(str(folder))} holds no certificates", hint=hint)
    return [found[name] for name in sorted(found, key=lambda name: (name != "default", name))]


def stamp(paths: Iterable[str]) -> tuple[object, ...]:
    """What changes when one of the files does. A missing one has a stamp, too."""
    return tuple(_stamp_of(path) for path in paths)


def _stamp_of(path: str) -> object:
    try:
        found = Path(path).stat()
    except OSError as error:
        return (path, error.errno)
    return (path, found.st_ino, found.st_mtime_ns, found.st_size)
