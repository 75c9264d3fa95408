import ssl
from pathlib import Path

import pytest

from tests.certificates import Authority
from zerogate.clock import wall
from zerogate.errors import DefinitionError
from zerogate.http.certificates import ClientCertificates, KeyPair, pairs_in, server_contexts, stamp

DAY = 86400


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def test_a_certificate_says_whom_it_names_and_until_when(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue(tmp_path, "a", names=["Chat.Test", "*.chat.test", "192.0.2.1"], days=12)
    (certificate,) = server_contexts([pair], None).certificates
    assert certificate.names == ("chat.test", "*.chat.test", "192.0.2.1")
    assert 11.9 * DAY < certificate.valid_until_at - wall() < 12.1 * DAY
    assert certificate.valid_from_at < wall()


@pytest.mark.parametrize(
    ("asked", "place"),
    [("a.test", 0), ("A.Test", 0), ("x.wild.test", 1), ("X.WILD.test", 1), ("wild.test", 0), ("none", 0), (None, 0)],
)
def test_a_name_leads_to_its_certificate_whatever_its_case(
    authority: Authority, tmp_path: Path, asked: str | None, place: int
) -> None:
    """As it stands in a client's hello: Python's own clients send small letters."""
    pairs = [authority.issue(tmp_path, "a", names=["a.test"]), authority.issue(tmp_path, "b", names=["*.Wild.test"])]
    contexts = server_contexts(pairs, None)
    assert (contexts.of(asked) is contexts.default) == (place == 0)


def test_a_client_may_not_have_the_handshake_repeated(authority: Authority, tmp_path: Path) -> None:
    """OpenSSL 3 refuses that by itself; 1.1.1, which Python may be built with too, does not."""
    context = server_contexts([authority.issue(tmp_path, "a")], None).default
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_an_expired_certificate_is_loaded_and_described(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue(tmp_path, "old", days=-1, began_days_ago=10)
    assert server_contexts([pair], None).certificates[0].valid_until_at < wall()


def broken(authority: Authority, folder: Path, what: str) -> KeyPair:
    """A pair with a fault."""
    pair = authority.issue(folder, "a", password=b"secret" if what == "encrypted" else None, is_client=what == "client")
    other = authority.issue(folder, "b")
    path = Path(pair.certificate)
    if what == "no certificate":
        path.unlink()
    elif what == "no key":
        Path(pair.key).unlink()
    elif what == "other key":
        return KeyPair(pair.certificate, other.key)
    elif what == "swapped":
        return KeyPair(pair.key, pair.certificate)
    elif what == "not text":
        path.write_bytes(b"\x30\x82\x01\x0a" + bytes(100))
    elif what == "folder":
        return KeyPair(str(folder), pair.key)
    elif what == "damaged":
        path.write_text(path.read_text().replace("MII", "xxx", 1))
    elif what == "damaged key":
        Path(pair.key).write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    return pair


@pytest.mark.parametrize(
    ("what", "key", "problem"),
    [
        ("no certificate", "certificate", r"there is no file .*a\.crt"),
        ("no key", "key", r"there is no file .*a\.key"),
        ("other key", "key", r"the key in .*b\.key. does not belong to the certificate in .*a\.crt"),
        ("swapped", "certificate", r"a\.key. holds no certificate in PEM"),
        ("not text", "certificate", r"a\.crt. holds no certificate in PEM"),
        ("folder", "certificate", "cannot be read: is a directory"),
        ("damaged", "certificate", "cannot be used"),
        ("damaged key", "certificate", "cannot be used"),
        ("encrypted", "key", "is encrypted"),
        ("client", "certificate", "cannot be used by a server: unsuitable certificate purpose"),
    ],
)
def test_what_is_wrong_with_a_pair_is_said(
    authority: Authority, tmp_path: Path, what: str, key: str, problem: str
) -> None:
    good = authority.issue(tmp_path / "good", "good")
    with pytest.raises(DefinitionError, match=problem) as raised:
        server_contexts([good, broken(authority, tmp_path, what)], None)
    assert raised.value.key == f"[1].{key}"
    assert what != "encrypted" or "openssl pkey" in raised.value.hint


def test_a_file_that_may_not_be_read_is_said(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = authority.issue(tmp_path, "a")

    def denied(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DefinitionError, match=r"a\.crt. may not be read"):
        server_contexts([pair], None)


def test_a_file_of_authorities_has_to_hold_some(authority: Authority, tmp_path: Path) -> None:
    clients = ClientCertificates(authority.issue(tmp_path, "a").key, required=True)
    with pytest.raises(DefinitionError, match="holds no certificate in PEM") as raised:
        server_contexts([authority.issue(tmp_path, "b")], clients)
    assert raised.value.key == "client-ca"


def test_a_folder_holds_pairs_beside_each_other_and_in_folders_as_secrets_are_mounted(
    authority: Authority, tmp_path: Path
) -> None:
    for stem in ("b", "default", "a"):
        authority.issue(tmp_path, stem)
    mounted = tmp_path / "..2026_11_22"
    authority.issue(mounted, "tls")
    (tmp_path / "..data").symlink_to(mounted)
    (tmp_path / "secret").mkdir()
    for name in ("tls.crt", "tls.key"):
        (tmp_path / "secret" / name).symlink_to(tmp_path / "..data" / name)
    (tmp_path / "README").write_text("none of ours")
    names = [Path(pair.certificate).relative_to(tmp_path).as_posix() for pair in pairs_in(tmp_path)]
    assert names == ["default.crt", "a.crt", "b.crt", "secret/tls.crt"]


def test_a_folder_without_pairs_or_with_half_of_one_is_refused(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="holds no certificates"):
        pairs_in(tmp_path)
    with pytest.raises(DefinitionError, match="there is no file"):
        pairs_in(tmp_path / "none")
    Path(authority.issue(tmp_path, "a").key).unlink()
    with pytest.raises(DefinitionError, match=r"has no a\.key beside it"):
        pairs_in(tmp_path)


def test_a_stamp_changes_with_the_file_and_with_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").write_text("2")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "one")
    before = stamp([str(link)])
    assert stamp([str(link)]) == before
    link.unlink()
    assert stamp([str(link)]) != before
    link.symlink_to(tmp_path / "two")
    assert stamp([str(link)]) != before
