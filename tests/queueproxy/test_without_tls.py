"""The sidecar leaves OpenSSL out, and nothing can take that for TLS."""

import subprocess
import sys

import pytest

AFTER = "import sys; from queueproxy.without_tls import leave_out; leave_out(); import ssl; "


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", AFTER + code], capture_output=True, text=True, timeout=30, check=False)


def test_what_the_sidecar_runs_on_is_imported_without_openssl() -> None:
    done = run("import asyncio, uvloop, queueproxy.running; assert '_ssl' not in sys.modules")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("code", ["ssl.create_default_context()", "ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)"])
def test_whoever_asks_for_tls_all_the_same_is_told_and_gets_none(code: str) -> None:
    done = run(code)
    assert done.returncode == 1
    assert "AttributeError" in done.stderr


def test_what_is_loaded_already_stays() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import ssl; " + AFTER + "assert ssl.OPENSSL_VERSION"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
