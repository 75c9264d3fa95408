"""TLS and PROXY headers on real sockets; the client is Python's own."""

import asyncio
import socket
import ssl
import warnings
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from tests.zerogate.http.rig import Client, Rig, answering, echo, read_request, rig, settled
from zerogate.http import entrance
from zerogate.http.certificates import ClientCertificates, ServerContexts, server_contexts
from zerogate.http.entrance import TrustedSenders
from zerogate.http.heads import UNIX_PEER

LOCAL = TrustedSenders((ip_network("127.0.0.0/8"),))
GET = b"GET /x HTTP/1.1\r\nHost: chat\r\n\r\n"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def contexts(authority: Authority, tmp_path: Path) -> ServerContexts:
    return server_contexts([authority.issue(tmp_path, "server")], None)


async def heads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with the head it was sent."""
    while True:
        head, _ = await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))


def subject(client: Client) -> str:
    """The common name of the certificate that the server showed."""
    tls = client.writer.get_extra_info("ssl_object")
    return next(str(value) for part in tls.getpeercert()["subject"] for key, value in part if key == "commonName")


async def refused(one: Rig, tls: ssl.SSLContext) -> None:
    """No answer comes over a connection with this context. In TLS 1.3 a client learns it only when it reads."""
    try:
        client = await one.connect(tls)
        await client.send(GET)
        said = await client.rest()
    except OSError:
        return
    raise AssertionError(f"it was answered: {said!r}")


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        pytest.param("chat.test", "one", id="exact"),
        pytest.param("a.wild.test", "two", id="wildcard"),
        pytest.param("other.wild.test", "three", id="exact before wildcard"),
        pytest.param("unknown.test", "one", id="unknown: the first"),
        pytest.param("a.b.wild.test", "one", id="a wildcard is one label"),
    ],
)
async def test_the_certificate_is_chosen_by_the_name_asked_for(
    authority: Authority, tmp_path: Path, asked: str, shown: str
) -> None:
    pairs = [
        authority.issue(tmp_path, "one", names=["chat.test"]),
        authority.issue(tmp_path, "two", names=["*.wild.test"]),
        authority.issue(tmp_path, "three", names=["other.wild.test"]),
    ]
    tls = authority.trusted()
    tls.check_hostname = False
    async with rig(script=echo, contexts=server_contexts(pairs, None)) as one:
        client = await one.connect(tls, asked)
        assert await client.get("/hello") == b"/hello"
        assert subject(client) == shown


@pytest.mark.uvloop
async def test_requests_and_bodies_of_any_size_pass_over_tls(authority: Authority, contexts: ServerContexts) -> None:
    body = bytes(range(256)) * 20_000
    async with rig(script=echo, contexts=contexts) as one:
        client = await one.connect(authority.trusted())
        for size in (1, 16_384, 16_385, 100_000, len(body)):
            await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: %d\r\n\r\n" % size + body[:size])
            assert await client.answer() == body[:size]


async def test_tls_1_2_is_served(authority: Authority, contexts: ServerContexts) -> None:
    tls = authority.trusted()
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    async with rig(script=echo, contexts=contexts) as one:
        assert await (await one.connect(tls)).get("/older") == b"/older"


async def test_http_1_1_is_selected_of_what_a_client_offers(authority: Authority, contexts: ServerContexts) -> None:
    tls = authority.trusted()
    tls.set_alpn_protocols(["h3", "http/1.1"])
    async with rig(script=echo, contexts=contexts) as one:
        client = await one.connect(tls)
        assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"


async def test_replicas_are_told_that_the_client_came_over_tls(authority: Authority, contexts: ServerContexts) -> None:
    async with rig(script=heads, contexts=contexts) as one:
        head = await (await one.connect(authority.trusted())).get()
        assert b"\r\nX-Forwarded-Proto: https\r\n" in head
        assert b";proto=https" in head
    async with rig(script=heads) as one:
        assert b"\r\nX-Forwarded-Proto: http\r\n" in await (await one.connect()).get()


async def test_tls_1_1_is_refused(authority: Authority, contexts: ServerContexts) -> None:
    tls = authority.trusted()
    tls.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_1
    async with rig(script=echo, contexts=contexts) as one:
        await refused(one, tls)
        assert one.entrance.counters.failed_handshakes == 1


@pytest.mark.parametrize("cipher", ["AES128-SHA", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256"])
async def test_a_cipher_without_forward_secrecy_or_authentication_is_refused(
    authority: Authority, contexts: ServerContexts, cipher: str
) -> None:
    """The last one Python would take by default."""
    tls = authority.trusted()
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.set_ciphers(cipher)
    async with rig(script=echo, contexts=contexts) as one:
        await refused(one, tls)
        assert one.entrance.counters.failed_handshakes == 1


async def test_plain_http_on_a_tls_port_is_told_so(contexts: ServerContexts) -> None:
    async with rig(script=echo, contexts=contexts) as one:
        client = await one.connect()
        await client.send(GET)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"https://" in answer


# who the client is


@pytest.mark.parametrize("is_required", [True, False], ids=["required", "optional"])
async def test_a_verified_client_is_named_to_the_replica(
    authority: Authority, tmp_path: Path, *, is_required: bool
) -> None:
    clients = ClientCertificates(authority.write(tmp_path / "ca.crt"), is_required)
    server = server_contexts([authority.issue(tmp_path, "server")], clients)
    pair = authority.issue(
        tmp_path, "job", subject='job "7"\r\n;Hash=0', names=["job.test"], uris=["spiffe://test/job"], is_client=True
    )
    async with rig(script=heads, contexts=server) as one:
        client = await one.connect(authority.trusted(pair))
        await client.send(b"GET / HTTP/1.1\r\nHost: chat\r\nx-forwarded-client-cert: Hash=spoofed\r\n\r\n")
        lines = [line for line in (await client.answer()).split(b"\r\n") if b"client-cert" in line.lower()]
        assert len(lines) == 1
        name, _, value = lines[0].partition(b": ")
        parts = value.split(b";")
        assert name == b"X-Forwarded-Client-Cert"
        assert parts[1:] == [
            b'Subject="CN=job %227%22%0D%0A%3BHash%3D0,O=Tests"', b"URI=spiffe://test/job", b"DNS=job.test"
        ]  # fmt: skip
        assert len(parts[0]) == len("Hash=") + 64


async def test_without_a_certificate_a_client_is_refused_where_it_is_required_and_nobody_where_it_is_optional(
    authority: Authority, tmp_path: Path
) -> None:
    pair, ca = authority.issue(tmp_path, "server"), authority.write(tmp_path / "ca.crt")
    async with rig(script=heads, contexts=server_contexts([pair], ClientCertificates(ca, required=True))) as one:
        await refused(one, authority.trusted())
        assert one.ended == []
    async with rig(script=heads, contexts=server_contexts([pair], ClientCertificates(ca, required=False))) as one:
        client = await one.connect(authority.trusted())
        await client.send(b"GET / HTTP/1.1\r\nHost: chat\r\nClient-Cert: :AAAA:\r\n\r\n")
        assert b"client-cert" not in (await client.answer()).lower()


@pytest.mark.parametrize("is_required", [True, False], ids=["required", "optional"])
async def test_a_client_of_another_authority_is_refused(
    authority: Authority, tmp_path: Path, *, is_required: bool
) -> None:
    clients = ClientCertificates(authority.write(tmp_path / "ca.crt"), is_required)
    stranger = Authority("Stranger").issue(tmp_path, "stranger", is_client=True)
    async with rig(script=echo, contexts=server_contexts([authority.issue(tmp_path, "server")], clients)) as one:
        await refused(one, authority.trusted(stranger))
        assert (one.entrance.counters.failed_handshakes, one.ended) == (1, [])


async def test_no_port_passes_on_what_a_client_says_of_its_own_certificate() -> None:
    fields = b"X-Forwarded-Client-Cert: a\r\nClient-Cert: :b:\r\nClient-Cert-Chain: :c:\r\n"
    async with rig(script=heads) as one:
        client = await one.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: chat\r\n" + fields + b"\r\n")
        assert b"client-cert" not in (await client.answer()).lower()


# the end of a connection


CLOSE_DELIMITED = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.both_loops
async def test_an_answer_that_ends_with_its_connection_ends_with_a_goodbye_if_it_is_whole(
    authority: Authority, contexts: ServerContexts
) -> None:
    tls = authority.trusted()
    async with rig(script=answering(CLOSE_DELIMITED + b"all", then_close=True), contexts=contexts) as one:
        assert await asyncio.to_thread(_whole, tls, one.address[1]) == b"all"


def _whole(tls: ssl.SSLContext, port: int) -> bytes:
    """The body of an answer to HTTP/1.0; raises ssl.SSLError or ConnectionResetError where it was cut."""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as sock,
        tls.wrap_socket(sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as client,
    ):
        client.sendall(b"GET / HTTP/1.0\r\nHost: chat\r\n\r\n")
        said = b""
        while piece := client.recv(65536):
            said += piece
        return said.partition(b"\r\n\r\n")[2]


@pytest.mark.both_loops
async def test_an_answer_that_was_cut_ends_without_a_goodbye(authority: Authority, contexts: ServerContexts) -> None:
    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await writer.drain()
        writer.transport.abort()

    tls = authority.trusted()
    async with rig(script=dies, contexts=contexts) as one:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await asyncio.to_thread(_whole, tls, one.address[1])


async def test_idle_connections_are_closed_at_once_when_the_server_drains(
    authority: Authority, contexts: ServerContexts
) -> None:
    async with rig(script=echo, contexts=contexts) as one:
        client = await one.connect(authority.trusted())
        await client.get()
        one.server.drain()
        # the client has not said its own goodbye: nobody waits for it
        await asyncio.wait_for(one.server.emptied().wait(), 1)
        assert await client.rest() == b""


async def test_an_answer_before_the_body_is_read_over_tls(authority: Authority, contexts: ServerContexts) -> None:
    async with rig(contexts=contexts) as one:
        client = await one.connect(authority.trusted())
        one.hold.close(entrance._NOT_TLS, 0.0)
        await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 50000000\r\n\r\n" + bytes(100_000))
        assert (await client.until(b"\r\n")).startswith(b"HTTP/1.1 400 ")


@pytest.mark.uvloop
async def test_a_client_that_does_not_read_stops_the_replica(authority: Authority, contexts: ServerContexts) -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000000\r\n\r\n")
        while sent < 100_000_000:
            writer.write(bytes(65536))
            sent += 65536
            await writer.drain()

    async with rig(script=endless, contexts=contexts) as one:
        client = await one.connect(authority.trusted())
        await client.send(GET)
        assert await settled(lambda: sent) < 50_000_000
        (connection,) = one.server.connections
        assert connection.buffered_bytes < 1_000_000
        client.abort()


# handshakes


async def test_a_handshake_that_does_not_come_is_cut(contexts: ServerContexts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "HANDSHAKE_S", 0.1)
    async with rig(script=echo, contexts=contexts) as one:
        silent, slow = await one.connect(), await one.connect()
        await slow.send(b"\x16\x03\x01\x02\x00\x01")
        for client in (silent, slow):
            assert await client.rest() == b""
        assert one.entrance.counters.late == 2


async def test_of_too_many_handshakes_the_one_that_waited_longest_is_cut(
    authority: Authority, contexts: ServerContexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrance, "MOST_WAITING", 3)
    async with rig(script=echo, contexts=contexts) as one:
        silent = [await one.connect() for _ in range(3)]
        client = await one.connect(authority.trusted())
        assert await client.get("/served") == b"/served"
        assert await silent[0].rest() == b""
        assert one.entrance.counters.late == 1


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x00\x05hello", bytes(600), b"\x80\x2e\x01\x03\x01" + bytes(50)])
async def test_what_is_no_tls_is_closed_and_counted(contexts: ServerContexts, garbage: bytes) -> None:
    async with rig(script=echo, contexts=contexts) as one:
        client = await one.connect()
        await client.send(garbage)
        await client.rest()
        assert one.entrance.counters.failed_handshakes == 1


async def test_new_certificates_are_for_new_connections_and_old_ones_go_on(
    authority: Authority, contexts: ServerContexts, tmp_path: Path
) -> None:
    async with rig(script=echo, contexts=contexts) as one:
        old = await one.connect(authority.trusted())
        one.entrance.contexts = server_contexts([authority.issue(tmp_path, "renewed")], None)
        new = await one.connect(authority.trusted())
        assert (subject(old), subject(new)) == ("server", "renewed")
        assert await old.get("/old") == b"/old"
        assert await new.get("/new") == b"/new"


# PROXY headers


V1 = b"PROXY TCP4 203.0.113.9 10.0.0.1 50000 443\r\n"


async def test_a_trusted_header_says_who_the_client_is() -> None:
    async with rig(script=heads, trusted=LOCAL) as one:
        client = await one.connect()
        await client.send(V1 + GET)
        head = await client.answer()
        assert b"\r\nX-Forwarded-For: 203.0.113.9\r\n" in head
        assert b"for=203.0.113.9;" in head


@pytest.mark.parametrize(
    ("address", "is_trusted"),
    [
        pytest.param(b"10.1.2.3", True, id="inside"),
        pytest.param(b"11.1.2.3", False, id="outside"),
        pytest.param(b"::ffff:10.1.2.3", True, id="inside, by a socket for both families"),
        pytest.param(b"::ffff:11.1.2.3", False, id="outside, by a socket for both families"),
        pytest.param(b"fe80::1%eth0", True, id="of a link"),
        pytest.param(b"2001:db8::1", False, id="outside, of the other family"),
        pytest.param(UNIX_PEER, False, id="a Unix socket"),
    ],
)
def test_who_is_trusted_with_a_header_is_told_by_networks(address: bytes, is_trusted: bool) -> None:
    networks = (ip_network("10.0.0.0/8"), ip_network("fe80::/10"))
    assert (address in TrustedSenders(networks)) is is_trusted
    assert UNIX_PEER in TrustedSenders(unix=True)


async def test_a_header_comes_in_any_pieces_before_tls(authority: Authority, contexts: ServerContexts) -> None:
    """The first bytes of the handshake come in one read with the end of the header, as real balancers send them."""
    async with rig(script=heads, contexts=contexts, trusted=LOCAL) as one:
        for cut_at in (1, 10, len(V1) - 1, len(V1), len(V1) + 3):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = authority.trusted().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
            client = await one.connect()
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            first = V1 + outgoing.read()
            await client.send(first[:cut_at])
            await asyncio.sleep(0.01)
            await client.send(first[cut_at:])
            while True:
                incoming.write(await asyncio.wait_for(client.reader.read(65536), 10))
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    continue
            tls.write(GET)
            await client.send(outgoing.read())
            said = b""
            while b"\r\n\r\n" not in said.partition(b"\r\n\r\n")[2]:
                incoming.write(await asyncio.wait_for(client.reader.read(65536), 10))
                try:
                    said += tls.read(65536)
                except ssl.SSLWantReadError:
                    continue
            assert b"\r\nX-Forwarded-For: 203.0.113.9\r\n" in said
            client.close()


async def test_a_header_from_elsewhere_is_not_believed() -> None:
    async with rig(script=heads, trusted=TrustedSenders((ip_network("10.0.0.0/8"),))) as one:
        plain = await one.connect()
        await plain.send(GET)
        assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in await plain.answer()
        liar = await one.connect()
        await liar.send(V1 + GET)
        assert (await liar.rest()).startswith(b"HTTP/1.1 400 ")


async def test_a_local_header_leaves_the_address_of_the_connection() -> None:
    async with rig(script=heads, trusted=LOCAL) as one:
        client = await one.connect()
        await client.send(b"PROXY UNKNOWN\r\n" + GET)
        assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in await client.answer()


@pytest.mark.parametrize("data", [GET, b"PROXY TCP4 nonsense\r\n" + GET], ids=["none", "malformed"])
async def test_a_trusted_sender_without_a_header_is_closed(data: bytes) -> None:
    async with rig(script=heads, trusted=LOCAL) as one:
        client = await one.connect()
        await client.send(data)
        with suppress(ConnectionResetError):
            assert await client.rest() == b""
        assert one.entrance.counters.bad_headers == 1
        assert one.ended == []


async def test_a_header_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "HANDSHAKE_S", 0.1)
    async with rig(script=heads, trusted=LOCAL) as one:
        client = await one.connect()
        await client.send(b"PROXY ")
        assert await client.rest() == b""
        assert one.entrance.counters.late == 1


# sessions that are resumed


def _session(tls: ssl.SSLContext, port: int, session: ssl.SSLSession | None) -> tuple[bytes, bool | None, Any]:
    """(what was answered, whether the session was a resumed one, the session) of one request."""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as sock,
        tls.wrap_socket(sock, server_hostname="127.0.0.1", session=session) as client,
    ):
        client.sendall(b"GET / HTTP/1.0\r\nHost: chat\r\n\r\n")
        said = b""
        while piece := client.recv(65536):
            said += piece
        return said, client.session_reused, client.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_a_resumed_session_has_the_same_client_and_none_is_resumed_with_new_certificates(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    clients = ClientCertificates(authority.write(tmp_path / "ca.crt"), required=True)
    pairs = [authority.issue(tmp_path, "server")]
    tls = authority.trusted(authority.issue(tmp_path, "job", is_client=True))
    tls.maximum_version = version
    async with rig(script=heads, contexts=server_contexts(pairs, clients)) as one:
        port = one.address[1]
        _, _, session = await asyncio.to_thread(_session, tls, port, None)
        said, is_resumed, session = await asyncio.to_thread(_session, tls, port, session)
        assert is_resumed
        assert b'Subject="CN=job,O=Tests"' in said
        one.entrance.contexts = server_contexts(pairs, clients)
        said, is_resumed, _ = await asyncio.to_thread(_session, tls, port, session)
        assert not is_resumed
        assert b'Subject="CN=job,O=Tests"' in said
