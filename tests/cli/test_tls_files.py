import asyncio
import logging
from pathlib import Path

import pytest

from cli.box import BoxFile
from cli.file import parse_box_file
from cli.tls_files import BoxCertificates, LoadedTls, load_tls
from tests.certificates import Authority
from zerogate.clock import wall
from zerogate.errors import DefinitionErrors
from zerogate.http import certificate_watch
from zerogate.http.certificate_files import warnings
from zerogate.http.certificate_watch import CertificateWatch

DAY = 86400
SERVICES = "services:\n  chat: {endpoint: 'http://127.0.0.1:9005'}\n"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def box(folder: Path, text: str) -> BoxFile:
    return parse_box_file(text, source="z.yaml", folder=folder, environ={"HOME": "/home/u"})


def tls_box(folder: Path, tls: str = "[{certificate: a.crt, key: a.key}]", more: str = "") -> BoxFile:
    return box(folder, f"listen-tls: 127.0.0.1:8443\ntls: {tls}\n{more}{SERVICES}")


def test_pairs_and_folders_are_seen_from_the_file(authority: Authority, tmp_path: Path) -> None:
    authority.issue(tmp_path, "a", names=["a.test"])
    authority.issue(tmp_path / "more", "b", names=["b.test"])
    for tls, name in (("[{certificate: a.crt, key: a.key}]", "a.test"), ("more", "b.test")):
        server = load_tls(tls_box(tmp_path, tls)).server
        assert server is not None
        assert [one.names for one in server.certificates] == [(name,)]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("tls: [{certificate: a.crt, key: a.key}]\n", "z.yaml:1: tls: is about listen-tls, which is not given"),
        ("client-ca: a.crt\n", "z.yaml:1: client-ca: is about listen-tls, which is not given"),
        ("listen-tls: 127.0.0.1:8443\n", "z.yaml:1: listen-tls: needs tls."),
        ("listen-tls: 127.0.0.1:8443\ntls: []\n", "z.yaml:2: tls: is neither a list of certificates nor a folder"),
        ("listen-tls: 127.0.0.1:8443\ntls: [a.crt]\n", "z.yaml:2: tls.[0]: is not a certificate with its key"),
        ("listen-tls: 127.0.0.1:8443\ntls: [{key: a.key}]\n", "z.yaml:2: tls.[0]: has no certificate"),
        (
            "listen-tls: 127.0.0.1:8443\ntls:\n- {certificate: a.crt, key: a.key, kye: 1}\n",
            "z.yaml:3: tls.[0].kye: is not a key",
        ),
        (
            "listen-tls: 127.0.0.1:8443\ntls: d\nclient-certificates: optional\n",
            "z.yaml:3: client-certificates: needs client-ca",
        ),
        ("listen-tls: 127.0.0.1:8080\ntls: d\n", "z.yaml:1: listen-tls: listen-tls (127.0.0.1:8080) and listen ("),
        ("proxy-protocol-from: 10.1.2.3/8\n", 'z.yaml:1: proxy-protocol-from: "10.1.2.3/8" is not allowed.'),
        ("proxy-protocol-from: []\n", "z.yaml:1: proxy-protocol-from: "),
        (f"listen: unix:/{'x' * 107}\n", "z.yaml:1: listen: the path of the socket is longer than 107 bytes"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(DefinitionErrors) as raised:
        box(tmp_path, text + SERVICES)
    assert str(raised.value).startswith(error)


@pytest.mark.parametrize(
    ("service", "error"),
    [
        ("{endpoint: 'http://h', tls: {ca: x}}", "services.a.tls: is about an https endpoint."),
        ("{command: x, tls: {ca: x}}", "services.a.tls: is about an https endpoint, and this service has a command"),
        ("{endpoint: 'https://h', tls: {key: x}}", "services.a.tls: has no certificate"),
        ("{endpoint: 'https://h', tls: {verify: 1}}", "services.a.tls.verify: 1 is not allowed."),
        ("{endpoint: 'https://h', tls: {cert: x}}", "services.a.tls.cert: is not a key"),
        ("{endpoint: 'https://localhost:8080'}", "services.a.endpoint: https://localhost:8080 is zerogate itself"),
        ("{endpoint: 'unix:/run/z.sock'}", "services.a.endpoint: unix:/run/z.sock is zerogate itself (listen-tls)"),
    ],
)
def test_an_endpoint_and_its_tls_have_to_fit(tmp_path: Path, service: str, error: str) -> None:
    with pytest.raises(DefinitionErrors) as raised:
        box(tmp_path, f"listen-tls: unix:/run/z.sock\ntls: d\nservices:\n  a: {service}\n")
    assert str(raised.value).startswith(f"z.yaml:4: {error}")


def test_files_that_cannot_be_used_are_told_all_at_once_with_their_lines(authority: Authority, tmp_path: Path) -> None:
    authority.issue(tmp_path, "a")
    text = (
        "listen-tls: 127.0.0.1:8443\ntls:\n- certificate: a.crt\n  key: a.key\n- certificate: a.crt\n  key: b.key\n"
        "services:\n  chat:\n    endpoint: https://h\n    tls:\n      ca: none.crt\n"
    )
    with pytest.raises(DefinitionErrors) as raised:
        load_tls(box(tmp_path, text))
    first, second = str(raised.value).splitlines()
    assert first.startswith("z.yaml:6: tls.[1].key: there is no file")
    assert second.startswith("z.yaml:11: services.chat.tls.ca: there is no file")


@pytest.mark.parametrize(
    ("days", "began_days_ago", "warning"),
    [
        (30, 1, None),
        (13.5, 1, "expires in 13 days"),
        (0.5, 1, "expires in 11 h"),
        (-3, 9, "expired 3 days ago"),
        (60, -2, "is valid only in"),
    ],
)
def test_a_certificate_that_is_not_valid_or_not_for_long_is_warned_of(
    authority: Authority, tmp_path: Path, days: float, began_days_ago: float, warning: str | None
) -> None:
    authority.issue(tmp_path, "a", days=days, began_days_ago=began_days_ago)
    found = list(warnings(load_tls(tls_box(tmp_path)).server, wall()))
    assert (warning is None and found == []) or (warning is not None and warning in found[0])


async def test_renewed_files_are_used_and_wrong_ones_are_not(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    authority.issue(tmp_path, "a", names=["old.test"])
    used: list[LoadedTls] = []
    watch = CertificateWatch(BoxCertificates(tls_box(tmp_path)))
    await watch.look(used.append)
    assert used == []
    authority.issue(tmp_path, "a", names=["new.test"])
    await watch.look(used.append)
    await watch.look(used.append)
    (loaded,) = used
    assert loaded.server is not None
    assert loaded.server.certificates[0].names == ("new.test",)
    # certificate and key are not written at the same instant
    key = (tmp_path / "a.key").read_bytes()
    (tmp_path / "a.key").unlink()
    await watch.look(used.append)
    assert len(used) == 1
    assert "the former ones stay" in caplog.text
    (tmp_path / "a.key").write_bytes(key)
    await watch.look(used.append)
    assert len(used) == 2


async def test_a_reload_of_the_file_has_the_last_word_about_certificates_that_are_being_loaded(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name in ("a", "b"):
        authority.issue(tmp_path, name, names=[f"{name}.test"])
    before, after = (tls_box(tmp_path, f"[{{certificate: {name}.crt, key: {name}.key}}]") for name in ("a", "b"))
    used: list[LoadedTls] = []
    watch = CertificateWatch(BoxCertificates(before))
    authority.issue(tmp_path, "a", names=["new.test"])
    load = BoxCertificates.load

    def reloads_meanwhile(source: BoxCertificates) -> LoadedTls:
        monkeypatch.setattr(BoxCertificates, "load", load)
        loaded = source.load()
        watch.follow(BoxCertificates(after), load_tls(after))
        return loaded

    monkeypatch.setattr(BoxCertificates, "load", reloads_meanwhile)
    await watch.look(used.append)
    assert used == []
    assert watch.loaded.server is not None
    assert watch.loaded.server.certificates[0].names == ("b.test",)
    await watch.look(used.append)
    assert "certificates have changed" not in caplog.text, "it is what the reload has read"


async def test_a_pair_that_is_put_into_the_folder_is_used(authority: Authority, tmp_path: Path) -> None:
    authority.issue(tmp_path / "d", "a", names=["a.test"])
    used: list[LoadedTls] = []
    watch = CertificateWatch(BoxCertificates(tls_box(tmp_path, "d")))
    authority.issue(tmp_path / "d", "b", names=["b.test"])
    await watch.look(used.append)
    assert used[0].server is not None
    assert len(used[0].server.certificates) == 2


@pytest.mark.parametrize("name", ["ca.crt", "a.crt", "a.key"])
async def test_certificates_for_an_endpoint_are_watched_too(authority: Authority, tmp_path: Path, name: str) -> None:
    authority.write(tmp_path / "ca.crt")
    authority.issue(tmp_path, "a", is_client=True)
    watched = BoxCertificates(
        box(tmp_path, "services: {chat: {endpoint: 'https://h', tls: {ca: ca.crt, certificate: a.crt, key: a.key}}}\n")
    )
    used: list[LoadedTls] = []
    watch = CertificateWatch(watched)
    await watch.look(used.append)
    assert used == []
    text = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(text + b"\n")
    await watch.look(used.append)
    assert len(used) == 1


async def test_it_is_looked_again_and_again(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate_watch, "CHECK_S", 0.01)
    authority.issue(tmp_path, "a", names=["0.test"])
    used: asyncio.Queue[LoadedTls] = asyncio.Queue()
    watch = CertificateWatch(BoxCertificates(tls_box(tmp_path)))
    running = asyncio.get_running_loop().create_task(watch.run(used.put_nowait))
    for name in ("1.test", "2.test"):
        authority.issue(tmp_path, "a", names=[name])
        loaded = await asyncio.wait_for(used.get(), 10)
        assert loaded.server is not None
        assert loaded.server.certificates[0].names == (name,)
    running.cancel()
