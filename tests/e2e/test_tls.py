"""TLS, PROXY headers and Unix sockets through a real `zerogate up`."""

import asyncio
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.certificates import Authority
from tests.e2e.harness import ROOT, Service, free_port, soon, stub, zerogate
from tests.zerogate.http.h2.hypercorn_server import Echo, hypercorn
from tests.zerogate.http.rig import echo, replica
from zerogate.http.certificates import ClientCertificates, server_contexts

pytestmark = pytest.mark.slow

PAIR = [{"certificate": "server.crt", "key": "server.key"}]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def services() -> dict[str, Service]:
    return {"chat": stub(min_replicas=1)}


def tls_client(authority: Authority, port: int, **more: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=authority.trusted(), timeout=30, **more)


def serial(port: int, trusted: ssl.SSLContext) -> str:
    """The serial number of the certificate that is shown."""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as sock,
        trusted.wrap_socket(sock, server_hostname="127.0.0.1") as tls,
    ):
        certificate = tls.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


async def test_r5_services_are_reached_over_tls_beside_plain_http(authority: Authority, tmp_path: Path) -> None:
    port = free_port()
    authority.issue(tmp_path, "server")
    async with zerogate(services(), tmp_path, listen_tls=f"127.0.0.1:{port}", tls=PAIR) as box:
        assert f"https://127.0.0.1:{port}" in box.output
        async with tls_client(authority, port) as client:
            seen = dict((await client.get("/head")).json()["headers"])
            assert seen["X-Forwarded-Proto"] == "https"
            events = (await client.get("/sse?events=5&gap_ms=5")).text
            assert events.count("data: ") == 6
        plain = dict((await box.get("chat", "/head")).json()["headers"])
        assert plain["X-Forwarded-Proto"] == "http"
        curl = shutil.which("curl")
        if curl is not None:
            trusted = authority.write(tmp_path / "ca.crt")
            process = await asyncio.create_subprocess_exec(
                curl, "-sS", "--cacert", trusted, f"https://127.0.0.1:{port}/until-close?bytes=100000",
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            out, err = await process.communicate()
            assert (process.returncode, len(out), err) == (0, 100_000, b"")


async def test_reloads_take_new_certificates_without_an_error_under_load(authority: Authority, tmp_path: Path) -> None:
    port = free_port()
    authority.issue(tmp_path, "server")
    async with zerogate(services(), tmp_path, listen_tls=f"127.0.0.1:{port}", tls=PAIR) as box:
        trusted = authority.trusted()
        before = await asyncio.to_thread(serial, port, trusted)
        leaving = asyncio.Event()
        answered = 0

        async def ask(*, keeps: bool) -> None:
            nonlocal answered
            limits = httpx.Limits(max_keepalive_connections=1 if keeps else 0)
            async with tls_client(authority, port, limits=limits) as client:
                while not leaving.is_set():
                    assert (await client.get("/echo")).status_code == 200
                    answered += 1

        async with tls_client(authority, port) as streaming:
            stream = soon(streaming.get("/sse?events=60&gap_ms=50"))
            asking = [soon(ask(keeps=number % 2 == 0)) for number in range(4)]
            for _ in range(3):
                seen = answered
                while answered < seen + 20:
                    await asyncio.sleep(0.01)
                authority.issue(tmp_path, "server")
                box.process.send_signal(signal.SIGHUP)
                async with asyncio.timeout(10):
                    while await asyncio.to_thread(serial, port, trusted) == before:
                        await asyncio.sleep(0.02)
                before = await asyncio.to_thread(serial, port, trusted)
            leaving.set()
            await asyncio.gather(*asking)
            assert (await stream).text.count("data: ") == 61


async def test_a_reload_with_wrong_certificates_changes_nothing_and_says_why(
    authority: Authority, tmp_path: Path
) -> None:
    port = free_port()
    authority.issue(tmp_path, "server")
    async with zerogate(services(), tmp_path, listen_tls=f"127.0.0.1:{port}", tls=PAIR) as box:
        (tmp_path / "server.key").unlink()
        answer = await box.ask("POST", "/api/reload")
        assert answer.status_code == 422
        assert "there is no file" in answer.text
        async with tls_client(authority, port) as client:
            assert (await client.get("/echo")).status_code == 200


async def test_clients_with_certificates_behind_a_balancer_are_told_to_the_replica(
    authority: Authority, tmp_path: Path
) -> None:
    port = free_port()
    authority.issue(tmp_path, "server")
    authority.write(tmp_path / "ca.crt")
    pair = authority.issue(tmp_path, "job", uris=["spiffe://test/job"], is_client=True)
    top: dict[str, Any] = {"listen_tls": f"127.0.0.1:{port}", "tls": PAIR, "client_ca": "ca.crt"}
    async with zerogate(services(), tmp_path, proxy_protocol_from=["127.0.0.1"], **top):
        async with tls_client(authority, port) as client:
            with pytest.raises(httpx.TransportError):
                await client.get("/head")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PROXY TCP4 203.0.113.9 127.0.0.1 1234 443\r\n")
        await writer.start_tls(authority.trusted(pair), server_hostname="127.0.0.1")
        writer.write(b"GET /head HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n")
        seen = (await reader.read()).decode()
        assert '["X-Forwarded-For", "203.0.113.9"]' in seen
        assert "URI=spiffe://test/job" in seen
        writer.close()


async def test_r5_an_endpoint_is_reached_over_tls_and_one_that_is_not_trusted_is_not(
    authority: Authority, tmp_path: Path
) -> None:
    context = server_contexts([authority.issue(tmp_path, "replica")], None).default
    authority.write(tmp_path / "ca.crt")
    async with replica(echo, tls=context) as port:
        url = f"https://127.0.0.1:{port}"
        ways: dict[str, Service] = {
            "known": {"endpoint": url, "tls": {"ca": "ca.crt"}},
            "named": {"endpoint": url, "tls": {"ca": "ca.crt", "server-name": "localhost"}},
            "unknown": {"endpoint": url},
            "unverified": {"endpoint": url, "tls": {"verify": False}},
        }
        async with zerogate(ways, tmp_path) as box:
            for name in ("known", "named", "unverified"):
                assert (await box.post(name, "/", b"body")).text == "body"
            refused = await box.get("unknown", "/x")
            assert refused.status_code == 502
            assert "certificate is not accepted" in refused.text


async def test_an_endpoint_over_tls_is_spoken_to_in_the_version_that_its_policy_names(
    authority: Authority, tmp_path: Path
) -> None:
    pair = authority.issue(tmp_path, "replica")
    authority.write(tmp_path / "ca.crt")
    async with hypercorn(Echo(), certfile=pair.certificate, keyfile=pair.key) as port:
        known = {"endpoint": f"https://127.0.0.1:{port}", "tls": {"ca": "ca.crt"}}
        ways: dict[str, Service] = {"one": known, "two": {**known, "policy": {"protocol": "h2"}}}
        async with zerogate(ways, tmp_path) as box:
            assert [(await box.get(name, "/x")).json()["version"] for name in ways] == ["1.1", "2"]


async def test_an_endpoint_is_shown_the_certificate_that_the_file_names_and_a_renewed_one_after_a_reload(
    authority: Authority, tmp_path: Path
) -> None:
    clients = ClientCertificates(authority.write(tmp_path / "ca.crt"), required=True)
    context = server_contexts([authority.issue(tmp_path, "replica")], clients).default
    Authority("Stranger").issue(tmp_path, "job", is_client=True)
    async with replica(echo, tls=context) as port:
        url = f"https://127.0.0.1:{port}"
        ways: dict[str, Service] = {
            "shown": {"endpoint": url, "tls": {"ca": "ca.crt", "certificate": "job.crt", "key": "job.key"}},
            "silent": {"endpoint": url, "tls": {"ca": "ca.crt"}},
        }
        async with zerogate(ways, tmp_path) as box:
            for name in ways:
                assert (await box.get(name, "/x")).status_code == 502
            authority.issue(tmp_path, "job", is_client=True)
            assert (await box.ask("POST", "/api/reload")).status_code == 200
            assert (await box.post("shown", "/", b"body")).text == "body"
            assert (await box.get("silent", "/x")).status_code == 502


async def test_traffic_comes_and_goes_through_unix_sockets(tmp_path: Path) -> None:
    front, behind = tmp_path / "front.sock", tmp_path / "behind.sock"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await echo(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_unix_server(serve, str(behind))
    async with zerogate({"chat": {"endpoint": f"unix:{behind}"}}, tmp_path) as box:
        box.write({"chat": {"endpoint": "unix:behind.sock"}})
        assert (await box.ask("POST", "/api/reload")).status_code == 200
        assert (await box.post("chat", "/", b"body")).text == "body"
    async with (
        zerogate({"chat": {"endpoint": "unix:behind.sock"}}, tmp_path, listen="unix:front.sock"),
        httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(front), verify=False)) as client,
    ):
        assert (await client.post("http://chat/", content=b"body")).text == "body"
    assert not front.exists()
    server.close()


async def test_check_and_doctor_look_at_certificates(authority: Authority, tmp_path: Path) -> None:
    authority.issue(tmp_path, "server", names=["chat.test"], days=5.5)
    file = tmp_path / "zerogate.yaml"
    file.write_text(
        "listen-tls: 127.0.0.1:0\ntls: [{certificate: server.crt, key: server.key}]\nadmin: 127.0.0.1:1\n"
        "services: {chat: {endpoint: 'http://127.0.0.1:9005'}}\n"
    )

    async def cli(*words: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", *words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        out, _ = await process.communicate()
        return process.returncode, " ".join(out.decode().split())

    code, said = await cli("check", str(file))
    assert code == 0
    assert "chat.test; expires in 5 days" in said
    assert "warning: the certificate" in said
    code, said = await cli("doctor", str(file))
    assert "expires in 5 days" in said
    authority.issue(tmp_path, "server", days=-2, began_days_ago=5)
    code, said = await cli("doctor", str(file))
    assert code == 1
    assert "expired 2 days ago" in said
    Path(tmp_path / "server.key").unlink()
    code, said = await cli("check", str(file))
    assert code == 2
    assert "zerogate.yaml:2: tls.[0].key: there is no file" in said
