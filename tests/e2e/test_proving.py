"""Sidecars and gateways as processes: whom they take for an autoscaler."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.activator.fleet import replica as sidecar
from tests.autoscaler.ear import Ear
from tests.autoscaler.test_proving import SECRET, Impostor, Served, by_token
from tests.certificates import Authority
from tests.e2e.test_stats_path import reporting
from tests.gateway.test_workers import gateway
from tests.zerogate.http.rig import replica as server
from zerogate.policy import Policy
from zerogate.reporting.proof import MASTER_BYTES, new_key

pytestmark = [pytest.mark.slow, pytest.mark.uvloop]
MASTER = b"m" * MASTER_BYTES
KEY = new_key(MASTER, "chat", "s" * 22).text()


async def test_sidecars_report_by_their_key_without_openssl_and_gateways_over_tls(tmp_path: Path) -> None:
    authority = Authority()
    served = Served(authority.issue(tmp_path, "leaf", names=["127.0.0.1"]))
    tokens = {name: tmp_path / name for name in ("chat", SECRET)}
    for name, path in tokens.items():
        path.write_text(name)
    it = Ear(
        Policy(), authenticate=by_token, tls=lambda: served.context, masters=lambda: (MASTER,), takes_unproven=False
    )
    await it.open()
    ca_file = authority.write(tmp_path / "ca.crt")
    stats = ("--workers", "1", "--stats", f"127.0.0.1:{it.port}", "--stats-ca-file", ca_file,
             "--stats-token-file", str(tokens[SECRET]))  # fmt: skip
    try:
        async with (
            sidecar(*reporting(it, "chat-1", "--stats-key", KEY, "--stats-token-file", str(tokens["chat"]))) as one,
            gateway(tmp_path, *stats, replicas=(one,), ready=1),
        ):
            await it.until(lambda: it.receiver.proofs() == {"tls": 1, "key": 1, "none": 0})
            loaded = Path(f"/proc/{one.sidecar.process.pid}/maps").read_text()
            assert not re.search("libcrypto|libssl", loaded)
    finally:
        await it.close()


async def test_a_sidecar_tells_an_impostor_nothing_but_a_number(tmp_path: Path) -> None:
    impostor = Impostor()
    token = tmp_path / "token"
    token.write_text("a-token-for-autoscalers-alone")
    async with server(impostor.answer) as port:
        flags = (
            "--service",
            "chat",
            "--stats",
            f"127.0.0.1:{port}",
            "--stats-key",
            KEY,
            "--stats-token-file",
            str(token),
        )
        async with sidecar(*flags):
            async with asyncio.timeout(10):
                await impostor.visited.wait()
    assert impostor.heard.startswith(b"zerogate-stats/2\n")
    assert b"a-token" not in impostor.heard
    assert len(impostor.heard) < 200
