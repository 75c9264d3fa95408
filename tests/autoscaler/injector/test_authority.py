import os
import ssl

import pytest

from autoscaler.injector.authority import BUNDLE, KEYS, LEAF, LEAF_KEY, read_held, take
from autoscaler.injector.validity import AUTHORITY_LIVES_S, SETTLE_S, Forget, Held, NewLeaf, plan

NAMES = ("webhook.test.svc", "webhook.test.svc.cluster.local")
NOW_AT = 1_800_000_000.0


def made(now_at: float = NOW_AT, data: dict[str, bytes] | None = None) -> dict[str, bytes]:
    """A Secret's data after all steps that are due."""
    data = dict(data or {})
    for _ in range(8):
        step = plan(read_held(data), NAMES, now_at).step
        if step is None:
            return data
        data = take(step, data, NAMES, now_at)
    raise AssertionError("it does not come to an end")


def test_from_nothing_two_steps_make_all_there_is() -> None:
    data = made()
    held = read_held(data)
    assert len(held.authorities) == 1
    assert held.leaf is not None
    assert (held.leaf.names, held.leaf.issuer) == (NAMES, held.authorities[0].fingerprint)
    assert held.leaf.made_at == NOW_AT


def test_openssl_takes_the_pair_and_a_client_with_the_bundle_takes_the_name(tmp_path: os.PathLike[str]) -> None:
    data = made(now_at=_real_now())
    certificate, key = os.path.join(tmp_path, "c"), os.path.join(tmp_path, "k")
    for path, name in ((certificate, LEAF), (key, LEAF_KEY)):
        with open(path, "wb") as file:
            file.write(data[name])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cadata=data[BUNDLE].decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    assert _shake_hands(client, server, NAMES[0])
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(client, server, "another.svc")


def test_a_new_authority_stands_beside_the_old_one_and_signs_when_it_has_settled() -> None:
    data = made()
    later_at = NOW_AT + AUTHORITY_LIVES_S * 0.7
    both = made(later_at, data)
    held = read_held(both)
    old, new = held.authorities
    assert held.leaf is not None
    assert held.leaf.issuer == old.fingerprint
    switched = read_held(made(later_at + SETTLE_S, both))
    assert switched.leaf is not None
    assert switched.leaf.issuer == new.fingerprint
    assert len(switched.authorities) == 2
    assert [one.fingerprint for one in read_held(made(old.until_at + 1, both)).authorities] == [new.fingerprint]


def test_forgetting_takes_the_key_too() -> None:
    data = made()
    after = take(Forget((read_held(data).authorities[0].fingerprint,)), data, NAMES, NOW_AT)
    assert (after[BUNDLE], after[KEYS]) == (b"", b"")


def test_a_leaf_never_outlives_its_authority() -> None:
    data = made()
    (authority,) = read_held(data).authorities
    after = read_held(take(NewLeaf(authority.fingerprint), data, NAMES, authority.until_at - 60))
    assert after.leaf is not None
    assert after.leaf.until_at == authority.until_at


@pytest.mark.parametrize("name", [BUNDLE, KEYS, LEAF, LEAF_KEY])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN X-----\nAA==\n-----END X-----\n"])
def test_what_somebody_has_broken_is_made_anew(name: str, content: bytes) -> None:
    data = made(data={**made(), name: content})
    held = read_held(data)
    assert held.leaf is not None
    assert held.leaf.issuer in [one.fingerprint for one in held.authorities]


def test_a_key_that_does_not_belong_to_its_certificate_is_noticed() -> None:
    assert read_held({**made(), KEYS: made()[KEYS]}) == Held()
    assert read_held({**made(), LEAF_KEY: made()[LEAF_KEY]}).leaf is None


def _real_now() -> float:
    from zerogate.clock import wall

    return wall()


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bool:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[0].version() is not None
