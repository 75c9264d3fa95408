"""What a token proves by the API server's keys alone, and that nothing else is believed."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.cluster.tokens import FORGED, UNKNOWN, Claims, Issuer, claims_of, read_issuer
from tests.autoscaler.cluster.signed import AUDIENCE, WALL_S, Signer, body, coded, discovery, jwks
from zerogate.errors import UNREADABLE

ONE, OTHER, RSA = Signer(), Signer("other"), Signer("rsa", rsa_bits=2048)
ISSUER = read_issuer(discovery(), jwks(ONE.jwk(), RSA.jwk()))
GOOD = ONE.token()


def said(token: str, wall_s: float = WALL_S, audience: str = AUDIENCE, issuer: Issuer = ISSUER) -> Claims | str:
    return claims_of(token, issuer, audience, wall_s)


@pytest.mark.parametrize("signer", [ONE, RSA], ids=["ES256", "RS256"])
def test_a_token_of_the_server_says_whose_pod_it_is(signer: Signer) -> None:
    assert said(signer.token()) == Claims(
        namespace="ml", account="default", pod="llama-1", uid="u1", expires_at=WALL_S + 3600, began_at=WALL_S - 60
    )


def test_what_somebody_else_signed_under_the_name_of_a_key_is_forged() -> None:
    forged = OTHER.token({"kid": ONE.kid})
    assert said(forged) == FORGED
    assert said(OTHER.token({"kid": RSA.kid, "alg": "RS256"})) == FORGED
    head, claims, _ = GOOD.split(".")
    assert said(f"{head}.{claims}.{forged.split('.')[2]}") == FORGED
    assert said(f"{head}.{claims}.") == FORGED


def test_claims_that_were_changed_after_they_were_signed_are_forged() -> None:
    head, _, signature = GOOD.split(".")
    changed = coded(json.dumps(body(pod="llama-2", uid="u2")).encode())
    assert said(f"{head}.{changed}.{signature}") == FORGED


@pytest.mark.parametrize(
    "token",
    [
        ONE.token({"alg": "none"}),
        ONE.token({"alg": "HS256"}),
        ONE.token({"alg": "RS256"}),
        ONE.token({"kid": "unheard of"}),
        ONE.token({"crit": ["b64"]}),
        OTHER.token(),
        "",
        "opaque",
        "a.b",
        "..",
        "ä.b.c",
        coded(b'{"alg":"ES256","kid":"one","more":' + b"[" * 6000) + ".b.c",
        coded(b'{"alg":"\xff","kid":"one"}') + ".b.c",
    ],
    ids=["none", "by a secret", "by another", "no such key", "more to know", "another's", "empty", "opaque",
         "two parts", "empty parts", "no letters", "deep", "no text"],
)  # fmt: skip
def test_what_no_key_of_ours_can_prove_is_the_servers_to_judge(token: str) -> None:
    assert said(token) == UNKNOWN


def bound(**more: Any) -> dict[str, Any]:
    return {"kubernetes.io": {**body()["kubernetes.io"], **more}}


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["somebody else"]},
        {"aud": []},
        {"iss": "https://elsewhere"},
        {"exp": WALL_S},
        {"exp": "later"},
        {"nbf": WALL_S + 60},
        {"iat": WALL_S + 60},
        {"sub": "system:serviceaccount:ml:admin"},
        {"sub": "system:admin"},
        bound(namespace="other"),
        bound(serviceaccount={"name": "admin", "uid": "a2"}),
        bound(pod={}),
        bound(pod={"name": "llama-1"}),
        {"kubernetes.io": {}},
        {"kubernetes.io": None},
    ],
    ids=str,
)
def test_what_the_server_signed_for_something_else_is_not_believed(claims: dict[str, Any]) -> None:
    assert said(ONE.token(**claims)) == UNKNOWN


def test_an_audience_among_others_will_do_and_may_stand_alone() -> None:
    for audience in (AUDIENCE, ["another", AUDIENCE]):
        assert isinstance(said(ONE.token(aud=audience)), Claims)


def test_a_token_is_good_from_its_beginning_to_its_end_by_our_clock() -> None:
    token = ONE.token(iat=WALL_S, nbf=WALL_S, exp=WALL_S + 600)
    at = {when_s: isinstance(said(token, WALL_S + when_s), Claims) for when_s in (-11, -9, 0, 599.9, 600, 700)}
    assert at == {-11: False, -9: True, 0: True, 599.9: True, 600: False, 700: False}


def test_a_signature_can_be_written_in_few_ways_or_one_token_would_be_as_many_as_somebody_likes() -> None:
    said_, _, signature = GOOD.rpartition(".")
    first, second = _bytes(signature)[:32], _bytes(signature)[32:]
    assert said(f"{said_}.{coded(first + bytes(1) + second)}") == FORGED
    assert said(f"{said_}.{signature[:7]}!!!!{signature[7:]}") == UNKNOWN


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 63))
def test_a_token_with_another_letter_is_not_believed(place: int, letter: int) -> None:
    other = base64.urlsafe_b64encode(bytes([letter << 2]))[:1].decode()
    changed = GOOD[:place] + other + GOOD[place + 1 :]
    first, second = ([part.rstrip("=") for part in one.split(".")] for one in (GOOD, changed))
    if [_bytes(part) for part in first] != [_bytes(part) for part in second]:
        assert not isinstance(said(changed), Claims)


def _bytes(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_keys_of_other_kinds_and_short_ones_are_left_out() -> None:
    kinds = (
        Signer("short", rsa_bits=1024).jwk(), ONE.jwk(use="enc", kid="enc"), ONE.jwk(crv="P-999", kid="curve"),
        ONE.jwk(alg="ES384", kid="wrong"), RSA.jwk(alg="RS512", kid="digest"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"},
        ONE.jwk(kid=""),
    )  # fmt: skip
    assert list(read_issuer(discovery(), jwks(ONE.jwk(), *kinds)).keys) == ["one"]


@pytest.mark.parametrize(
    ("about", "keys"),
    [(b"{}", jwks()), (b'{"issuer": ""}', jwks()), (discovery(), b"no json"),
     (discovery(), b'{"keys": [], "more": ' + b"[" * 50_000),
     (discovery(), b'{"keys": 1}'),
     (discovery(), jwks(ONE.jwk(x="AAAA"))), (discovery(), jwks(*[ONE.jwk()] * 65))],
    ids=["no issuer", "empty issuer", "no json", "deep", "no list", "no point of the curve", "too many"],
)  # fmt: skip
def test_what_is_no_answer_of_a_server_is_an_error(about: bytes, keys: bytes) -> None:
    with pytest.raises((*UNREADABLE, ValueError)):
        read_issuer(about, keys)
