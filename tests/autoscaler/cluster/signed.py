"""A signer of ServiceAccount tokens, as an API server is one, and what it publishes of its keys."""

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ISSUER = "https://kubernetes.default.svc"
AUDIENCE = "zerogate-stats"
WALL_S = 1_790_000_000.0
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(number: int) -> str:
    return coded(number.to_bytes((number.bit_length() + 7) // 8, "big"))


class Signer:
    """One key, elliptic or RSA. `kid`: what it is called."""

    def __init__(self, kid: str = "one", *, rsa_bits: int = 0) -> None:
        self.kid = kid
        self.key: Key = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(_CURVE)
        self.algorithm = "RS256" if rsa_bits else "ES256"

    def jwk(self, **more: Any) -> dict[str, Any]:
        """As the API server publishes it."""
        about = {"use": "sig", "kid": self.kid, "alg": self.algorithm}
        if isinstance(self.key, rsa.RSAPrivateKey):
            numbers = self.key.public_key().public_numbers()
            return {**about, "kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e), **more}
        point = self.key.public_key().public_numbers()
        sides = {"x": coded(point.x.to_bytes(32, "big")), "y": coded(point.y.to_bytes(32, "big"))}
        return {**about, "kty": "EC", "crv": "P-256", **sides, **more}

    def sign(self, said: bytes) -> bytes:
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(said, padding.PKCS1v15(), hashes.SHA256())
        first, second = decode_dss_signature(self.key.sign(said, ec.ECDSA(hashes.SHA256())))
        return first.to_bytes(32, "big") + second.to_bytes(32, "big")

    def token(self, head: dict[str, Any] | None = None, **claims: Any) -> str:
        """Of pod `ml/llama-1`, unless `claims` says otherwise."""
        parts = {"alg": self.algorithm, "kid": self.kid, **(head or {})}, {**body(), **claims}
        said = ".".join(coded(json.dumps(part).encode()) for part in parts)
        return f"{said}.{coded(self.sign(said.encode()))}"


_CURVE = ec.SECP256R1()


def body(account: str = "default", namespace: str = "ml", pod: str = "llama-1", uid: str = "u1") -> dict[str, Any]:
    """The claims of a pod's token."""
    return {
        "iss": ISSUER, "aud": [AUDIENCE], "exp": WALL_S + 3600, "iat": WALL_S - 60, "nbf": WALL_S - 60,
        "sub": f"system:serviceaccount:{namespace}:{account}",
        "kubernetes.io": {
            "namespace": namespace, "serviceaccount": {"name": account, "uid": "a1"}, "pod": {"name": pod, "uid": uid},
        },
    }  # fmt: skip


def discovery(issuer: str = ISSUER) -> bytes:
    return json.dumps({"issuer": issuer, "jwks_uri": "https://10.0.0.1/openid/v1/jwks"}).encode()


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()
