"""A stream that was asked for at zero, with signs of life until its model runs."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.e2e.harness import Latch, soon, stub, zerogate
from tests.extras import extra

openai = extra("openai")

pytestmark = [pytest.mark.slow, pytest.mark.may_block]

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def test_a_held_stream_hears_comments_until_its_model_runs(tmp_path: Path) -> None:
    latch = Latch(tmp_path)
    service = stub(*latch.flags, definition={"models": ["tiny"]}, hold_heartbeat="1s")
    async with (
        zerogate({"chat": service}, tmp_path) as box,
        box.client.stream("POST", "/v1/chat/completions", json=CHAT) as answer,
    ):
        assert answer.headers["content-type"] == "text/event-stream"
        lines = []
        async for line in answer.aiter_lines():
            lines.append(line)
            if lines.count(": held") == 2:
                latch.open()
        assert lines[0] == ": held"
        assert lines[-2] == "data: [DONE]"
        assert (await box.status("chat"))["held"] == 0


async def test_openais_client_reads_its_tokens_behind_the_comments_and_an_error_as_an_error(tmp_path: Path) -> None:
    latch = Latch(tmp_path)
    services = {
        "chat": stub(*latch.flags, definition={"models": ["tiny"]}, hold_heartbeat="1s"),
        "dead": stub(
            "--crash-after", "1.5", "--never-ready", definition={"models": ["dead"]}, hold_heartbeat="1s"
        ),
    }  # fmt: skip
    async with (
        zerogate(services, tmp_path) as box,
        openai.AsyncOpenAI(base_url=f"{box.url}/v1", api_key="none", max_retries=0, timeout=60) as client,
    ):
        asked = soon(client.chat.completions.create(**CHAT))
        stream = await asked
        latch.open()
        tokens = [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]
        assert any(tokens)
        stream = await asyncio.wait_for(client.chat.completions.create(**{**CHAT, "model": "dead"}), 30)
        with pytest.raises(openai.APIError, match="exit code"):
            async for _ in stream:
                pass
        assert json.dumps(await box.refusals("dead")) == '{"start_failed": 1}'
