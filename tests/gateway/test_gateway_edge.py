"""The edge of a gateway with workers: TLS, PROXY headers, limits, traces, and workers that hang. Real processes."""

import asyncio
import os
import re
import signal
import socket
import ssl
from pathlib import Path

import pytest

from tests.activator.fleet import replica
from tests.certificates import Authority
from tests.e2e.collector import collector
from tests.gateway.test_workers import Gateway, gateway, load
from tests.zerogate.http.rig import Client

pytestmark = [pytest.mark.slow, pytest.mark.uvloop]

TLS = ("--listen-tls", "127.0.0.1:0")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def context(authority_file: str, *alpn: str) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=authority_file)
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


class Secure:
    """Clients of the TLS port."""

    def __init__(self, it: Gateway, authority_file: str) -> None:
        self.it = it
        self.authority_file = authority_file

    async def connect(self, name: str, *alpn: str, made: ssl.SSLContext | None = None) -> tuple[Client, ssl.SSLObject]:
        client = await self.it.clients.connect(
            "127.0.0.1", self.it.tls_port, ssl=made or context(self.authority_file, *alpn), server_hostname=name
        )
        return client, client.writer.get_extra_info("ssl_object")

    async def name_of(self, name: str) -> str:
        """The name in the certificate that a client who asks for `name` gets."""
        _, tls = await self.connect(name)
        found = tls.getpeercert()
        assert found is not None
        return str(found["subjectAltName"][0][1])


async def test_r5_every_worker_takes_tls_with_the_certificate_and_the_version_that_are_asked_for(
    tmp_path: Path, authority: Authority
) -> None:
    folder = tmp_path / "tls"
    authority.issue(folder, "default", names=["a.test"])
    authority.issue(folder, "b", names=["b.test"])
    ca = authority.write(tmp_path / "ca.crt")
    async with replica() as one, gateway(tmp_path, *TLS, "--tls", str(folder), replicas=(one,)) as it:
        secure = Secure(it, ca)
        for _ in range(6):
            assert await secure.name_of("a.test") == "a.test"
            assert await secure.name_of("b.test") == "b.test"
            client, tls = await secure.connect("b.test", "http/1.1")
            assert tls.selected_alpn_protocol() == "http/1.1"
            await client.get()
            _, tls = await secure.connect("b.test", "h2", "http/1.1")
            assert tls.selected_alpn_protocol() == "h2"
        assert (await it.ask("/hello"))[0] == 200, "beside it, the other port has none"
        _, body = await it.ask("/metrics", port=it.admin_port)
        assert len(re.findall(rb"^zerogate_certificate_end_time_seconds{file=", body, re.MULTILINE)) == 2


async def test_renewed_certificates_are_used_after_a_reload_and_no_connection_is_lost(
    tmp_path: Path, authority: Authority
) -> None:
    folder = tmp_path / "tls"
    authority.issue(folder, "default", names=["a.test"])
    ca = authority.write(tmp_path / "ca.crt")
    async with replica() as one, gateway(tmp_path, *TLS, "--tls", str(folder), replicas=(one,)) as it:
        secure = Secure(it, ca)
        kept = [(await secure.connect("a.test"))[0] for _ in range(8)]
        for client in kept:
            await client.get()
        authority.issue(folder, "default", names=["a.test", "new.test"])
        assert (await it.admin("/reload", "POST"))[0] == 200
        for _ in range(8):
            await secure.connect("new.test")
        for client in kept:
            await client.get()
        # what is wrong on disk changes nothing, not even for a worker that is forked then
        key = (folder / "default.key").read_text()
        (folder / "default.key").write_text("nothing")
        for _ in range(2):  # the second time it is no news, and wrong all the same
            status, said = await it.admin("/reload", "POST")
            assert (status, said["applied"]) == (422, False)
            assert "default.key" in said["detail"]
            assert "--tls" in said["detail"]
        os.kill(it.pids()[0], signal.SIGKILL)
        await it.program.line_with("takes requests")
        for _ in range(8):
            await secure.connect("new.test")
        (folder / "default.key").write_text(key)
        assert (await it.admin("/reload", "POST"))[0] == 200


async def test_renewed_certificates_are_used_after_a_restart_of_the_workers_too(
    tmp_path: Path, authority: Authority
) -> None:
    folder = tmp_path / "tls"
    authority.issue(folder, "default", names=["a.test"])
    ca = authority.write(tmp_path / "ca.crt")
    async with replica() as one, gateway(tmp_path, *TLS, "--tls", str(folder), replicas=(one,)) as it:
        authority.issue(folder, "default", names=["new.test"])
        before = set(it.pids())
        it.program.signal(signal.SIGUSR2)
        await it.program.line_with("all workers were replaced")

        async def have_left() -> bool:
            return before.isdisjoint(it.pids())

        await it.until(have_left)
        secure = Secure(it, ca)
        assert {await secure.name_of("new.test") for _ in range(8)} == {"new.test"}


async def test_clients_without_a_certificate_are_refused_where_one_is_required(
    tmp_path: Path, authority: Authority
) -> None:
    pair = authority.issue(tmp_path, "server", names=["a.test"])
    mine = authority.issue(tmp_path, "client", names=["client.test"], is_client=True)
    ca = authority.write(tmp_path / "ca.crt")
    flags = (*TLS, "--tls", f"{pair.certificate},{pair.key}", "--client-ca", ca)
    async with replica() as one, gateway(tmp_path, *flags, replicas=(one,)) as it:
        secure = Secure(it, ca)
        client, _ = await secure.connect("a.test")
        with pytest.raises((ssl.SSLError, OSError, asyncio.IncompleteReadError)):
            await client.get()
        known = context(ca)
        known.load_cert_chain(mine.certificate, mine.key)
        client, _ = await secure.connect("a.test", made=known)
        await client.get()

        async def counted() -> bool:
            return await it.metric('zerogate_lost_connections_total{reason="handshake"}') >= 1

        await it.until(counted)


async def test_the_client_that_a_trusted_balancer_names_is_who_replicas_are_told_of(tmp_path: Path) -> None:
    flags = ("--proxy-protocol-from", "127.0.0.0/8")
    async with replica() as one, gateway(tmp_path, *flags, replicas=(one,)) as it:
        for header in (
            b"PROXY TCP4 192.0.2.7 127.0.0.1 5000 80\r\n",
            b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x7f\x00\x00\x01\x13\x88\x00\x50",
        ):
            client = await it.connect()
            await client.send(header + b"GET /head HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"192.0.2.7" in await client.rest()
        client = await it.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await client.rest() == b""


async def test_one_connection_too_many_is_told_so(tmp_path: Path) -> None:
    flags = ("--workers", "1", "--max-connections", "2", "--body-memory", "1Mi")
    async with replica() as one, gateway(tmp_path, *flags, replicas=(one,), ready=1) as it:
        for _ in range(2):
            await (await it.connect()).get()
        client = await it.connect()
        assert b"too_many_connections" in await client.rest()


async def test_metrics_come_as_openmetrics_for_those_who_take_it(tmp_path: Path) -> None:
    async with gateway(tmp_path) as it:
        client = await it.connect(it.admin_port)
        await client.send(
            b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            b"Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n\r\n"
        )
        answer = await client.rest()
        assert b"Content-Type: application/openmetrics-text; version=1.0.0" in answer
        assert answer.endswith(b"# EOF\n")


async def test_every_worker_sends_spans_and_keeps_examples_of_them(tmp_path: Path) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    async with (
        collector() as spans,
        replica() as one,
        gateway(tmp_path, "--trace-to", spans.url, replicas=(one,)) as it,
    ):
        for _ in range(12):
            client = await it.connect()
            await client.send(
                f"GET /head HTTP/1.1\r\nHost: x\r\ntraceparent: 00-{trace_id}-b7ad6b7169203331-01\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            assert trace_id.encode() in await client.rest()

        async def exported() -> bool:
            return await it.metric('zerogate_traces_total{fate="exported"}') == 12

        await it.until(exported)
        client = await it.connect(it.admin_port)
        await client.send(
            b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            b"Accept: application/openmetrics-text\r\n\r\n"
        )
        assert f'# {{trace_id="{trace_id}"}}'.encode() in await client.rest()


async def test_a_worker_that_is_stopped_under_load_is_killed_and_replaced(tmp_path: Path) -> None:
    async with replica() as one, gateway(tmp_path, "--hung-after", "3s", replicas=(one,)) as it:
        async with load(it) as requests:
            await requests.until_answers(50)
            victim = it.pids()[0]
            os.kill(victim, signal.SIGSTOP)
            said = await asyncio.wait_for(it.program.line_with("has said nothing"), 30)
            assert f"process {victim}) has said nothing for 3 s while others have: it hangs and is killed" in said
            assert "it is replaced at once" in await it.program.line_with("ended with signal SIGKILL")
            await it.program.line_with("takes requests")
            await requests.until_answers(100)
        # of eight clients those were inside whose connection the victim had accepted
        assert set(requests.others) <= {"ConnectionResetError"}
        assert len(requests.others) <= 8
        assert await it.metric("zerogate_worker_hangs_total") == 1
        assert await it.metric("zerogate_worker_replacements_total") == 1
        assert victim not in it.pids()


async def test_a_worker_that_says_nothing_is_not_counted_as_one_that_takes_requests(tmp_path: Path) -> None:
    async with gateway(tmp_path, "--hung-after", "1m") as it:
        os.kill(it.pids()[0], signal.SIGSTOP)

        async def is_seen() -> bool:
            detail = "1 of 2 workers take requests; 1 says nothing"
            return await it.admin("/readyz") == (200, {"ready": True, "detail": detail})

        await it.until(is_seen)
        assert await it.metric('zerogate_workers{state="silent"}') == 1
        assert await it.metric('zerogate_workers{state="serving"}') == 1
        os.kill(it.pids()[0], signal.SIGCONT)

        async def is_back() -> bool:
            return await it.metric('zerogate_workers{state="serving"}') == 2

        await it.until(is_back)
        assert await it.metric("zerogate_worker_hangs_total") == 0


async def test_the_only_worker_is_replaced_too_when_its_loop_is_blocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    # a request for /block holds the worker's loop for longer than anybody waits
    (broken / "sitecustomize.py").write_text(
        "import time, pathlib, gateway.ingress as i\nplace = i.Ingress.place\n"
        "def slow(self, exchange, now_s):\n"
        "    if exchange.head.target == b'/block':\n"
        f"        pathlib.Path({str(tmp_path / 'blocked')!r}).touch()\n"
        "        time.sleep(600)\n"
        "    place(self, exchange, now_s)\n"
        "i.Ingress.place = slow\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{broken}:{Path.cwd()}")
    flags = ("--workers", "1", "--hung-after", "3s")
    async with replica() as one, gateway(tmp_path, *flags, replicas=(one,), ready=1) as it:
        client = await it.connect()
        await client.send(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")

        async def is_blocked() -> bool:
            return (tmp_path / "blocked").exists()

        # what connects before could be accepted by it, and would be reset with it
        await it.until(is_blocked)
        loop = asyncio.get_running_loop()
        waiting = socket.socket()
        waiting.setblocking(False)
        await loop.sock_connect(waiting, ("127.0.0.1", it.port))
        try:
            await asyncio.wait_for(it.program.line_with("it hangs and is killed"), 30)
            await it.program.line_with("takes requests")
            # what the hung one had not accepted is served by its successor
            await loop.sock_sendall(waiting, b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await asyncio.wait_for(loop.sock_recv(waiting, 65536), 10)
            assert answer.startswith(b"HTTP/1.1 200 ")
        finally:
            waiting.close()


async def test_a_whole_gateway_that_was_stopped_for_longer_replaces_nobody(tmp_path: Path) -> None:
    async with replica() as one, gateway(tmp_path, "--hung-after", "3s", replicas=(one,)) as it:
        pids = it.pids()
        everybody = [it.program.process.pid, *pids, *it.pids("admin")]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(6)
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)
        async with load(it) as requests:
            await requests.until_answers(200)
        assert requests.others == []
        assert it.pids() == pids
        assert await it.metric("zerogate_worker_hangs_total") == 0
