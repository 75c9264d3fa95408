"""One streaming chat request through the gateway, with the official `openai` client, and when what came.

`Chat.run` blocks and is called in a thread; the story reads the fields meanwhile. Each is written once or only grows.
Times are seconds of `zerogate.clock.now`.
"""

import re
from typing import TYPE_CHECKING, Final

from cli.demo.cast import Cast
from cli.demo.errors import StoryError
from zerogate.clock import now

if TYPE_CHECKING:
    import openai

_READ_TIMEOUT_S: Final = 120.0
"""Longer than a start may take: what goes wrong there is told by zerogate, not by this clock."""
_TIMING: Final = re.compile(r"(\w+);dur=([\d.]+)")


def load_client() -> None:
    """Import what `Chat.run` needs: a second that belongs to no request."""
    import openai  # noqa: F401


class Chat:
    """A question to the model through the gateway at `base_url`, and its answer as far as it has come."""

    def __init__(self, base_url: str, cast: Cast, question: str) -> None:
        self.question = question
        self.sent_s = now()
        self.head_s: float | None = None
        """When the answer's head came."""
        self.hold_s: float | None = None
        """How long zerogate held it, and how long the start behind it took, from Server-Timing."""
        self.start_s: float | None = None
        self.first_token_s: float | None = None
        """From sending to the first token."""
        self.answered_s = 0.0
        """From sending to the last token."""
        self.text = ""
        self.tokens = 0
        self._base_url = base_url
        self._cast = cast

    @property
    def tokens_per_s(self) -> float:
        """While they came: the first one waits for the prompt, so it does not count."""
        span_s = self.answered_s - (self.first_token_s or 0.0)
        return (self.tokens - 1) / span_s if span_s > 0 and self.tokens > 1 else 0.0

    def run(self) -> None:
        """Ask, and read to the end. Raises StoryError where the answer is not whole."""
        import openai

        # no proxy of the environment is meant for this machine itself, and loading certificates would cost 0.3 s
        http = openai.DefaultHttpxClient(trust_env=False, verify=False, timeout=_READ_TIMEOUT_S)
        with openai.OpenAI(base_url=self._base_url, api_key="none", max_retries=0, http_client=http) as client:
            try:
                self._ask(client)
            except openai.APIStatusError as error:
                code = error.code or error.type or "no code"
                raise StoryError(
                    f"The request was answered with {error.status_code} ({code}): {_said(error)}"
                ) from error
            except StoryError:
                raise
            except Exception as error:  # which library carries the client's requests is its own affair
                cause = error.__cause__ or error
                after = f"broke off after {self.tokens} tokens" if self.head_s else "got no answer"
                raise StoryError(f"The request {after}: {type(cause).__name__}: {cause}.") from error

    def _ask(self, client: "openai.OpenAI") -> None:
        self.sent_s = now()
        answer = client.chat.completions.with_raw_response.create(
            model=self._cast.model,
            messages=[{"role": "user", "content": self.question}],
            stream=True,
            stream_options={"include_usage": True},
            temperature=0,
            max_tokens=self._cast.most_tokens,
        )
        timing = {name: float(ms) / 1000 for name, ms in _TIMING.findall(answer.headers.get("server-timing", ""))}
        self.hold_s, self.start_s = timing.get("hold"), timing.get("start")
        self.head_s = now()
        is_whole = False
        for chunk in answer.parse():
            for choice in chunk.choices:
                self._take(choice.delta.content or "")
                is_whole = is_whole or choice.finish_reason is not None
            if chunk.usage is not None:
                self.tokens = chunk.usage.completion_tokens
        if not self.text:
            raise StoryError("The answer came to its end without a single token.")
        if not is_whole:
            raise StoryError(f"The answer stopped after {self.tokens} tokens without saying why.")

    def _take(self, piece: str) -> None:
        if not piece:
            return
        self.answered_s = now() - self.sent_s
        if self.first_token_s is None:
            self.first_token_s = self.answered_s
        self.text += piece
        self.tokens += 1


def _said(error: "openai.APIStatusError") -> str:
    """zerogate's own sentence, without the client's wrapping."""
    body = error.body
    return str(body["message"]) if isinstance(body, dict) and "message" in body else error.message
