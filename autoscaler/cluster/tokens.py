"""What a ServiceAccount's token says, proved by the public keys of the API server. Pure: `wall_s` is an argument.

A token is a JSON Web Token (RFC 7519) that the API server has signed. Who has its keys can judge the signature without
asking, which takes about 0.1 ms and none of the server's time. What cannot be seen here, such as an account that was
deleted, the server alone knows: whoever believes `Claims` asks it afterwards. Whatever is not exactly as the server
makes it today is `UNKNOWN`, and the server's to judge, never a yes.

Called by `autoscaler.cluster.token_keys`.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Annotated, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from zerogate.errors import UNREADABLE

MOST_KEYS: Final = 64
"""A server has two or three: the one it signs with, and those it has signed with."""
_LEAST_RSA_BITS: Final = 2048
_EARLY_S: Final = 10.0
"""A token that begins so much later than now is as good: clocks of machines differ. At its end there is no such grace;
the server is asked then."""
_CURVES: Final[Mapping[str, tuple[str, ec.EllipticCurve, hashes.HashAlgorithm]]] = {
    "P-256": ("ES256", ec.SECP256R1(), hashes.SHA256()),
    "P-384": ("ES384", ec.SECP384R1(), hashes.SHA384()),
    "P-521": ("ES512", ec.SECP521R1(), hashes.SHA512()),
}
"""By the curve: the algorithm of RFC 7518 section 3.4, which fixes one for each."""

Said = Literal["unknown", "forged"]
UNKNOWN: Final = "unknown"
"""Nothing is known against it, and nothing proves it here."""
FORGED: Final = "forged"
"""It names a key of the server, which has not signed it."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """Of a token that is signed, in force, for the right audience, and bound to a pod. Times in seconds since 1970."""

    namespace: str
    account: str
    pod: str
    uid: str
    expires_at: float
    began_at: float


class TokenKey(msgspec.Struct, frozen=True):
    """A public key. `is_by(signature, said)`: whether its owner signed what was said."""

    algorithm: str
    is_by: Callable[[bytes, bytes], bool]


class Issuer(msgspec.Struct, frozen=True):
    """Who signs tokens, and the keys by their names."""

    name: str
    keys: Mapping[str, TokenKey]


class _Discovery(msgspec.Struct, frozen=True):
    issuer: Annotated[str, msgspec.Meta(min_length=1)]


class _Jwk(msgspec.Struct, frozen=True):
    kty: str
    kid: str = ""
    alg: str = ""
    use: str = "sig"
    n: str = ""
    e: str = ""
    crv: str = ""
    x: str = ""
    y: str = ""


class _Jwks(msgspec.Struct, frozen=True):
    keys: Annotated[tuple[_Jwk, ...], msgspec.Meta(max_length=MOST_KEYS)]


class _Head(msgspec.Struct, frozen=True):
    alg: str
    kid: str
    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """Says what one has to know to judge the token (RFC 7515 section 4.1.11); nothing of it is known here."""


class _Named(msgspec.Struct, frozen=True):
    name: str = ""
    uid: str = ""


class _Bound(msgspec.Struct, frozen=True):
    namespace: str
    serviceaccount: _Named
    pod: _Named = _Named()


class _Body(msgspec.Struct, frozen=True):
    iss: str
    sub: str
    aud: tuple[str, ...] | str
    exp: float
    iat: float
    bound: _Bound = msgspec.field(name="kubernetes.io")
    nbf: float = 0.0


def read_issuer(discovery: bytes, jwks: bytes) -> Issuer:
    """Of what the server says at `/.well-known/openid-configuration` and `/openid/v1/jwks`.

    Keys that are of no use here are left out. Raises UNREADABLE and ValueError where it says something else.
    """
    name = msgspec.json.decode(discovery, type=_Discovery).issuer
    found = {one.kid: key for one in msgspec.json.decode(jwks, type=_Jwks).keys if (key := _key(one)) is not None}
    return Issuer(name, found)


def claims_of(token: str, issuer: Issuer, audience: str, wall_s: float) -> Claims | Said:
    """What it proves here. Nothing of it is looked at before its signature, but the key's name."""
    said, _, signature = token.rpartition(".")
    head, _, body = said.partition(".")
    try:
        about = msgspec.json.decode(_decoded(head), type=_Head)
        key = issuer.keys.get(about.kid)
        if key is None or about.alg != key.algorithm or about.crit is not msgspec.UNSET:
            return UNKNOWN
        if not key.is_by(_decoded(signature), said.encode("ascii")):
            return FORGED
        claims = msgspec.json.decode(_decoded(body), type=_Body)
    except (*UNREADABLE, ValueError):
        return UNKNOWN
    return _judged(claims, issuer, audience, wall_s)


def _judged(claims: _Body, issuer: Issuer, audience: str, wall_s: float) -> Claims | Said:
    bound = claims.bound
    audiences = (claims.aud,) if isinstance(claims.aud, str) else claims.aud
    is_good = (
        claims.iss == issuer.name
        and audience in audiences
        and claims.sub == f"system:serviceaccount:{bound.namespace}:{bound.serviceaccount.name}"
        and bool(bound.namespace and bound.serviceaccount.name and bound.pod.name and bound.pod.uid)
        and max(claims.nbf, claims.iat) - _EARLY_S <= wall_s < claims.exp
    )
    if not is_good:
        return UNKNOWN
    return Claims(
        namespace=bound.namespace, account=bound.serviceaccount.name, pod=bound.pod.name, uid=bound.pod.uid,
        expires_at=claims.exp, began_at=claims.iat,
    )  # fmt: skip


def _key(one: _Jwk) -> TokenKey | None:
    if one.use != "sig" or not one.kid:
        return None
    if one.kty == "RSA" and one.alg in ("", "RS256"):
        return _rsa_key(one)
    if one.kty == "EC" and one.crv in _CURVES and one.alg in ("", _CURVES[one.crv][0]):
        return _ec_key(one)
    return None


def _rsa_key(one: _Jwk) -> TokenKey | None:
    public = rsa.RSAPublicNumbers(_number(one.e), _number(one.n)).public_key()
    if public.key_size < _LEAST_RSA_BITS:
        return None

    def is_by(signature: bytes, said: bytes) -> bool:
        try:
            public.verify(signature, said, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True

    return TokenKey("RS256", is_by)


def _ec_key(one: _Jwk) -> TokenKey:
    algorithm, curve, digest = _CURVES[one.crv]
    public = ec.EllipticCurvePublicNumbers(_number(one.x), _number(one.y), curve).public_key()
    size = (curve.key_size + 7) // 8
    scheme = ec.ECDSA(digest)

    def is_by(signature: bytes, said: bytes) -> bool:
        if len(signature) != 2 * size:
            return False
        numbers = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
        try:
            public.verify(encode_dss_signature(*numbers), said, scheme)
        except InvalidSignature:
            return False
        return True

    return TokenKey(algorithm, is_by)


def _number(text: str) -> int:
    return int.from_bytes(_decoded(text), "big")


def _decoded(text: str) -> bytes:
    """Base64 as RFC 7515 has it; raises ValueError for letters that are none of it."""
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
