"""HTTP/2 over TLS to replicas: agreed on by ALPN, with certificates verified and shown as over HTTP/1.1."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from websockets.asyncio.client import connect

from tests.certificates import Authority
from tests.e2e.harness import free_port
from tests.grpc_client import calls
from tests.grpc_server import serve
from tests.programs import NGINX, needs_nginx
from tests.zerogate.http.h2.hypercorn_server import Echo, hypercorn
from tests.zerogate.http.h2.replica import Peer, Replica
from tests.zerogate.http.rig import Rig, replica, rig
from zerogate.http.certificates import KeyPair, replica_context
from zerogate.http.dial import Secured
from zerogate.policy import Policy

pytestmark = pytest.mark.uvloop
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
GET = b"GET /hello HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def way(authority: Authority, folder: Path, name: str = "replica.test", pair: KeyPair | None = None) -> Secured:
    """How the replica is reached: its name is verified."""
    return Secured(replica_context(authority.write(folder / "ca.crt"), pair, verify=True, http_2=True), name)


@asynccontextmanager
async def to(port: int, secured: Secured) -> AsyncIterator[Rig]:
    """A rig whose one replica is spoken to so."""
    async with rig(Policy(protocol="h2", connect_timeout_s=5)) as one:
        one.add_replica(port, secured=secured)
        yield one


async def get(port: int, secured: Secured) -> bytes:
    """The answer to a request from a client of HTTP/1.1."""
    async with to(port, secured) as one:
        client = await one.connect()
        await client.send(GET)
        return await client.rest()


@asynccontextmanager
async def server(authority: Authority, folder: Path, app: Echo | None = None, **more: object) -> AsyncIterator[int]:
    """hypercorn over TLS; its port."""
    pair = authority.issue(folder, "replica", names=["replica.test"])
    async with hypercorn(app or Echo(), certfile=pair.certificate, keyfile=pair.key, **more) as port:
        yield port


async def test_hypercorn_is_spoken_to_in_http_2_and_told_of_https(authority: Authority, tmp_path: Path) -> None:
    async with server(authority, tmp_path) as port, to(port, way(authority, tmp_path)) as one:
        client = await one.connect()
        for _ in range(2):
            await client.send(b"POST /hello HTTP/1.1\r\nHost: chat\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000))
            answer = await client.until(b"}")
            assert b'"version":"2","scheme":"https","path":"/hello","size":300000' in answer
        pool = one.hold.replicas["chat-1"].pool
        assert (pool.protocol, pool.is_secure, len(pool._all)) == ("h2", True, 1)  # type: ignore[attr-defined]


async def test_a_websocket_goes_over_tls_and_http_2(authority: Authority, tmp_path: Path) -> None:
    app = Echo()
    async with server(authority, tmp_path, app) as port, to(port, way(authority, tmp_path)) as one:
        async with connect(f"ws://127.0.0.1:{one.address[1]}/ws", close_timeout=1) as ws:
            for message in ("hello", bytes(200_000)):
                await ws.send(message)
                assert await ws.recv() == message
        assert (app.opened[0]["http_version"], app.opened[0]["scheme"]) == ("2", "wss")


async def test_a_replica_is_shown_a_certificate_where_there_is_one(authority: Authority, tmp_path: Path) -> None:
    ca = authority.write(tmp_path / "clients.crt")
    pair = authority.issue(tmp_path, "gateway", is_client=True)
    async with server(authority, tmp_path, ca_certs=ca, verify_mode=ssl.CERT_REQUIRED) as port:
        assert b'"version":"2"' in await get(port, way(authority, tmp_path, pair=pair))
        assert (await get(port, way(authority, tmp_path))).startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize(
    ("authority_name", "name", "said"),
    [
        pytest.param("Stranger", "replica.test", b"its certificate is not accepted: ", id="another-authority"),
        pytest.param(None, "other.test", b"certificate is not valid for 'other.test'", id="another-name"),
    ],
)
async def test_a_certificate_that_is_not_the_replicas_is_refused_with_the_cause(
    authority: Authority, tmp_path: Path, authority_name: str | None, name: str, said: bytes
) -> None:
    trusted = Authority(authority_name) if authority_name else authority
    async with server(authority, tmp_path) as port:
        answer = await get(port, way(trusted, tmp_path, name))
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert said in answer


@pytest.mark.parametrize(
    ("offered", "said"),
    [
        pytest.param(["http/1.1"], b"HTTP", id="http-1-by-alpn"),
        pytest.param([], b"it does not speak HTTP/2 over TLS (by ALPN it chose nothing)", id="no-alpn"),
    ],
)
async def test_a_replica_that_does_not_agree_to_http_2_is_refused_with_the_cause(
    authority: Authority, tmp_path: Path, offered: list[str], said: bytes
) -> None:
    """Also one that would speak it: without ALPN nobody has said so (RFC 9113 section 3.2)."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = authority.issue(tmp_path, "replica", names=["replica.test"])
    tls.load_cert_chain(pair.certificate, pair.key)
    if offered:
        tls.set_alpn_protocols(offered)
    heard: list[bytes] = []

    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())

    async with replica(listens, tls=tls) as port:
        answer = await get(port, way(authority, tmp_path))
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert said in answer
    assert not any(heard), "it was not asked in words that it did not agree to"


async def test_the_request_itself_says_https_and_the_way_its_client_came(authority: Authority, tmp_path: Path) -> None:
    """Servers tell their applications what they know of the connection, and not what the request says."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = authority.issue(tmp_path, "replica", names=["replica.test"])
    tls.load_cert_chain(pair.certificate, pair.key)
    tls.set_alpn_protocols(["h2"])
    seen: list[dict[str, str]] = []

    async def script(peer: Peer) -> None:
        asked = await peer.request()
        seen.append(asked.fields)
        peer.answer(asked.stream, b"ok")

    async with replica(Replica(script), tls=tls) as port:
        assert (await get(port, way(authority, tmp_path))).startswith(b"HTTP/1.1 200 ")
    assert [(one[":scheme"], one["x-forwarded-proto"]) for one in seen] == [("https", "http")]


async def test_new_certificates_are_used_by_the_next_connection(authority: Authority, tmp_path: Path) -> None:
    async with server(authority, tmp_path) as port, to(port, way(authority, tmp_path)) as one:
        client = await one.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n")
        await client.until(b"\r\n0\r\n\r\n")
        one.hold.replicas["chat-1"].pool.secure(way(Authority("Stranger"), tmp_path))
        await client.send(GET)
        assert b" 502 " in await client.until(b"\r\n")


@pytest.mark.may_block("grpcio sets itself up at its first channel")
async def test_a_server_of_grpc_over_tls_takes_calls_of_all_kinds(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue(tmp_path, "replica", names=["replica.test"])
    ca = Path(authority.write(tmp_path / "clients.crt")).read_bytes()
    credentials = grpc.ssl_server_credentials(
        [(Path(pair.key).read_bytes(), Path(pair.certificate).read_bytes())], ca, require_client_auth=True
    )
    shown = authority.issue(tmp_path, "gateway", is_client=True)
    process, port, _ = serve(0, health=None, credentials=credentials)
    try:
        async with to(port, way(authority, tmp_path, pair=shown)) as one, calls(one.address[1]) as client:
            assert await client.unary("Unary", b"hello" * 50_000) == b"hello" * 50_000
            assert [piece async for piece in client.split(b"abc")] == [b"a", b"b", b"c"]
            assert await client.join([b"x", b"y"]) == b"xy"
            call = client.chat()
            await call.write(b"one")
            assert await call.read() == b"ONE"
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK
    finally:
        process.stop(0).wait()


@pytest.mark.may_block("beginning a process takes long on a busy machine")
@needs_nginx
async def test_nginx_is_spoken_to_in_http_2(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue(tmp_path, "replica", names=["replica.test"])
    port = free_port()
    folders = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in TEMPORARY)
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}\n"
        f"http {{ access_log off; {folders} server {{ listen 127.0.0.1:{port} ssl http2;\n"
        f"ssl_certificate {pair.certificate}; ssl_certificate_key {pair.key};\n"
        "location / { return 200 '$server_protocol $scheme $ssl_server_name'; } } }\n"
    )
    assert NGINX is not None
    process = await asyncio.create_subprocess_exec(
        NGINX, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), stderr=subprocess.DEVNULL
    )  # fmt: skip
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                except OSError:
                    await asyncio.sleep(0.02)
        assert (await get(port, way(authority, tmp_path))).endswith(b"HTTP/2.0 https replica.test")
    finally:
        process.terminate()
        await process.wait()
