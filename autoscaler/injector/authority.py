"""Makes and reads the webhook's certificates, as they stand in a Secret. The only importer of cryptography.

The Secret's data: `ca.crt` all authorities, oldest first (what API servers are told to trust), `ca.key` their keys in
the same order, `tls.crt` and `tls.key` what is served. Each function takes milliseconds; what is nonsense is nothing.
"""

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from autoscaler.injector.validity import (
    AUTHORITY_LIVES_S,
    LEAF_LIVES_S,
    Authority,
    Forget,
    Held,
    Leaf,
    NewAuthority,
    Step,
)

BUNDLE, KEYS, LEAF, LEAF_KEY = "ca.crt", "ca.key", "tls.crt", "tls.key"
_EARLIER_S: Final = 3600.0
"""Certificates begin so much before they were made, for clocks that are late."""
_PEM: Final = serialization.Encoding.PEM
_BLOCK: Final = re.compile(rb"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----\n?", re.DOTALL)

Data = Mapping[str, bytes]


def read_held(data: Data) -> Held:
    """What there is. What cannot be read, or whose key is missing, is not there."""
    try:
        certificates = [x509.load_pem_x509_certificate(block) for block in _blocks(data, BUNDLE)]
        keys = [serialization.load_pem_private_key(block, None) for block in _blocks(data, KEYS)]
        authorities = tuple(Authority(_fingerprint(one), *_life(one)) for one in certificates)
        belong = len(keys) == len(certificates) and all(
            key.public_key() == one.public_key() for key, one in zip(keys, certificates, strict=True)
        )
    except (ValueError, TypeError):
        return Held()
    return Held(authorities, _leaf(data, certificates)) if belong else Held()


def _blocks(data: Data, name: str) -> list[bytes]:
    return _BLOCK.findall(data.get(name, b""))


def _leaf(data: Data, authorities: Sequence[x509.Certificate]) -> Leaf | None:
    try:
        leaf = x509.load_pem_x509_certificate(data.get(LEAF, b""))
        key = serialization.load_pem_private_key(data.get(LEAF_KEY, b""), None)
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return None
    issuer = next((one for one in authorities if _is_signed(leaf, one)), None)
    if issuer is None or key.public_key() != leaf.public_key():
        return None
    return Leaf(_fingerprint(issuer), tuple(alternatives.get_values_for_type(x509.DNSName)), *_life(leaf))


def _is_signed(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001 - of several libraries' trees; each means that it is not
        return False
    return True


def take(step: Step, data: Data, names: Sequence[str], now_at: float) -> dict[str, bytes]:
    """The Secret's data after a step of `autoscaler.injector.validity`."""
    certificates, keys = _blocks(data, BUNDLE), _blocks(data, KEYS)
    if isinstance(step, NewAuthority):
        certificate, key = _new_authority(now_at)
        valid = read_held(data).authorities
        kept = (certificates, keys) if valid else ([], [])
        return {**data, BUNDLE: b"".join([*kept[0], certificate]), KEYS: b"".join([*kept[1], key])}
    prints = [_fingerprint(x509.load_pem_x509_certificate(block)) for block in certificates]
    if isinstance(step, Forget):
        stay = [index for index, one in enumerate(prints) if one not in step.fingerprints]
        return {
            **data,
            BUNDLE: b"".join(certificates[index] for index in stay),
            KEYS: b"".join(keys[index] for index in stay),
        }
    index = prints.index(step.issuer)
    certificate, key = _new_leaf(certificates[index], keys[index], names, now_at)
    return {**data, LEAF: certificate, LEAF_KEY: key}


def _new_authority(now_at: float) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"zerogate webhook {int(now_at)}")
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder(name, name, key.public_key(), now_at, now_at + AUTHORITY_LIVES_S)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(_PEM), _key_bytes(key)


def _new_leaf(authority: bytes, authority_key: bytes, names: Sequence[str], now_at: float) -> tuple[bytes, bytes]:
    issuer = x509.load_pem_x509_certificate(authority)
    issuer_key = serialization.load_pem_private_key(authority_key, None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    until_at = min(now_at + LEAF_LIVES_S, _life(issuer)[1])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    certificate = (
        _builder(_name(names[0][:64]), issuer.subject, key.public_key(), now_at, until_at)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return certificate.public_bytes(_PEM), _key_bytes(key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now_at: float, until_at: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_stamp(now_at - _EARLIER_S))
        .not_valid_after(_stamp(until_at))
    )


def _stamp(at: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(at), datetime.UTC)


def _life(certificate: x509.Certificate) -> tuple[float, float]:
    began = certificate.not_valid_before_utc.timestamp() + _EARLIER_S
    return began, certificate.not_valid_after_utc.timestamp()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
