"""OpenAI's client through a real `zerogate up`, with its own retries and without, whole and streamed, sync and not.

The real model behind it is in test_real_model.py; here the model server is one that does what a test says.
"""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Box, Latch, Service, soon, stub, zerogate
from tests.extras import extra

openai = extra("openai")

pytestmark = [pytest.mark.slow, pytest.mark.may_block("its imports and the beginning of processes take long")]

ASKED = [{"role": "user", "content": "Say something."}]


def service(*flags: str, **policy: Any) -> Service:
    return stub(*flags, definition={"models": ["tiny", "alias"]}, **policy)


@contextlib.asynccontextmanager
async def client_of(box: Box, **more: Any) -> AsyncIterator[Any]:
    """Without retries unless they are asked for."""
    kept = {"max_retries": 0, "timeout": 60, **more}
    async with openai.AsyncOpenAI(base_url=f"{box.url}/v1", api_key="none", **kept) as client:
        yield client


async def test_answers_are_whole_from_zero_and_warm_streamed_and_not_by_every_name(tmp_path: Path) -> None:
    async with zerogate({"chat": service("--ready-after", "0.5")}, tmp_path) as box, client_of(box) as client:
        whole = "".join(f"token{n} " for n in range(40)).strip()
        for model in ("tiny", "alias"):
            stream = await client.chat.completions.create(model=model, messages=ASKED, max_tokens=40, stream=True)
            assert "".join([event.choices[0].delta.content or "" async for event in stream]) == whole
            answer = await client.chat.completions.create(model=model, messages=ASKED, max_tokens=40)
            assert (answer.choices[0].message.content, answer.model) == (whole, model)
        old = await client.completions.create(model="tiny", prompt="x", max_tokens=2)
        assert old.choices[0].text == "token0 token1"
        assert [model.id async for model in await client.models.list()] == ["tiny", "alias"]
        assert await box.ended("chat") == {"served": 5}


async def test_the_client_that_does_not_wait_in_a_loop_works_too(tmp_path: Path) -> None:
    async with zerogate({"chat": service("--ready-after", "0.5")}, tmp_path) as box:

        def ask() -> str:
            with openai.OpenAI(base_url=f"{box.url}/v1", api_key="none", max_retries=0) as client:
                stream = client.chat.completions.create(model="tiny", messages=ASKED, max_tokens=3, stream=True)
                return "".join(event.choices[0].delta.content or "" for event in stream)

        assert await asyncio.to_thread(ask) == "token0 token1 token2"


async def test_a_form_with_a_file_is_routed_by_its_model(tmp_path: Path) -> None:
    async with zerogate({"chat": service(), "other": stub()}, tmp_path) as box, client_of(box) as client:
        sound = ("speech.wav", io.BytesIO(bytes(3 << 20)))
        answer = await client.audio.transcriptions.with_raw_response.create(model="tiny", file=sound)
        assert answer.http_response.json()["path"] == "/v1/audio/transcriptions"
        assert await box.ended("chat") == {"served": 1}


async def test_errors_are_the_exceptions_that_its_users_catch(tmp_path: Path) -> None:
    services = {"chat": service("--never-ready", queue_limit=1, hold_timeout="1s"), "other": stub()}
    async with zerogate(services, tmp_path) as box, client_of(box) as client:

        def ask(model: str = "tiny") -> Any:
            return client.chat.completions.create(model=model, messages=ASKED)

        with pytest.raises(openai.NotFoundError) as unknown:
            await ask("nobody")
        assert (unknown.value.code, unknown.value.type) == ("model_not_found", "invalid_request_error")
        waiting = soon(ask())
        await box.until_held("chat", 1)
        with pytest.raises(openai.RateLimitError) as full:
            await ask()
        assert (full.value.code, full.value.type) == ("queue_full", "rate_limit_error")
        with pytest.raises(openai.InternalServerError) as late:
            await waiting
        assert (late.value.status_code, late.value.code, late.value.type) == (503, "hold_timeout", "server_error")


async def test_its_own_retries_come_back_when_they_were_told_to(tmp_path: Path) -> None:
    latch = Latch(tmp_path)
    async with zerogate({"chat": service(*latch.flags, queue_limit=1)}, tmp_path) as box:
        async with client_of(box, max_retries=5) as client:
            first, second = (
                soon(client.chat.completions.create(model="tiny", messages=ASKED, max_tokens=1)) for _ in range(2)
            )
            await box.until("chat", lambda status: status["held"] == 1)
            async with asyncio.timeout(20):
                while not await box.refusals("chat"):
                    await asyncio.sleep(0.02)
            latch.open()
            for answer in await asyncio.gather(first, second):
                assert answer.choices[0].message.content == "token0"
        ended = await box.ended("chat")
        assert ended["served"] == 2
        assert ended["refused"] >= 1
