"""Replicas over TLS and over Unix sockets."""

import asyncio
import ssl
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.zerogate.http.rig import Script, echo, read_request, replica, rig
from zerogate.clock import now
from zerogate.gate import Gate
from zerogate.http.certificates import ClientCertificates, KeyPair, replica_context, server_contexts
from zerogate.http.dial import Secured
from zerogate.http.upstream import Pool, Upstream
from zerogate.policy import Policy
from zerogate.runtime.interface import Address

Get = Callable[[Secured], Awaitable[bytes]]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def server_context(authority: Authority, folder: Path, *, is_mutual: bool = False) -> ssl.SSLContext:
    clients = ClientCertificates(authority.write(folder / "ca.crt"), required=True) if is_mutual else None
    return server_contexts([authority.issue(folder, "replica", names=["replica.test"])], clients).default


def secured(authority: Authority, folder: Path, name: str = "replica.test", pair: KeyPair | None = None) -> Secured:
    return Secured(replica_context(authority.write(folder / "ca.crt"), pair, verify=True), name)


async def get(tls: ssl.SSLContext, way: Secured, script: Script = echo) -> bytes:
    """A request to a replica behind `tls`; all that came back."""
    async with replica(script, tls=tls) as port, rig(Policy(connect_timeout_s=2)) as one:
        one.add_replica(port, secured=way)
        client = await one.connect()
        await client.send(b"GET /hello HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n")
        return await client.rest()


@pytest.mark.both_loops
async def test_a_replica_is_reached_over_tls_and_its_connection_used_again(
    authority: Authority, tmp_path: Path
) -> None:
    tls = server_context(authority, tmp_path)
    async with replica(echo, tls=tls) as port, rig() as one:
        pool = one.add_replica(port, secured=secured(authority, tmp_path)).pool
        client = await one.connect()
        assert await client.get("/one") == b"/one"
        assert isinstance(pool, Pool)
        (first,) = pool._idle
        body = bytes(range(256)) * 10_000
        await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        assert await client.answer() == body
        assert pool._idle == [first]


async def test_a_replica_of_another_authority_is_refused_with_the_cause(authority: Authority, tmp_path: Path) -> None:
    answer = await get(server_context(Authority("Stranger"), tmp_path / "other"), secured(authority, tmp_path))
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"its certificate is not accepted: " in answer


async def test_a_replica_with_another_name_is_refused_with_the_cause(authority: Authority, tmp_path: Path) -> None:
    answer = await get(server_context(authority, tmp_path), secured(authority, tmp_path, "other.test"))
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"certificate is not valid for 'other.test'" in answer


async def test_a_replica_that_speaks_no_tls_is_refused_with_the_cause(authority: Authority, tmp_path: Path) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with replica(plain) as port, rig() as one:
        one.add_replica(port, secured=secured(authority, tmp_path))
        client = await one.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n")
        assert b"TLS failed: wrong version number" in await client.rest()


@pytest.mark.parametrize("what", ["TLS 1.1", "a cipher without authentication"])
async def test_a_replica_that_speaks_only_what_is_not_safe_any_more_is_refused(
    authority: Authority, tmp_path: Path, what: str
) -> None:
    pair = authority.issue(tmp_path, "replica", names=["replica.test"])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.certificate, pair.key)
    tls.set_ciphers("DEFAULT:@SECLEVEL=0" if what == "TLS 1.1" else "ECDHE-ECDSA-AES128-SHA256")
    with warnings.catch_warnings(action="ignore"):
        tls.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        tls.maximum_version = ssl.TLSVersion.TLSv1_1 if what == "TLS 1.1" else ssl.TLSVersion.TLSv1_2
    answer = await get(tls, secured(authority, tmp_path))
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"replica_unreachable" in answer


async def test_nothing_is_verified_where_the_file_says_so(tmp_path: Path) -> None:
    tls = server_context(Authority("Stranger"), tmp_path)
    answer = await get(tls, Secured(replica_context(None, None, verify=False), "any.test"))
    assert answer.endswith(b"/hello")


@pytest.mark.parametrize("is_known", [True, False])
async def test_without_a_file_of_its_own_the_authorities_of_the_system_are_trusted(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_known: bool
) -> None:
    tls = server_context(authority, tmp_path)
    system = authority if is_known else Authority("Stranger")
    monkeypatch.setenv("SSL_CERT_FILE", system.write(tmp_path / "system.crt"))
    answer = await get(tls, Secured(replica_context(None, None, verify=True), "replica.test"))
    assert answer.endswith(b"/hello") is is_known
    assert (b"its certificate is not accepted: " in answer) is not is_known


async def test_a_replica_may_be_trusted_by_its_own_certificate(authority: Authority, tmp_path: Path) -> None:
    tls = server_context(authority, tmp_path)
    own = replica_context(str(tmp_path / "replica.crt"), None, verify=True)
    assert (await get(tls, Secured(own, "replica.test"))).endswith(b"/hello")


async def test_a_replica_is_shown_a_certificate_where_there_is_one(authority: Authority, tmp_path: Path) -> None:
    tls = server_context(authority, tmp_path, is_mutual=True)
    pair = authority.issue(tmp_path, "gateway", is_client=True)
    assert (await get(tls, secured(authority, tmp_path, pair=pair))).endswith(b"/hello")
    assert (await get(tls, secured(authority, tmp_path))).startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("is_whole", [True, False], ids=["with a goodbye", "cut"])
async def test_an_answer_that_ends_with_its_connection_is_whole_only_with_a_goodbye(
    authority: Authority, tmp_path: Path, *, is_whole: bool
) -> None:
    """Otherwise whoever can close a connection could shorten an answer."""

    async def until_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall there is")
        await writer.drain()
        if not is_whole:
            writer.transport.abort()

    answer = await get(server_context(authority, tmp_path), secured(authority, tmp_path), until_close)
    assert b"all there is" in answer
    assert answer.endswith(b"\r\n0\r\n\r\n") is is_whole


async def test_new_certificates_close_what_is_idle(authority: Authority, tmp_path: Path) -> None:
    tls = server_context(authority, tmp_path)
    async with replica(echo, tls=tls) as port, rig() as one:
        pool = one.add_replica(port, secured=secured(authority, tmp_path)).pool
        client = await one.connect()
        await client.get("/one")
        pool.secure(secured(Authority("Stranger"), tmp_path / "."))
        await client.send(b"GET /two HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 502 ")


async def test_a_handshake_that_does_not_come_is_a_connect_that_failed(authority: Authority, tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with replica(silent) as port, rig(Policy(connect_timeout_s=0.1)) as one:
        one.add_replica(port, secured=secured(authority, tmp_path))
        client = await one.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n")
        assert (await client.rest()).startswith((b"HTTP/1.1 502 ", b"HTTP/1.1 504 "))


async def test_a_replica_is_reached_over_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "model.sock")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    async with rig() as one:
        pool = Pool(Address("", 0, path), one.sweep, one.nursery, host=b"localhost")
        one.hold.add(Upstream(service="chat", id="chat@unix", gate=Gate(limit=0, release_limit=8), pool=pool), now())
        head = await (await one.connect()).get("/hello")
        assert head.startswith(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n")
    server.close()
