"""Certificates for tests, made in memory and written where a test wants them.

authority = Authority()
pair = authority.issue(tmp_path, "chat", names=["chat.test"])      # tmp_path/chat.crt, tmp_path/chat.key
"""

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from zerogate.http.certificates import KeyPair

PEM = serialization.Encoding.PEM
_UTC = datetime.UTC


class Authority:
    """Signs certificates."""

    def __init__(self, name: str = "Test Authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        now = datetime.datetime.now(_UTC)
        self._certificate = (
            _builder(self._name, self._name, self._key, now - datetime.timedelta(days=1), days=30)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def write(self, path: Path) -> str:
        """The authority's own certificate as a file; its path."""
        path.write_bytes(self._certificate.public_bytes(PEM))
        return str(path)

    def issue(
        self,
        folder: Path,
        stem: str,
        *,
        names: list[str] | None = None,
        uris: list[str] | None = None,
        subject: str | None = None,
        days: float = 30,
        began_days_ago: float = 1,
        is_client: bool = False,
        password: bytes | None = None,
        organizations: Sequence[str] = ("Tests",),
    ) -> KeyPair:
        """A certificate and its key in `folder`; `names` may be addresses. Kubernetes reads organizations as groups."""
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        began = datetime.datetime.now(_UTC) - datetime.timedelta(days=began_days_ago)
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if is_client else ExtendedKeyUsageOID.SERVER_AUTH
        alternatives = [_alternative(name) for name in names or ["127.0.0.1", "localhost"]]
        certificate = (
            _builder(_name(subject or stem, organizations), self._name, key, began, days=days + began_days_ago)
            .add_extension(
                x509.SubjectAlternativeName(
                    [*alternatives, *(x509.UniformResourceIdentifier(uri) for uri in uris or [])]
                ),
                critical=False,
            )
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pair = KeyPair(str(folder / f"{stem}.crt"), str(folder / f"{stem}.key"))
        Path(pair.key).write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, how))
        Path(pair.certificate).write_bytes(certificate.public_bytes(PEM))
        return pair

    def trusted(self, pair: KeyPair | None = None) -> ssl.SSLContext:
        """A client's context that trusts this authority, and shows `pair`."""
        context = ssl.create_default_context(cadata=self._certificate.public_bytes(PEM).decode())
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return context


def _name(common_name: str, organizations: Sequence[str] = ("Tests",)) -> x509.Name:
    return x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization) for organization in organizations),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    began: datetime.datetime,
    *,
    days: float,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + datetime.timedelta(days=days))
    )
